"""The threads in which requests use the database.

Requests that do not use it never wait for those that do.
"""

import asyncio
from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction, signature
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio import CapacityLimiter

from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.waiting import waiting_at_most

P = ParamSpec("P")
T = TypeVar("T")

DATABASE_THREADS = 16
"""How many requests use the database at the same time, each with a connection of its own."""


class DatabaseThreads:
    """Runs functions that use the database, as many at a time as there are connections.

    The others stand in line, as long as those before them get through. Once the database has answered nobody
    for as long as one may wait for it, for example because of a lock, nobody waits any longer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free = CapacityLimiter(DATABASE_THREADS)
        self._threads = CapacityLimiter(DATABASE_THREADS)  # as many, so that none has to wait here

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread. Raises DatabaseUnavailable if no thread is free in time."""
        request = object()
        remaining = await self._acquire(request)
        try:
            call = partial(_call, self._database.wait_seconds, remaining, function, *args, **kwargs)
            return await anyio.to_thread.run_sync(call, limiter=self._threads)
        finally:
            self._free.release_on_behalf_of(request)

    async def _acquire(self, request: object) -> float:
        """Wait for a thread. Returns for how many seconds the request may then wait for the database."""
        try:
            self._free.acquire_on_behalf_of_nowait(request)
            return self._database.wait_seconds
        except anyio.WouldBlock:
            pass
        patience = self._database.patience()
        acquiring = asyncio.ensure_future(self._free.acquire_on_behalf_of(request))
        try:
            while not (await asyncio.wait([acquiring], timeout=patience.remaining()))[0]:
                if not patience.remaining():
                    raise DatabaseUnavailable(patience.reason(), has_answered=True)
        except BaseException:
            if not acquiring.cancel():
                self._free.release_on_behalf_of(request)
            raise
        return patience.remaining()


def in_database_thread(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Return the endpoint as a coroutine function that runs it in one of the threads of its context.

    An endpoint that is a coroutine function already, or has no parameter `context`, is returned as it is.
    """
    if iscoroutinefunction(endpoint) or "context" not in signature(endpoint).parameters:
        return endpoint

    @wraps(endpoint)
    async def run(**arguments: Any) -> Any:
        return await arguments["context"].database_threads.run(endpoint, **arguments)

    return run


def _call(seconds: float, remaining: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    with waiting_at_most(seconds, remaining):
        return function(*args, **kwargs)
