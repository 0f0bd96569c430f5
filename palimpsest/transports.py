"""Send requests, with waiting or with `await`: the only code of the client that exists twice."""

import inspect
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import httpx2
from tenacity import AsyncRetrying, Retrying

from palimpsest.errors import RequestRefused, RequestTimedOut, ServerUnreachable
from palimpsest.requests import PROJECT_HEADER, Page, Request, Stream, refusal_of
from palimpsest.retries import NotConnected, Reconnecting, retry_policy

T = TypeVar("T")


NO_MORE = 204
"""The status of an answer to a stream that is resumed after its last event."""


@dataclass(frozen=True)
class Pause:
    """A step that waits."""

    seconds: float


@dataclass(frozen=True)
class Notify:
    """A step that calls a function of the user's, which may be a coroutine function in an async client."""

    function: Callable[[Any], object]
    argument: Any


Step = Request[Any] | Pause | Notify
Steps = Generator[Step, Any, T]
"""A method of several requests, as a generator: it yields each step, is sent its result, and returns T."""


def send(request: Request[T]) -> Steps[T]:
    """Send a request as a step; use it with `yield from`."""
    result: T = yield request
    return result


class SyncTransport:
    """Sends requests over one `httpx2.Client`."""

    def __init__(self, http: httpx2.Client, max_retries: int) -> None:
        self.http = http
        self._max_retries = max_retries

    def send(self, request: Request[T]) -> T:
        """Send a request, again where that does no harm, and read its answer."""
        result: T = Retrying(**retry_policy(request, self._max_retries))(self._send_once, request)
        return result

    def run(self, steps: Steps[T]) -> T:
        """Carry out the steps of a method, and return its result."""
        do: Callable[[], Step] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                step = do()
            except StopIteration as ended:
                result: T = ended.value
                return result
            try:
                outcome = self._take(step)
            except Exception as error:
                do = _throw(steps, error)
            else:
                do = _resume(steps, outcome)

    def iterate(self, request: Request[Page[T]]) -> Iterator[T]:
        """Iterate over the items of all pages of a list; a page is requested when its first item is."""
        while True:
            page = self.send(request)
            yield from page.data
            if not page.has_more:
                return
            request = request.with_query(after=page.next)

    def follow(self, stream: Stream[T]) -> Iterator[T]:
        """Iterate over the events of a stream as they come, and connect again if it is cut off."""
        after, reconnecting = stream.after, Reconnecting()
        while True:
            error: RequestRefused | ServerUnreachable | None = None
            try:
                with self.http.stream("GET", stream.path, headers=stream.headers(after)) as response:
                    if response.status_code == NO_MORE:
                        return
                    if not response.is_success:
                        response.read()
                        raise refusal_of(response)
                    reconnecting.note_connected()
                    for event in httpx2.EventSource(response):
                        reconnecting.note_news()
                        after = event.id or after
                        if event.data:
                            yield (item := stream.read(event.data))
                            if stream.is_last(item):
                                return
            except httpx2.TransportError as cause:
                error = _unreachable(f"GET {stream.path}", self.http, cause)
            except RequestRefused as refused:
                error = refused
            if error is None and reconnecting.is_over:
                return
            time.sleep(reconnecting.pause_after(error))

    def _send_once(self, request: Request[T]) -> T:
        try:
            response = self.http.send(_build(self.http, request), follow_redirects=request.method == "GET")
        except httpx2.TransportError as error:
            raise _unreachable(f"{request.method} {request.path}", self.http, error) from error
        return _read(request, response)

    def _take(self, step: Step) -> Any:
        if isinstance(step, Request):
            return self.send(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return step.function(step.argument)


class AsyncTransport:
    """Sends requests over one `httpx2.AsyncClient`."""

    def __init__(self, http: httpx2.AsyncClient, max_retries: int) -> None:
        self.http = http
        self._max_retries = max_retries

    async def send(self, request: Request[T]) -> T:
        """Send a request, again where that does no harm, and read its answer."""
        result: T = await AsyncRetrying(**retry_policy(request, self._max_retries))(self._send_once, request)
        return result

    async def run(self, steps: Steps[T]) -> T:
        """Carry out the steps of a method, and return its result."""
        do: Callable[[], Step] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                step = do()
            except StopIteration as ended:
                result: T = ended.value
                return result
            try:
                outcome = await self._take(step)
            except Exception as error:
                do = _throw(steps, error)
            else:
                do = _resume(steps, outcome)

    async def iterate(self, request: Request[Page[T]]) -> AsyncIterator[T]:
        """Iterate over the items of all pages of a list; a page is requested when its first item is."""
        while True:
            page = await self.send(request)
            for item in page.data:
                yield item
            if not page.has_more:
                return
            request = request.with_query(after=page.next)

    async def follow(self, stream: Stream[T]) -> AsyncIterator[T]:
        """Iterate over the events of a stream as they come, and connect again if it is cut off."""
        after, reconnecting = stream.after, Reconnecting()
        while True:
            error: RequestRefused | ServerUnreachable | None = None
            try:
                async with self.http.stream("GET", stream.path, headers=stream.headers(after)) as response:
                    if response.status_code == NO_MORE:
                        return
                    if not response.is_success:
                        await response.aread()
                        raise refusal_of(response)
                    reconnecting.note_connected()
                    async for event in httpx2.EventSource(response):
                        reconnecting.note_news()
                        after = event.id or after
                        if event.data:
                            yield (item := stream.read(event.data))
                            if stream.is_last(item):
                                return
            except httpx2.TransportError as cause:
                error = _unreachable(f"GET {stream.path}", self.http, cause)
            except RequestRefused as refused:
                error = refused
            if error is None and reconnecting.is_over:
                return
            await anyio.sleep(reconnecting.pause_after(error))

    async def _send_once(self, request: Request[T]) -> T:
        try:
            sent = _build(self.http, request)
            response = await self.http.send(sent, follow_redirects=request.method == "GET")
        except httpx2.TransportError as error:
            raise _unreachable(f"{request.method} {request.path}", self.http, error) from error
        return _read(request, response)

    async def _take(self, step: Step) -> Any:
        if isinstance(step, Request):
            return await self.send(step)
        if isinstance(step, Pause):
            return await anyio.sleep(step.seconds)
        outcome = step.function(step.argument)
        return await outcome if inspect.isawaitable(outcome) else outcome


def _throw(steps: Steps[Any], error: Exception) -> Callable[[], Step]:
    return lambda: steps.throw(error)


def _resume(steps: Steps[Any], outcome: Any) -> Callable[[], Step]:
    return lambda: steps.send(outcome)


def _build(http: httpx2.Client | httpx2.AsyncClient, request: Request[Any]) -> httpx2.Request:
    built = http.build_request(
        request.method,
        request.path,
        params=dict(request.query) or None,
        json=request.body,
        content=request.content,
        headers=dict(request.headers),
    )
    if not request.is_in_project:
        built.headers.pop(PROJECT_HEADER, None)
    return built


def _read(request: Request[T], response: httpx2.Response) -> T:
    if response.is_success:
        return request.read(response)
    raise refusal_of(response)


def _unreachable(
    what: str, http: httpx2.Client | httpx2.AsyncClient, error: httpx2.TransportError
) -> ServerUnreachable:
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout | httpx2.PoolTimeout):
        return RequestTimedOut(
            f"{what}: {http.base_url} did not answer within {http.timeout.read:g} s; "
            "the client's `timeout` sets how long it waits"
        )
    is_unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
    kind = NotConnected if is_unsent else ServerUnreachable
    return kind(
        f"{what}: no answer from {http.base_url} ({error or type(error).__name__}); "
        "check the address, and that the server is running"
    )
