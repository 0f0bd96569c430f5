"""How many requests a client may send: a token bucket for every API key, or for every address without one."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from service.api.error_kinds import RATE_LIMITED
from service.api.problems import Problem

MAX_BUCKETS = 10_000
"""How many clients are remembered. The one that has sent nothing for longest is forgotten first."""
BURST_SECONDS = 2.0
"""A client that was quiet may send what is allowed in this time at once."""


class RateLimit:
    """Token buckets, one for each client. Not thread-safe: it is used in the event loop alone."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """per_second: how many requests a client may send, on average; 0: no limit (`is_on`)."""
        self._per_second = per_second
        self._burst = max(per_second * BURST_SECONDS, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """{client: (tokens, when they were counted)}, the client that was seen last at the end."""

    @property
    def is_on(self) -> bool:
        return self._per_second > 0

    def take(self, client: str) -> Problem | None:
        """Count a request of this client, or return why it is refused: 429 with Retry-After."""
        now, tokens = self._clock(), self._tokens(client)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return self._refusal(tokens)

    def look(self, client: str) -> Problem | None:
        """Return why the next request of this client would be refused, without counting one."""
        return self._refusal(self._tokens(client))

    def _tokens(self, client: str) -> float:
        now = self._clock()
        tokens, counted_at = self._buckets.get(client, (self._burst, now))
        return min(tokens + (now - counted_at) * self._per_second, self._burst)

    def _refusal(self, tokens: float) -> Problem | None:
        if tokens >= 1:
            return None
        wait = max(math.ceil((1 - tokens) / self._per_second), 1)
        detail = f"More than {self._per_second:g} requests a second were sent; wait {wait} s."
        return Problem(RATE_LIMITED, detail, headers={"Retry-After": str(wait)})


class RateLimits:
    """The limits of the clients on this machine, and of all others."""

    def __init__(self, *, per_second: float, per_second_of_loopback: float) -> None:
        self._others = RateLimit(per_second)
        self._loopback = RateLimit(per_second_of_loopback)

    def take(self, address: str, key_id: str | None) -> Problem | None:
        """Count a request from this address, sent with this API key, or return why it is refused."""
        limit = self._limit(address)
        return limit.take(key_id or client_of(address)) if limit.is_on else None

    def look(self, address: str) -> Problem | None:
        """Return why a request without a valid key would be refused, without counting it."""
        limit = self._limit(address)
        return limit.look(client_of(address)) if limit.is_on else None

    def _limit(self, address: str) -> RateLimit:
        return self._loopback if is_loopback(address) else self._others


def is_loopback(address: str) -> bool:
    """Whether the address is one of this machine, which no other machine can have."""
    if address == "127.0.0.1":
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return parsed.is_loopback or (mapped is not None and mapped.is_loopback)


def client_of(address: str) -> str:
    """Return whose bucket an address takes from. The addresses of one IPv6 network (/64) share one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return parsed.exploded[:19]
    return address
