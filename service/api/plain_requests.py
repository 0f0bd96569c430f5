"""Frequent requests that are plain: answered before everything else, which costs more than their answers do.

A request is plain if no rule but those that are checked here can concern it: a GET with the name of this
service as its Host, no header that an endpoint would have to look at, and a caller who was admitted a moment
ago. What its headers say is kept, because a client sends the same ones with every request. Whatever is not
plain, and all that is refused, goes the usual way.
"""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service import failpoints
from service.api.access import Access, Caller, read_digest
from service.api.middleware import (
    NO_SNIFFING,
    OWN_HEADERS,
    OWN_PREFIX,
    PATTERN,
    RequestMiddleware,
    count_request,
    is_usable_id,
    new_request_id,
)
from service.api.origins import host_rule
from service.api.problems import Problem, answer_registry_error
from service.api.rates import RateLimits
from service.registry.errors import DatabaseUnavailable
from service.registry.keys import Scope as KeyScope
from service.settings import Settings

MAX_KEPT = 1024
"""The headers of how many requests are kept, as hashes. Then all are dropped."""
OTHER_HEADERS = frozenset(
    (
        b"if-match",
        b"if-unmodified-since",
        b"range",
        b"idempotency-key",
        b"last-event-id",
        b"content-encoding",
        b"content-length",
        b"transfer-encoding",
    )
)
"""Headers that an endpoint, or what stands before it, would have to look at."""
NOT_IN_304 = (b"content-length", b"content-type")
ERROR = "palimpsest.error"
"""Where the scope has the error to answer."""
RawHeaders = Sequence[tuple[bytes, bytes]]


class PlainHeaders(NamedTuple):
    """What the headers of a plain request say."""

    credentials: bytes | None
    """The digest of the API key, the session and the project; None if there are none of them."""
    accept: bytes
    condition: bytes
    """The value of If-None-Match; empty without."""
    request_id: str
    """The one that the client sent, if it may be used; else empty."""


class Reply(NamedTuple):
    """An answer to a plain request."""

    status: int
    headers: RawHeaders
    body: bytes


class Answers(Protocol):
    """Answers plain requests for one kind of resource."""

    scopes: tuple[KeyScope, ...]
    """The scopes of which the caller needs one."""
    pattern: str
    """The pattern of their paths, for the metrics."""

    def takes(self, path: str) -> bool:
        """Return whether the path may be that of such a resource."""

    async def find(
        self, scope: Scope, headers: PlainHeaders, caller: Caller, refuses: Callable[[], bool]
    ) -> Reply | None:
        """Return the answer; None for what the endpoint should answer. Raises DatabaseUnavailable.

        refuses: counts the request, and returns whether the client sends too many. To be called once it is
        certain that there is an answer, and before it is made: the router counts the others.
        """


class PlainRequests:
    """The first of the ASGI middleware."""

    def __init__(
        self, app: ASGIApp, answers: Sequence[Answers], access: Access, rates: RateLimits, settings: Settings
    ) -> None:
        self._app = app
        self._failing = RequestMiddleware(_fail)
        self._answers = answers
        self._access = access
        self._rates = rates
        self._is_host = host_rule(settings)
        self._kept: dict[bytes, PlainHeaders | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        if scope["type"] == "http" and scope["method"] == "GET":
            for answers in self._answers:
                if answers.takes(scope["path"]):
                    try:
                        found = await self._find(answers, scope)
                    except Exception as error:
                        scope[ERROR], scope[PATTERN] = error, answers.pattern
                        await self._failing(scope, receive, send)
                        return
                    if found is not None:
                        headers, reply = found
                        await _send(send, headers.request_id or new_request_id(), reply)
                        count_request("GET", answers.pattern, reply.status, time.monotonic() - began)
                        return
        await self._app(scope, receive, send)

    async def _find(self, answers: Answers, scope: Scope) -> tuple[PlainHeaders, Reply] | None:
        headers = self._read(scope["headers"])
        if headers is None:
            return None
        caller = self._access.find_admitted(headers.credentials, scope, answers.scopes)
        if caller is None:
            return None
        failpoints.reach("api.request")
        client, key_id = scope["client"][0] if scope["client"] else "", caller.key_id
        reply = await answers.find(
            scope, headers, caller, lambda: self._rates.take(client, key_id) is not None
        )
        return None if reply is None else (headers, reply)

    def _read(self, headers: RawHeaders) -> PlainHeaders | None:
        """Return what the headers say; None unless they are those of a plain request."""
        parts = [part for header in headers for part in header]
        key = sha256(b"\r\n".join(parts)).digest()  # no name and no value has a line break in it
        if key not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = self._parse(headers)
        return self._kept[key]

    def _parse(self, headers: RawHeaders) -> PlainHeaders | None:
        named = dict(headers)
        if len(named) != len(headers) or not OTHER_HEADERS.isdisjoint(named):
            return None
        if any(name.startswith(OWN_PREFIX) and name not in OWN_HEADERS for name in named):
            return None
        if b"host" not in named or not self._is_host(named[b"host"]):
            return None
        try:
            credentials = read_digest(headers)
        except Problem:  # the usual way tells the client
            return None
        sent_id = named.get(b"x-request-id", b"").decode("latin-1")
        return PlainHeaders(
            credentials,
            named.get(b"accept", b""),
            named.get(b"if-none-match", b""),
            sent_id if is_usable_id(sent_id) else "",
        )


async def _send(send: Send, request_id: str, reply: Reply) -> None:
    headers = [*reply.headers, (b"x-request-id", request_id.encode()), NO_SNIFFING]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the error of a plain request; RequestMiddleware answers and logs one that nobody expected."""
    error = scope[ERROR]
    if not isinstance(error, DatabaseUnavailable):
        raise error
    await answer_registry_error(Request(scope), error)(scope, receive, send)
