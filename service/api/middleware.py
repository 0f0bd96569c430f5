"""ASGI middleware for every request: request ids, HEAD, limits, and the answer to an unexpected error."""

import logging
import re
import time

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import failpoints, logs, metrics
from service.api.problems import Problem, answer, internal_error
from service.registry.tables import new_id

log = logging.getLogger(__name__)

MAX_QUERY_PARAMETERS = 100
PATTERN = "palimpsest.pattern"
"""Where the scope has the pattern of the path, if the request was answered without the router."""


class RequestMiddleware:
    """Give every request an id, answer HEAD as GET, and answer 500 if an exception is not handled."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        request_id = choose_request_id(sent.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["method"] == "HEAD":  # uvicorn keeps the original scope, and therefore sends no body
            scope = {**scope, "method": "GET"}
        began = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            with logs.about(request_id=request_id):
                failpoints.reach("api.request")
                if refusal := _refuse(scope, sent):
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
    pattern = scope.get(PATTERN) or getattr(scope.get("route"), "path", "none")
    metrics.REQUEST_SECONDS.labels(scope["method"], pattern, status).observe(seconds)


def _refuse(scope: Scope, sent: Headers) -> Problem | None:
    """Return why no endpoint may see the request, if there is a reason."""
    encoding = ", ".join(sent.getlist("content-encoding")).strip().lower()
    if not all(each.strip() in ("identity", "") for each in encoding.split(",")):
        detail = f"The Content-Encoding {encoding[:40]} is not supported; send the body as it is."
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        return Problem(415, "unsupported_content_encoding", detail, headers=headers)
    if scope["query_string"].count(b"&") >= MAX_QUERY_PARAMETERS:
        detail = f"The URL has more than {MAX_QUERY_PARAMETERS} query parameters."
        return Problem(400, "too_many_parameters", detail)
    return None


def choose_request_id(sent: str) -> str:
    """Return the id that the client sent if it is safe to log, and a new one otherwise."""
    is_safe = re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", sent) and logs.without_secrets(sent) == sent
    return sent if is_safe else new_id("req")
