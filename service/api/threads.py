"""The threads in which requests use the database.

Requests that do not use it never wait for those that do.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction, signature
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio import CapacityLimiter

from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.waiting import Patience, waiting_at_most

P = ParamSpec("P")
T = TypeVar("T")

DATABASE_THREADS = 16
"""How many requests use the database at the same time, each with a connection of its own."""
RESERVED_FOR_READING = 4
"""How many of them never run what may wait for a lock: reading goes on during a burst of submits."""


class DatabaseThreads:
    """Runs functions that use the database, as many at a time as there are connections.

    The others stand in line, as long as those before them get through. Once the database has answered nobody
    for as long as one may wait for it, for example because of a lock, nobody waits any longer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free = CapacityLimiter(DATABASE_THREADS)
        self._free_for_changes = CapacityLimiter(DATABASE_THREADS - RESERVED_FOR_READING)
        self._threads = CapacityLimiter(DATABASE_THREADS)  # as many, so that none has to wait here

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that only reads in a thread. Raises DatabaseUnavailable if none is free in time."""
        return await self._run([self._free], partial(function, *args, **kwargs))

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may wait for locks. Raises DatabaseUnavailable if none is free in time."""
        return await self._run([self._free_for_changes, self._free], partial(function, *args, **kwargs))

    async def _run(self, lines: Sequence[CapacityLimiter], function: Callable[[], T]) -> T:
        request = object()
        passed: list[CapacityLimiter] = []
        patience: Patience | None = None
        try:
            for line in lines:
                if line.available_tokens <= 0 or line.statistics().tasks_waiting:
                    patience = patience or self._database.patience()
                await self._pass(line, request, patience)
                passed.append(line)
            seconds = self._database.wait_seconds
            remaining = patience.remaining() if patience else seconds
            return await anyio.to_thread.run_sync(
                partial(_call, seconds, remaining, function), limiter=self._threads
            )
        finally:
            for line in passed:
                line.release_on_behalf_of(request)

    async def _pass(self, line: CapacityLimiter, request: object, patience: Patience | None) -> None:
        """Wait until it is the request's turn; without patience it is."""
        if patience is None:
            line.acquire_on_behalf_of_nowait(request)
            return
        acquiring = asyncio.ensure_future(line.acquire_on_behalf_of(request))
        try:
            while not (await asyncio.wait([acquiring], timeout=patience.remaining()))[0]:
                if not patience.remaining():
                    raise DatabaseUnavailable(patience.reason(), has_answered=True)
        except BaseException:
            if not acquiring.cancel():
                line.release_on_behalf_of(request)
            raise


def in_database_thread(endpoint: Callable[..., Any], *, changes: bool) -> Callable[..., Any]:
    """Return the endpoint as a coroutine function that runs it in one of the threads of its context.

    changes: whether the endpoint does more than read.
    An endpoint that is a coroutine function already, or has no parameter `context`, is returned as it is.
    """
    if iscoroutinefunction(endpoint) or "context" not in signature(endpoint).parameters:
        return endpoint

    @wraps(endpoint)
    async def run(**arguments: Any) -> Any:
        threads: DatabaseThreads = arguments["context"].database_threads
        return await (threads.change if changes else threads.read)(endpoint, **arguments)

    return run


def _call(seconds: float, remaining: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    with waiting_at_most(seconds, remaining):
        return function(*args, **kwargs)
