"""Which addresses a webhook may have: none that only this machine or its network reaches.

A client could otherwise make the service send requests to what is behind its firewall. The name of a host may
stand for another address each time it is looked up, so whoever connects uses the addresses that were checked.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

MAX_URL_CHARACTERS = 2000
NAT64 = IPv6Network("64:ff9b::/96")
NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.88.99.0/24",  # relays of 6to4, withdrawn (RFC 7526)
            "3fff::/20",  # documentation (RFC 9637)
            "5f00::/16",  # segment routing inside one network (RFC 9602)
            "64:ff9b:1::/48",  # local NAT64 (RFC 8215)
            "fec0::/10",  # site-local, withdrawn (RFC 3879)
        ),
    )
)
"""Networks that are not of the public internet, although `ipaddress` of Python 3.11 takes them for it."""


class BadAddress(ValueError):
    """A URL that no webhook may have; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where to send a message: the parts of a URL, and the addresses that its host stands for."""

    is_secure: bool
    host: str
    port: int
    path: str
    addresses: Sequence[str]


def resolve(url: str, *, allow_private: bool) -> Target:
    """Look up the host of the URL, and check every address that it has. Raises BadAddress.

    allow_private: whether addresses of this machine and of private networks, and plain http, are allowed.
    """
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise BadAddress(f"a URL has at most {MAX_URL_CHARACTERS} printable ASCII characters and no space")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"the URL is malformed ({error})") from error
    if parts.scheme not in (("https", "http") if allow_private else ("https",)):
        raise BadAddress("the URL must begin with https://")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise BadAddress("the URL must have a host, and neither a user, a password nor a fragment")
    if port == 0:
        raise BadAddress("there is no port 0")
    is_secure = parts.scheme == "https"
    port = port if port is not None else (443 if is_secure else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadAddress("its host cannot be found") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_private and not all(is_public(address) for address in addresses):
        raise BadAddress("its host is not on the public internet, which this service does not allow")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(is_secure, parts.hostname, port, path, addresses)


def is_public(address: str) -> bool:
    """Whether the address is one of the public internet, however it is written."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    if any(found in network for network in NOT_PUBLIC):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved
