"""The header Idempotency-Key: a request that is sent again with the same key does nothing twice.

An endpoint takes an `Idempotent` parameter, and calls `find` before its work, `begin` at the start of its
transaction, and `record` once the resource is written. If `find` or `begin` returns an answer, the request is
a repetition: the endpoint answers it from that resource, which may have changed since.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy.orm import Session

from service.api.bodies import MAX_BODY_BYTES, JsonRequest, read_body
from service.api.context import Context
from service.api.error_kinds import INVALID_IDEMPOTENCY_KEY, RESOURCE_GONE
from service.api.problems import Problem
from service.api.refusals import refuses
from service.registry import idempotency
from service.registry.errors import (
    IdempotencyInFlight,
    IdempotencyKeyReused,
    UnknownAlias,
    UnknownExport,
    UnknownJob,
    UnknownModel,
    UnknownProject,
    UnknownSample,
    UnknownVersion,
)
from service.registry.idempotency import KEPT_HOURS, RequestWithKey, StoredAnswer

KEY = re.compile(r"[\x20-\x7e]{1,255}")

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A text that no other request of the project uses, such as a UUID. If the same request "
        "is sent again with it, nothing is done twice: the answer has the same status and the same resource, "
        "and the header `Idempotency-Replayed: true`. Another request with the same key is refused with 422 "
        "`idempotency_key_reused`, and one that arrives while the first is being answered with 409 "
        f"`idempotency_in_flight`. A key is kept for {KEPT_HOURS} hours. Refused requests are not kept.",
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    ),
]


class Idempotency:
    """The idempotency key of one request. Without a key, nothing is found and nothing is recorded."""

    def __init__(self, http_request: Request, request: RequestWithKey | None) -> None:
        self._http_request = http_request
        self._request = request

    @property
    def key(self) -> str:
        """The key; empty without one."""
        return "" if self._request is None else self._request.key

    def in_project(self, project_id: str) -> "Idempotency":
        """Return the same for a request that turned out to be about this project."""
        request = self._request and replace(self._request, project_id=project_id)
        return Idempotency(self._http_request, request)

    def find(self, session: Session) -> StoredAnswer | None:
        """Return the earlier answer to this request, if there is one. Raises IdempotencyKeyReused."""
        return None if self._request is None else self._replay(idempotency.find(session, self._request))

    def begin(self, session: Session) -> StoredAnswer | None:
        """Do what `find` does, and keep other requests with this key out until the transaction ends.

        Raises IdempotencyKeyReused, IdempotencyInFlight.
        """
        return None if self._request is None else self._replay(idempotency.begin(session, self._request))

    def record(
        self,
        session: Session,
        status: int,
        resource_id: str,
        already_forgotten: Mapping[str, str] | None = None,
    ) -> None:
        """Record the answer to this request, in the transaction that records the resource."""
        if self._request is not None:
            idempotency.record(session, self._request, status, resource_id, already_forgotten)

    def _replay(self, answer: StoredAnswer | None) -> StoredAnswer | None:
        self._http_request.state.is_replayed = answer is not None
        return answer


@refuses(INVALID_IDEMPOTENCY_KEY, IdempotencyKeyReused, IdempotencyInFlight)
async def _idempotency(
    request: Request, context: Context, idempotency_key: KeyHeader = None
) -> AsyncIterator[Idempotency]:
    if idempotency_key is None:
        yield Idempotency(request, None)
        return
    _check(request.headers.getlist("idempotency-key"))
    request_with_key = RequestWithKey(context.project, idempotency_key, await _hash(request))
    in_flight, entry = context.keys_in_flight, (request_with_key.project_id, request_with_key.key)
    if entry in in_flight:
        raise IdempotencyInFlight(idempotency_key)
    in_flight.add(entry)
    try:
        yield Idempotency(request, request_with_key)
    finally:
        in_flight.discard(entry)


@contextmanager
def unless_gone(what: str, resource_id: str) -> Iterator[None]:
    """Run a block that finds the resource of a repeated request, and answer 410 if it was deleted."""
    try:
        yield
    except (
        UnknownModel,
        UnknownVersion,
        UnknownAlias,
        UnknownSample,
        UnknownExport,
        UnknownJob,
        UnknownProject,
    ) as error:
        detail = (
            f"This request was answered before, with the {what} {resource_id}, which has been deleted since; "
            "send it with another Idempotency-Key to make a new one."
        )
        raise Problem(RESOURCE_GONE, detail) from error


Idempotent = Annotated[Idempotency, Depends(_idempotency, scope="function")]
"""The type of an endpoint's parameter through which FastAPI passes it the request's idempotency key."""


def _check(sent: list[str]) -> None:
    """Raise Problem 400 unless the request has one key of 1 to 255 printable ASCII characters."""
    if len(sent) == 1 and KEY.fullmatch(sent[0]):
        return
    found = f"{len(sent)} of them" if len(sent) > 1 else f"{len(sent[0])} characters"
    detail = f"The Idempotency-Key must be one text of 1 to 255 printable ASCII characters; found {found}."
    raise Problem(INVALID_IDEMPOTENCY_KEY, detail)


async def _hash(request: Request) -> str:
    """Return the hash of what the request asks for. Bodies that are equal as JSON count as equal."""
    if isinstance(request, JsonRequest):
        body = json.dumps(await request.json(), sort_keys=True).encode()
    else:
        body = await read_body(request, MAX_BODY_BYTES)
    content = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return sha256(content + body).hexdigest()
