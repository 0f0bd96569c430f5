"""The HTTP/1.1 protocol of the server: uvicorn's, with limits that hold before the application is called.

uvicorn and its parser (httptools) bound neither the head of a request nor the time that a client takes to
send it. This protocol does, and answers what it refuses with problem+json, as the application would.
docs/decisions/0099-limits-in-the-http-protocol.md has what it costs.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, cast

import httptools
from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.error_kinds import (
    HEADERS_TOO_LARGE,
    HTTP_VERSION_NOT_SUPPORTED,
    INCOMPLETE_BODY,
    INVALID_HTTP,
    PIPELINE_TOO_LONG,
    REQUEST_TIMEOUT,
    UNSUPPORTED_TRANSFER_ENCODING,
    UPGRADE_NOT_SUPPORTED,
    URI_TOO_LONG,
)
from service.api.middleware import choose_request_id
from service.api.problems import MEDIA_TYPE, Problem, document, headers_of
from service.process.http_connections import Connections

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 << 10
MAX_URL_BYTES = 8 << 10
MAX_HEADERS = 100
MAX_TRAILER_BYTES = 8 << 10
MAX_PIPELINED = 16
"""How many requests a client may send on one connection before the first of them is answered."""
MAX_IGNORED_BODY = 1 << 20
"""How much of a body is read and dropped after its request was answered. Then the connection is closed."""

SLOWEST_BODY = float(16 << 10)
"""The lowest rate of a body in bytes per second, on average, after the first BODY_GRACE_SECONDS."""
BODY_GRACE_SECONDS = 10.0
WRITE_STALL_SECONDS = 30.0
"""How long a client may read nothing of its answer."""
LINGER_SECONDS = 5.0
"""How long a refused client may go on sending. If the connection were closed at once, the kernel would reset
it, and the client would lose the answer."""


@dataclass(frozen=True)
class Deadlines:
    """How long a client may take, in seconds."""

    head: float
    """To send the request line and the headers."""
    body_stall: float
    """Between two pieces of a body."""


class _Refused(Exception):
    """Raised in a callback of the parser, to stop it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class HttpProtocol(HttpToolsProtocol):
    """One connection. Connections checks its deadline about twice a second: a request starts no timer."""

    def __init__(self, *, connections: Connections, deadlines: Deadlines, **given: Any) -> None:
        super().__init__(**given)
        self._room = connections
        self._deadlines = deadlines
        self._deadline = inf
        """When the client must have sent more; `inf` while it need not send anything."""
        self._in_head = True
        """Whether the next byte belongs to the head of a request."""
        self._head_bytes = 0
        self._trailer_bytes = 0
        self._bytes_since_body = 0
        """How many arrived since the last piece of the body. The parser keeps what may become a trailer."""
        self._ignored_bytes = 0
        self._deaf = False
        """Whether everything that still arrives is dropped."""
        self._refusal: Problem | None = None
        """What to answer once the requests before it are answered."""
        self._stalled_since = inf
        self.idle_since = 0.0
        self.url = b""

    # --- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = now = self.loop.time()
        self._deadline = now + self._deadlines.head
        if problem := self._room.admit(self):
            self._deaf = True
            transport.write(self._encode(problem))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.release(self)
        super().connection_lost(exc)

    @property
    def waits_for_client(self) -> bool:
        """Whether no request is in progress, so that closing the connection loses nothing."""
        return self._in_head and (self.cycle is None or self.cycle.response_complete)

    def evict(self) -> None:
        """Close the connection, to make room for another one."""
        self._deaf = True
        self.transport.abort()

    def check(self, now: float) -> None:
        """Close the connection if the client is too slow."""
        if now >= self._stalled_since + WRITE_STALL_SECONDS:
            self.transport.abort()
        elif self._in_head or not self._is_waiting_for_application():
            if now >= self._deadline:
                self._time_out()
        else:
            self._deadline = max(self._deadline, now + BODY_GRACE_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_since = inf

    def eof_received(self) -> None:
        if not self._in_head and not self._deaf:
            self._refuse(Problem(INCOMPLETE_BODY, "The body is shorter than its Content-Length says."))

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline == inf:
                self._deadline = self.loop.time() + self._deadlines.head
        self._bytes_since_body += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # what follows is not HTTP/1.1; the connection ends with this answer
        except httptools.HttpParserError as error:
            self._refuse(_explain(error))
        else:
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_url_too_long() if len(self.url) > MAX_URL_BYTES else _head_too_large())
            elif not self._in_head and self._bytes_since_body > MAX_TRAILER_BYTES:
                self._refuse(_head_too_large())

    # --- the parser's callbacks --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._trailer_bytes = self._ignored_bytes = 0
        if self._deadline == inf:
            self._deadline = self.loop.time() + self._deadlines.head

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)  # uvicorn would append a trailer to the headers
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise _Refused(_head_too_large())

    def on_headers_complete(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            raise _Refused(_url_too_long())
        if self._head_bytes > MAX_HEAD_BYTES:  # counts what follows the head, too
            head = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if head > MAX_HEAD_BYTES:
                raise _Refused(_head_too_large())
        if len(self.headers) > MAX_HEADERS:
            detail = f"The request has {len(self.headers)} headers; send at most {MAX_HEADERS}."
            raise _Refused(Problem(HEADERS_TOO_LARGE, detail))
        if len(self.pipeline) >= MAX_PIPELINED:
            detail = f"More than {MAX_PIPELINED} requests wait on this connection; wait for their answers."
            raise _Refused(Problem(PIPELINE_TOO_LONG, detail, headers={"Retry-After": "1"}))
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            raise _Refused(Problem(HTTP_VERSION_NOT_SUPPORTED, "Send the request as HTTP/1.1."))
        self._refuse_ambiguous()
        upgrade = self.parser.should_upgrade()
        super().on_headers_complete()
        self._in_head = False
        self._head_bytes = self._bytes_since_body = 0
        self._deadline = self.loop.time() + BODY_GRACE_SECONDS
        self.cycle.transport = cast(asyncio.Transport, _LingeringTransport(self, self.transport))
        if upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._bytes_since_body = 0
        now = self.loop.time()
        self._deadline = min(self._deadline + len(body) / SLOWEST_BODY, now + self._deadlines.body_stall)
        if self.cycle.response_complete:
            self._ignored_bytes += len(body)
            if self._ignored_bytes > MAX_IGNORED_BODY:
                self.linger()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._deadline = inf
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._refusal and not self.pipeline:
            self.server_state.total_requests += 1
            self._answer(self._refusal)
            return
        super().on_response_complete()
        self.idle_since = self.loop.time()

    # --- refusals ----------------------------------------------------------------------------------

    def linger(self) -> None:
        """End the connection: send what is written, drop what arrives, and close it when the client does."""
        if self._in_head and not self._refusal and not self._deaf:
            self.transport.close()  # the client has sent everything: nothing can be lost
            return
        self._deaf = True
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        self._refuse(_invalid(msg))

    def _refuse_ambiguous(self) -> None:
        """Refuse a request whose end or receiver two programs on its way could understand differently."""
        hosts, has_body = 0, False
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                has_body = True
                if value.strip().lower() != b"chunked" or self.parser.get_http_version() == "1.0":
                    detail = "This Transfer-Encoding is not supported; send `chunked` in HTTP/1.1."
                    raise _Refused(Problem(UNSUPPORTED_TRANSFER_ENCODING, detail))
            elif name == b"content-length":
                has_body = has_body or value.strip() != b"0"
        if hosts > 1:
            raise _Refused(_invalid("there is more than one Host header"))
        if self.parser.should_upgrade() and (has_body or self._get_upgrade() in (b"websocket", None)):
            detail = "This service speaks HTTP/1.1 only; send the request without the header Upgrade."
            raise _Refused(Problem(UPGRADE_NOT_SUPPORTED, detail))

    def _refuse(self, problem: Problem) -> None:
        """Answer the request that is being received with a problem, after those before it, and hang up."""
        self._deaf = True
        self._deadline = inf
        broken = self.cycle if not self._in_head else None
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()  # it is not running yet
            self._refusal = problem
        elif broken is not None:
            broken.disconnected = True  # the application reads no more of it, and nothing it sends is written
            broken.message_event.set()
            if broken.response_started:
                self.linger()
            else:
                self._answer(problem)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._refusal = problem
        else:
            self._answer(problem)

    def _answer(self, problem: Problem) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._encode(problem))
        self._deaf = True
        self.linger()

    def _encode(self, problem: Problem) -> bytes:
        """Return the whole answer. It closes the connection, because the next request could not be found."""
        sent = Headers(raw=self.headers or [])
        request_id = choose_request_id(sent.get("x-request-id", ""))
        path = self.url.partition(b"?")[0][:200].decode("ascii", "replace")
        peer = self.client[0] if self.client else "a client"
        log.debug("request %s of %s refused: %d %s", request_id, peer, problem.status, problem.code)
        body = json.dumps(document(problem, instance=path, request_id=request_id)).encode()
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "X-Request-Id": request_id,
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
            **headers_of(problem),
        }
        lines = [f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        default = [name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers]
        return b"".join([STATUS_LINE[problem.status], *default, *lines, b"\r\n", body])

    def _time_out(self) -> None:
        if self._deaf or (self._in_head and self._head_bytes == 0 and self.waits_for_client):
            self.transport.abort() if self._deaf else self.transport.close()
            return
        part = "headers" if self._in_head else "body"
        self._refuse(Problem(REQUEST_TIMEOUT, f"The {part} of the request did not arrive in time."))

    def _is_waiting_for_application(self) -> bool:
        return self.flow.read_paused or self.cycle.waiting_for_100_continue


class _LingeringTransport:
    """The transport that an answer is written to. Closing it leaves the client time to read the answer."""

    def __init__(self, protocol: HttpProtocol, transport: asyncio.Transport) -> None:
        self.write: Callable[[bytes], None] = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.close: Callable[[], None] = protocol.linger


def _explain(error: httptools.HttpParserError) -> Problem:
    cause = error.__context__
    if isinstance(error, httptools.HttpParserCallbackError) and isinstance(cause, _Refused):
        return cause.problem
    if isinstance(cause, httptools.HttpParserInvalidURLError | UnicodeDecodeError | AttributeError):
        return _invalid("the URL is malformed")
    return _invalid(str(error))


def _invalid(reason: str) -> Problem:
    return Problem(INVALID_HTTP, f"The request is not valid HTTP/1.1: {reason}.")


def _head_too_large() -> Problem:
    detail = f"The headers are larger than {MAX_HEAD_BYTES:,} bytes; send fewer or shorter ones."
    return Problem(HEADERS_TOO_LARGE, detail)


def _url_too_long() -> Problem:
    return Problem(URI_TOO_LONG, f"The URL is longer than {MAX_URL_BYTES:,} bytes.")
