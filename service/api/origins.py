"""Refuse requests that a foreign web page may have made a browser send.

A page of another site must not reach the service by a name of its own (DNS rebinding), and must not change
anything through the browser of a person who may (cross-site request forgery). Programs send neither Origin
nor Sec-Fetch-Site, so nothing changes for them.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_kinds import CROSS_SITE_REQUEST, HOST_NOT_ALLOWED, INVALID_HOST
from service.api.problems import Problem, answer
from service.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")


class OriginMiddleware:
    """Answer 421 for a Host that this service does not have, and 403 for a change from a foreign page."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._is_allowed = host_rule(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._find_problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await answer(Request(scope), problem)(scope, receive, send)

    def _find_problem(self, scope: Scope) -> Problem | None:
        hosts, sites, origins = _headers(scope)
        if len(hosts) != 1 and (hosts or scope["http_version"] != "1.0"):
            detail = "The request has no Host header, or several; send one."
            return Problem(INVALID_HOST, detail, headers={"Connection": "close"})
        if hosts and not self._is_allowed(hosts[0]):
            shown = hosts[0][:80].decode("ascii", "replace")
            return Problem(
                HOST_NOT_ALLOWED,
                f"This service is not called {shown!r}. Use its address; if it has this name, whoever runs "
                "it adds the name to PALIMPSEST_ALLOWED_HOSTS.",
            )
        if scope["method"] not in SAFE_METHODS and _is_foreign(hosts, sites, origins):
            return foreign_page()
        return None


def comes_from_own_page(scope: Scope) -> bool:
    """Return whether the browser says that a page of this service sent the request."""
    hosts, sites, origins = _headers(scope)
    return bool(sites or origins) and not _is_foreign(hosts, sites, origins) and b"none" not in sites


def foreign_page() -> Problem:
    """Return the 403 for a change that a page of another site requests."""
    return Problem(
        CROSS_SITE_REQUEST,
        "A page of another site may not change anything here. Send the request from the console, or from "
        "a program, which sends neither Origin nor Sec-Fetch-Site.",
    )


def _is_foreign(hosts: list[bytes], sites: list[bytes], origins: list[bytes]) -> bool:
    """Whether the Origin is not the Host, or the browser says that another site or origin sent the request.

    The scheme is not compared, because a proxy in front of the service may speak TLS.
    """
    if any(site not in (b"same-origin", b"none") for site in sites):
        return True
    return any(not hosts or origin.partition(b"://")[2].lower() != hosts[0].lower() for origin in origins)


def _headers(scope: Scope) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the values of Host, Sec-Fetch-Site and Origin."""
    hosts, sites, origins = [], [], []
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name == b"sec-fetch-site":
            sites.append(value)
        elif name == b"origin":
            origins.append(value)
    return hosts, sites, origins


def host_rule(settings: Settings) -> Callable[[bytes], bool]:
    """Return a function that tells whether a Host header names this service."""
    names = {settings.host.lower(), "localhost", *settings.allowed_host_names}

    @lru_cache(maxsize=256)
    def is_allowed(header: bytes) -> bool:
        found = HOST.fullmatch(header)
        if found is None:
            return False
        name = (found[1] or found[2]).decode().lower().removesuffix(".")
        if name in names or "*" in names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        # No page can have an address for a name by DNS, so one that is reached by it is the service's own.
        return address.is_loopback or settings.listens_on_all_addresses

    return is_allowed
