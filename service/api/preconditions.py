"""The headers If-Match and If-None-Match of a request that changes something (RFC 9110, section 13.1).

An endpoint takes a `Conditional` parameter and calls `check` in its transaction, once it has locked what it
changes. Endpoints without that parameter refuse these headers (route.py).
"""

from typing import Annotated

from fastapi import Depends, Header, Request

from service.api.error_kinds import PRECONDITION_FAILED, PRECONDITION_REQUIRED
from service.api.problems import Problem
from service.api.refusals import refuses

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The ETag that the client saw, or `*` for whatever there is. If it is another one now, "
        "the request is refused with 412 `precondition_failed`.",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="`*` refuses the request with 412 `precondition_failed` if there is one already.",
    ),
]


@refuses(PRECONDITION_FAILED)
class Preconditions:
    """The conditions of one request."""

    def __init__(self, request: Request, if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> None:
        self._match = _read(request, "if-match") if if_match is not None else None
        self._none_match = _read(request, "if-none-match") if if_none_match is not None else None

    def check(self, etag: str | None, *, required: bool = False) -> None:
        """Check the conditions against the ETag of what is there; None if there is nothing.

        required: what is there may be changed only with If-Match.
        Raises Problem 412 `precondition_failed`, 428 `precondition_required`.
        """
        if self._none_match is not None and etag is not None and not self._none_match.isdisjoint({"*", etag}):
            raise _failed("it exists already, and If-None-Match says that it must not")
        if self._match is None:
            if required and etag is not None:
                detail = (
                    "This exists already, and is changed only for a client that has seen it: send its ETag "
                    "in If-Match. A GET of it has the ETag; `If-Match: *` overwrites whatever there is."
                )
                raise Problem(PRECONDITION_REQUIRED, detail)
            return
        if etag is None:
            raise _failed("there is nothing yet, and If-Match says that there must be")
        if self._match.isdisjoint({"*", etag}):
            raise _failed("it has changed since, so that its ETag is no longer the one in If-Match")


Conditional = Annotated[Preconditions, Depends()]
"""The type of an endpoint's parameter through which FastAPI passes it the conditions of the request."""


def _read(request: Request, name: str) -> frozenset[str]:
    """Return the ETags that a header lists. Weak ones match nothing, because this compares strongly."""
    sent = ",".join(request.headers.getlist(name))
    return frozenset(tag.strip() for tag in sent.split(","))


def _failed(found: str) -> Problem:
    detail = f"The request changes nothing: {found}. Read it again, and send the request with its new ETag."
    return Problem(PRECONDITION_FAILED, detail)
