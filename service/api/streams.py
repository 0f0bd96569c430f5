"""Streams of events, as server-sent events: many clients follow jobs, and one query serves them all.

A stream that waits holds neither a thread nor a connection to the database. As long as any waits, one thread
asks every PAUSE_SECONDS which of their jobs have news, and reads that. A stream ends when its job has ended,
when its caller is no longer admitted, when the database does not answer, and when the server stops. Its
client then asks again, after the last event that it has.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from service.api.problems import Problem
from service.api.slots import Slots
from service.registry import job_events
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, UnknownProject
from service.registry.job_events import News
from service.registry.tables import JobEventRow

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
PAUSE_SECONDS = 0.25
"""The time between two looks for news."""
CHECK_SECONDS = 1.0
"""How often a stream looks whether its caller is still admitted."""
KEEP_ALIVE_SECONDS = 10.0
"""After so long without an event a comment is sent, so that no proxy takes the connection for dead."""
RETRY_MILLISECONDS = 1000
"""How long a browser waits before it asks again."""


class _Waiting(NamedTuple):
    job_id: str
    after: int
    future: "asyncio.Future[News]"


class EventStreams:
    """The streams of one API process. Used on its event loop alone."""

    def __init__(self, database: Database, *, most: int) -> None:
        self.slots = Slots("sending events", threads=1, requests=most)
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._waiting: list[_Waiting] = []
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the server stops, so that every stream has to end."""
        return self._closed

    async def wait_for_news(self, job_id: str, after: int, *, seconds: float) -> News | None:
        """Return what happened to the job after the event of that number; None if that is nothing so far.

        Waits for so long at most. Raises DatabaseUnavailable.
        """
        if self._closed:
            return None
        waiting = _Waiting(job_id, after, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_while_any_waits())
        try:
            return await asyncio.wait_for(waiting.future, seconds)
        except TimeoutError:
            return None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def close(self) -> None:
        """End all streams, in a moment. May be called more than once."""
        self._closed = True
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_result(News([], done=False))
        if self._reader is not None:
            self._reader.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _read_while_any_waits(self) -> None:
        loop = asyncio.get_running_loop()
        change: int | None = None
        known: set[tuple[str, int]] = set()
        """About which there was no news at `change`."""
        while self._waiting:
            places = {(one.job_id, one.after) for one in self._waiting}
            newest = self._database.change_number()
            if newest is None or newest != change or not places <= known:
                change = newest
                after: dict[str, int] = {}
                for job_id, number in places:
                    after[job_id] = min(number, after.get(job_id, number))
                found = await loop.run_in_executor(self._thread, _read, self._database, after)
                if isinstance(found, DatabaseUnavailable):
                    known = set()
                else:  # who asks again from where there was news is answered again
                    known = {place for place in places if place[0] not in found}
                self._answer(found)
            await asyncio.sleep(PAUSE_SECONDS)

    def _answer(self, found: dict[str, News] | DatabaseUnavailable) -> None:
        for waiting in self._waiting:
            if waiting.future.done():
                continue
            if isinstance(found, DatabaseUnavailable):
                waiting.future.set_exception(found)
            elif (news := found.get(waiting.job_id)) is not None:
                rows = [row for row in news.rows if row.number > waiting.after]
                if rows or news.done:
                    waiting.future.set_result(News(rows, news.done))


def _read(database: Database, after: dict[str, int]) -> dict[str, News] | DatabaseUnavailable:
    try:
        return job_events.read_news(database, after)
    except DatabaseUnavailable as error:
        return error
    except Exception:
        log.exception("the events of jobs could not be read; the streams that wait for them end")
        return DatabaseUnavailable("an unexpected error, which is logged")


class EventStream(StreamingResponse):
    """The answer that sends the events of one job as they happen, from the first after `after` on."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        streams: EventStreams,
        job_id: str,
        *,
        after: int,
        client: str | None,
        describe: Callable[[JobEventRow], str],
        check_admitted: Callable[[], Awaitable[object]],
    ) -> None:
        """client: for whom the stream counts; None: for nobody.

        describe: returns the data of an event.
        check_admitted: raises Problem if the caller's key was revoked.
        """
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(self._send_events(), headers=headers)
        self._streams = streams
        self._job_id = job_id
        self._after = after
        self._client = client
        self._describe = describe
        self._check_admitted = check_admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raises Problem 429, before anything is sent, if there are too many."""
        with self._streams.slots.admit(self._client):
            await super().__call__(scope, receive, send)

    async def _send_events(self) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        sent_at, after = time.monotonic(), self._after
        while not self._streams.is_closed:
            try:
                news = await self._streams.wait_for_news(self._job_id, after, seconds=CHECK_SECONDS)
                await self._check_admitted()
            except (Problem, UnknownProject, DatabaseUnavailable) as error:
                log.debug("the stream of the events of job %s ends: %s", self._job_id, error)
                return
            for row in news.rows if news else ():
                data = self._describe(row)
                yield format_sse_event(data_str=data, event=row.type, id=str(row.number))
                sent_at, after = time.monotonic(), row.number
            if news is not None and news.done:
                return
            if time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS:
                yield KEEPALIVE_COMMENT
                sent_at = time.monotonic()
