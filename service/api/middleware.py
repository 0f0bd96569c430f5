"""ASGI middleware for every request: request ids, HEAD, limits, and the answer to an unexpected error."""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Sequence
from functools import lru_cache

from fastapi import Request
from prometheus_client import Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import failpoints, logs, metrics
from service.api.access import PROJECT_HEADER
from service.api.error_kinds import (
    HEADER_NOT_SUPPORTED,
    TOO_MANY_PARAMETERS,
    UNSUPPORTED_CONTENT_ENCODING,
)
from service.api.problems import Problem, answer, internal_error

log = logging.getLogger(__name__)

MAX_QUERY_PARAMETERS = 100
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
OWN_PREFIX = b"palimpsest-"
"""The beginning of the names of this service's own headers."""
OWN_HEADERS = frozenset((PROJECT_HEADER.lower().encode(),))
TRACEPARENT = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"(?P<more>-.*)?"
)
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
PATTERN = "palimpsest.pattern"
"""Where the scope has the pattern of the path, if the request was answered without the router."""


IS_HEAD = "palimpsest.is_head"
"""Set in the scope of a HEAD request, for an endpoint whose answer would not end by itself."""


_PROCESS = secrets.token_hex(8)
_REQUESTS = itertools.count(1)
"""New request ids have the number of the process, which is random, and that of the request."""


class RequestMiddleware:
    """Give every request an id, answer HEAD as GET, and answer 500 if an exception is not handled."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent_id, trace_id, refusal = _look_at(scope)
        request_id = choose_request_id(sent_id)
        scope.setdefault("state", {}).update(request_id=request_id, trace_id=trace_id)
        if scope["method"] == "HEAD":  # uvicorn keeps the original scope, and therefore sends no body
            scope = {**scope, "method": "GET", IS_HEAD: True}
        began = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id.encode())
                message["headers"] = [*message.get("headers", ()), own, NO_SNIFFING]
            await send(message)

        with logs.about(request_id=request_id, trace_id=trace_id):
            try:
                failpoints.reach("api.request")
                if refusal is not None:
                    await answer(Request(scope), refusal)(scope, receive, send_with_id)
                else:
                    await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.debug("request %s: the client left before its answer", request_id)
            except Exception:
                log.exception(
                    "request %s: %s %s failed with an unexpected error",
                    request_id,
                    scope["method"],
                    scope["path"],
                )
                if status:
                    raise  # a part of the answer is sent: only a broken connection can tell the client
                await internal_error(Request(scope))(scope, receive, send_with_id)
            finally:
                _measure(scope, status, time.monotonic() - began)


def _measure(scope: Scope, status: int, seconds: float) -> None:
    """Count the request in the metrics, by the pattern of its path: the number of paths has no bound."""
    pattern = str(scope.get(PATTERN) or getattr(scope.get("route"), "path", "none"))
    count_request(scope["method"], pattern, status, seconds)


def count_request(method: str, pattern: str, status: int, seconds: float) -> None:
    """Count a request in the metrics. pattern: that of its path."""
    _histogram(method, pattern, status).observe(seconds)


@lru_cache(maxsize=4096)
def _histogram(method: str, pattern: str, status: int) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(method, pattern, status)


def _look_at(scope: Scope) -> tuple[str, str | None, Problem | None]:
    """Return the request id and the trace id that were sent, and why no endpoint may see the request."""
    request_id, encodings, unknown = "", [], b""
    parents: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"x-request-id" and not request_id:
            request_id = value.decode("latin-1")
        elif name == b"traceparent":
            parents.append(value)
        elif name == b"content-encoding":
            encodings.append(value.decode("latin-1"))
        elif name.startswith(OWN_PREFIX) and name not in OWN_HEADERS:
            unknown = name
    trace_id = read_trace_id(parents[0]) if len(parents) == 1 else None
    return request_id, trace_id, _refuse(encodings, scope["query_string"], unknown)


def _refuse(encodings: Sequence[str], query: bytes, unknown: bytes) -> Problem | None:
    """unknown: the name of a header that looks like one of this service's own and is none; or empty."""
    if not encodings and not query and not unknown:
        return None
    encoding = ", ".join(encodings).strip().lower()
    if encoding and not all(each.strip() in ("identity", "") for each in encoding.split(",")):
        detail = f"The Content-Encoding {encoding[:40]} is not supported; send the body as it is."
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        return Problem(UNSUPPORTED_CONTENT_ENCODING, detail, headers=headers)
    if query and query.count(b"&") >= MAX_QUERY_PARAMETERS:
        detail = f"The URL has more than {MAX_QUERY_PARAMETERS} query parameters."
        return Problem(TOO_MANY_PARAMETERS, detail)
    if unknown:
        detail = (
            f"There is no header {unknown.decode('latin-1')[:80]}; the service knows {PROJECT_HEADER}. "
            "Correct the name, or leave it out."
        )
        return Problem(HEADER_NOT_SUPPORTED, detail)
    return None


def read_trace_id(traceparent: bytes) -> str | None:
    """Return the trace id of a header `traceparent` (W3C Trace Context, level 1); None if it is invalid.

    A later version of the standard may add fields at the end.
    """
    found = TRACEPARENT.fullmatch(traceparent)
    if found is None or (found["version"] == b"00" and found["more"]):
        return None
    return found["trace_id"].decode()


def choose_request_id(sent: str) -> str:
    """Return the id that the client sent if it is safe to log, and a new one otherwise."""
    return sent if is_usable_id(sent) else new_request_id()


def is_usable_id(sent: str) -> bool:
    """Whether the id that a client sent is safe to log."""
    return bool(REQUEST_ID.fullmatch(sent)) and logs.without_secrets(sent) == sent


def new_request_id() -> str:
    """Return an id that no other request has."""
    return f"req_{_PROCESS}{next(_REQUESTS):08x}"
