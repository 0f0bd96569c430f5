"""Send requests as fast as they are answered, and measure what that costs the server.

Each connection sends its next request when it has the answer to the last one. The client is a few lines on
asyncio's protocols with uvloop, so that it needs less CPU time than what it measures.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

WARM_SECONDS = 0.3


@dataclass
class Measured:
    """What one run has shown."""

    per_second: float
    """Requests answered in a second."""
    cpu_us: float
    """CPU time of the serving processes for one request, in microseconds."""
    seconds: list[float] = field(repr=False)
    """How long each request took."""
    statuses: Counter[int]


def measure(
    port: int, request: Callable[[], bytes], *, connections: int, seconds: float, server: int
) -> Measured:
    """Send requests to 127.0.0.1. request: makes the bytes of the next one. server: the serving process.

    The CPU time of its children, and of theirs, is counted too.
    """
    return uvloop.run(_measure(port, request, connections, seconds, server))


async def _measure(
    port: int, request: Callable[[], bytes], connections: int, seconds: float, server: int
) -> Measured:
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: _Client(request), "127.0.0.1", port)
        clients.append(client)
    await asyncio.sleep(WARM_SECONDS)
    for client in clients:
        client.took.clear()
        client.statuses.clear()
    used, began = cpu_seconds(server), time.perf_counter()
    await asyncio.sleep(seconds)
    used, lasted = cpu_seconds(server) - used, time.perf_counter() - began
    took = [one for client in clients for one in client.took]
    statuses = sum((client.statuses for client in clients), Counter[int]())
    for client in clients:
        client.close()
    if not took:
        raise RuntimeError("nothing was answered")
    return Measured(len(took) / lasted, 1e6 * used / len(took), took, statuses)


class _Client(asyncio.Protocol):
    """A connection that is kept open. It understands answers with a Content-Length, and 304."""

    def __init__(self, request: Callable[[], bytes]) -> None:
        self._request = request
        self._received = b""
        self._began = 0.0
        self._closed = False
        self.took: list[float] = []
        self.statuses: Counter[int] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0 or len(received) < head + 4 + _content_length(received, head):
            return
        self._received = b""
        self.took.append(time.perf_counter() - self._began)
        self.statuses[int(received[9:12])] += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closed:
            self.statuses[0] += 1  # the server hung up

    def close(self) -> None:
        self._closed = True
        self._transport.abort()

    def _send(self) -> None:
        if not self._closed:
            self._began = time.perf_counter()
            self._transport.write(self._request())


def _content_length(received: bytes, head: int) -> int:
    """Return the length of the body that follows the head, which ends at that place."""
    place = received.find(b"ontent-", 0, head)
    while place >= 0:
        if received[place + 7 : place + 14].lower() == b"length:":
            return int(received[place + 14 : received.index(b"\r", place)])
        place = received.find(b"ontent-", place + 1, head)
    return 0


def cpu_seconds(process: int) -> float:
    """Return the CPU time that the process and its descendants have used."""
    total = 0.0
    for one in [process, *descendants(process)]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def descendants(process: int) -> list[int]:
    """Return the processes that this one has started, and those that they have started."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def pin(process: int, core: int) -> None:
    """Let every thread of the process and of its descendants run on this core only."""
    for one in [process, *descendants(process)]:
        for thread in Path(f"/proc/{one}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
