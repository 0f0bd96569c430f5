"""The open connections of the server: how many there may be, and which is closed to make room for another."""

import asyncio
import logging
import os
import resource
import time
from collections import Counter
from typing import Protocol

from service.api.error_kinds import TOO_MANY_CONNECTIONS
from service.api.problems import Problem
from service.api.rates import client_of, is_loopback

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
"""How often the deadlines of the connections are checked."""
LOG_AGAIN_SECONDS = 60.0
MOST_DESCRIPTORS = 65_536


class Connection(Protocol):
    """What is known of a connection here."""

    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None
    idle_since: float

    @property
    def waits_for_client(self) -> bool: ...
    def check(self, now: float) -> None: ...
    def evict(self) -> None: ...


class Connections:
    """The open connections of one server. Not thread-safe: everything happens in the server's event loop."""

    def __init__(self, *, most: int, most_of_peer: int) -> None:
        """most_of_peer: how many one address, or one IPv6 network (/64), may have; 0: any number.

        Loopback addresses may have any number.
        """
        self._most = most
        self._most_of_peer = most_of_peer
        self._open: dict[Connection, None] = {}
        self._of_peer: Counter[str] = Counter()
        self._checking: asyncio.TimerHandle | None = None
        self._logged_at = -LOG_AGAIN_SECONDS

    def admit(self, connection: Connection) -> Problem | None:
        """Count the connection in, or return why it is refused.

        If there are too many, the one is closed for it that has waited longest for its client to send a
        request. So clients that hold connections open, and send nothing, lock nobody out.
        """
        peer, address = _peer(connection), connection.client[0] if connection.client else ""
        if self._most_of_peer and self._of_peer[peer] >= self._most_of_peer and not is_loopback(address):
            self._log(f"{address} has {self._most_of_peer} connections, the most that one address may have")
            return _refusal("This address has too many open connections; close some of them.")
        if len(self._open) >= self._most:
            idle = [each for each in self._open if each.waits_for_client]
            if not idle:
                self._log(f"all {self._most} connections are in use")
                return _refusal("The server has too many open connections; try again in a moment.")
            self._log(f"{self._most} connections are open: each new one closes the one idle for longest")
            oldest = min(idle, key=lambda each: each.idle_since)
            self.release(oldest)
            oldest.evict()
        self._open[connection] = None
        self._of_peer[peer] += 1
        if self._checking is None:
            self._checking = connection.loop.call_later(CHECK_SECONDS, self._check, connection.loop)
        return None

    def release(self, connection: Connection) -> None:
        """Count the connection out. Doing so again changes nothing."""
        if connection not in self._open:
            return
        del self._open[connection]
        peer = _peer(connection)
        self._of_peer[peer] -= 1
        if self._of_peer[peer] <= 0:
            del self._of_peer[peer]

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._checking = loop.call_later(CHECK_SECONDS, self._check, loop) if self._open else None

    def _log(self, what: str) -> None:
        """Log at most once a minute: whoever opens connections would otherwise fill the log."""
        if time.monotonic() - self._logged_at >= LOG_AGAIN_SECONDS:
            self._logged_at = time.monotonic()
            log.warning(
                "too many connections: %s; PALIMPSEST_MAX_CONNECTIONS and `ulimit -n` set how many", what
            )


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may: the soft limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections(wanted: int) -> int:
    """Return how many connections fit beside the files that the process needs, `wanted` at most.

    A reserve of descriptors stays free for the database, artifacts and uploads: without it, a flood of
    connections would make every request fail that opens a file.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    reserve = min(256, max(16, soft // 4))
    return max(min(wanted, soft - reserve - len(os.listdir("/proc/self/fd"))), 4)


def _peer(connection: Connection) -> str:
    """Return whom a connection counts for: an address, or the network (/64) of an IPv6 address."""
    return client_of(connection.client[0]) if connection.client else ""


def _refusal(detail: str) -> Problem:
    return Problem(TOO_MANY_CONNECTIONS, detail)
