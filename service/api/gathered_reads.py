"""Reads of the database that serve all requests which wait for them at the same time."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from service.registry.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")
Moment = TypeVar("Moment")


class GatheredReads(Generic[Key, Value, Moment]):
    """Reads in a thread of its own, for many requests at once. Used on the event loop alone.

    While one reading is in progress, the requests that arrive wait together for the next: what they get was
    read after they arrived.
    """

    def __init__(
        self,
        name: str,
        *,
        begin: Callable[[Sequence[Key]], Moment],
        read: Callable[[Moment, Sequence[Key]], Mapping[Key, Value]],
        keep: Callable[[Moment, Mapping[Key, Value | None]], None],
        most: int,
        gather_seconds: float = 0.0,
    ) -> None:
        """name: of the thread. most: how many keys are read at once.

        begin: called on the event loop before a reading; read: called in the thread with its result, raises
        DatabaseUnavailable; keep: called on the event loop with what was read, None for what was not found.
        gather_seconds: the shortest time between two readings while several requests come for each.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._begin, self._read, self._keep = begin, read, keep
        self._most = most
        self._gather_seconds = gather_seconds
        self._waiting: dict[Key, asyncio.Future[Value | DatabaseUnavailable | None]] = {}
        self._is_reading = False
        self._is_busy = False
        """Whether several requests waited for the last reading. Then the next one gathers for a moment."""
        self._started_at = 0.0

    async def find(self, key: Key) -> Value | None:
        """Return what is read from now on; None if there is nothing. Raises DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = loop.create_future()
        if not self._is_reading:
            self._is_reading = True
            self._start_soon(loop)
        found = await asyncio.shield(future)  # others may wait for it if this client leaves
        if isinstance(found, DatabaseUnavailable):
            raise found
        return found

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_busy and self._gather_seconds:
            loop.call_at(max(loop.time(), self._started_at + self._gather_seconds), self._start, loop)
        else:
            self._start(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._started_at = loop.time()
        batch = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._most]}
        self._is_busy = len(batch) > 1
        moment = self._begin(list(batch))
        reading = loop.run_in_executor(self._thread, self._read_safely, moment, list(batch))
        reading.add_done_callback(lambda done: self._finish(loop, batch, moment, done))

    def _read_safely(self, moment: Moment, keys: Sequence[Key]) -> Mapping[Key, Value] | DatabaseUnavailable:
        try:
            return self._read(moment, keys)
        except DatabaseUnavailable as error:
            return error
        except Exception:
            log.exception("requests could not be answered together; each is answered by itself")
            return {}

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Mapping[Key, "asyncio.Future[Value | DatabaseUnavailable | None]"],
        moment: Moment,
        done: "asyncio.Future[Mapping[Key, Value] | DatabaseUnavailable]",
    ) -> None:
        found = {} if done.cancelled() else done.result()
        if isinstance(found, DatabaseUnavailable):
            # Those who came meanwhile would wait for as long again.
            for future in (*batch.values(), *self._waiting.values()):
                future.set_result(found)
            self._waiting.clear()
        else:
            self._keep(moment, {key: found.get(key) for key in batch})
            for key, future in batch.items():
                future.set_result(found.get(key))
        if self._waiting:
            self._start_soon(loop)
        else:
            self._is_reading = False
