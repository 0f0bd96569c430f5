"""Answers to polls of jobs. Most polls find that nothing has changed, and no request is more frequent.

The last answer about a job is kept with the token of the job's row (service/registry/job_tokens.py) at that
time. A poll reads the token, together with all other polls of the moment, and gets the kept answer if the
token is the same. Otherwise the endpoint makes a new answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import Access
from service.api.middleware import PATTERN
from service.api.rates import RateLimits
from service.api.route import add_etag, client_address, not_modified
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.job_tokens import read_tokens
from service.registry.names import is_storable

MAX_ANSWERS = 10_000
"""How many answers are kept, of about 2 KB each. The one that was polled longest ago is dropped first."""
MAX_BATCH = 200
GATHER_SECONDS = 0.01
"""The shortest time between two queries. Polls that arrive meanwhile wait together for the next one."""
PREFIX = "/v1/jobs/"
PLAIN_ACCEPT = ("*/*", "application/json", "application/json, */*")
OTHER_HEADERS = (
    "if-match",
    "if-unmodified-since",
    "range",
    "idempotency-key",
    "content-length",
    "transfer-encoding",
)

Handler = Callable[[Request], Awaitable[Response]]


class _Answer(NamedTuple):
    project: str
    token: str
    body: bytes
    headers: dict[str, str]


class Polls:
    """The kept answers, and the reader of tokens. Used on the event loop alone."""

    def __init__(self, database: Database) -> None:
        self._tokens = _TokenReader(database)
        self._kept: OrderedDict[str, _Answer] = OrderedDict()
        """{job id: its last answer}, the one that was given last at the end."""

    async def find(self, job_id: str, project: str) -> Response | None:
        """Return the kept answer about the job, if it still holds and the job is of this project."""
        kept = self._kept.get(job_id)
        if kept is None or kept.project != project or await self._tokens.read(job_id) != kept.token:
            return None
        self._kept.move_to_end(job_id)
        return Response(kept.body, headers=kept.headers)

    async def make(self, request: Request, handle: Handler) -> Response:
        """Return the answer that `handle` makes, and keep it."""
        job_id = request.path_params["job"]
        token = await self._tokens.read(job_id) if is_storable(job_id) else None
        response = await handle(request)
        if token and response.status_code == 200 and isinstance(response.body, bytes):
            # The token is older than the answer, so a change in between only makes the next poll ask again.
            add_etag(response)
            headers = {name: value for name, value in response.headers.items() if name != "content-length"}
            self._kept[job_id] = _Answer(request.state.caller.project, token, response.body, headers)
            self._kept.move_to_end(job_id)
            if len(self._kept) > MAX_ANSWERS:
                self._kept.popitem(last=False)
        return response

    def close(self) -> None:
        """End the reader's thread."""
        self._tokens.close()


class PollMiddleware:
    """Answers polls of jobs before the router, from what `Polls` keeps. Everything else it passes on.

    It answers only a request without a query, a condition or a media type that the endpoint would have to
    look at, whose caller was admitted a moment ago.
    """

    def __init__(self, app: ASGIApp, polls: Polls, access: Access, rates: RateLimits) -> None:
        self._app = app
        self._polls = polls
        self._access = access
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._find(scope) if scope["type"] == "http" else None
        await (response or self._app)(scope, receive, send)

    async def _find(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if not path.startswith(PREFIX) or scope["method"] != "GET" or scope["query_string"]:
            return None
        request = Request(scope)
        if not _is_plain(request):
            return None
        caller = self._access.find_admitted(request, ("read",))
        if caller is None:
            return None
        response = await self._polls.find(path.removeprefix(PREFIX), caller.project)
        if response is None or self._rates.take(client_address(request), caller.key_id):
            return None  # the router counts the request too, and refuses it with the reason
        scope[PATTERN] = PREFIX + "{job}"
        return not_modified(request, dict(response.headers)) or response


class _TokenReader:
    """Reads the tokens that many polls ask for with one query, in a thread of its own.

    While one query runs, the polls that arrive wait together for the next.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="polls")
        self._waiting: dict[str, asyncio.Future[str | None]] = {}
        self._is_reading = False
        self._started_at = 0.0

    async def read(self, job_id: str) -> str | None:
        """Return the token of the job; None if there is no such job, or no answer of the database."""
        loop = asyncio.get_running_loop()
        future = self._waiting.get(job_id)
        if future is None:
            future = self._waiting[job_id] = loop.create_future()
        if not self._is_reading:
            self._is_reading = True
            self._start_soon(loop)
        return await asyncio.shield(future)  # others may wait for it if this client leaves

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_at(max(loop.time(), self._started_at + GATHER_SECONDS), self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._started_at = loop.time()
        batch = dict(list(self._waiting.items())[:MAX_BATCH])
        for job_id in batch:
            del self._waiting[job_id]
        reading = loop.run_in_executor(self._thread, self._read, list(batch))
        reading.add_done_callback(lambda done: self._finish(loop, batch, done))

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: dict[str, asyncio.Future[str | None]],
        done: "asyncio.Future[dict[str, str]]",
    ) -> None:
        error = None if done.cancelled() else done.exception()
        found = {} if done.cancelled() or error else done.result()
        for job_id, future in batch.items():
            if not future.done():
                future.set_result(found.get(job_id))
        if self._waiting:
            self._start_soon(loop)
        else:
            self._is_reading = False

    def _read(self, job_ids: list[str]) -> dict[str, str]:
        try:
            with self._database.reading() as session:
                return read_tokens(session, job_ids)
        except DatabaseUnavailable:
            return {}  # the endpoint answers, and says what is wrong


def _is_plain(request: Request) -> bool:
    """Whether the request has no header that the endpoint would have to look at."""
    headers = request.headers
    return headers.get("accept", "*/*") in PLAIN_ACCEPT and not any(name in headers for name in OTHER_HEADERS)
