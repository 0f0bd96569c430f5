"""Idempotency keys: a request that is sent again with its key gets the answer of the first one.

The answer is recorded in the transaction that records the resource. So both exist or neither does, whatever
dies in between, and no key stays in flight for ever. Only the status of the answer and the id of the resource
are stored, and which labels of a request to forget were forgotten already, because a job that answers several
requests does not say that of each. The body is made anew from the resource, so no secret, no image and no
name of a label is stored here: a label stands here as a hash.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import delete, exc, func, select
from sqlalchemy.orm import Session

from service.registry.database import from_now, is_duplicate, unless_deleted
from service.registry.errors import IdempotencyInFlight, IdempotencyKeyReused
from service.registry.tables import IdempotencyKeyRow

KEPT_HOURS = 24
"""How long an answer is kept at least. Later the sweeper deletes it, and the key may be used again."""


@dataclass(frozen=True)
class RequestWithKey:
    """A request with an idempotency key. Keys of different projects are different keys."""

    project_id: str
    key: str
    sha256: str
    """The hash of its method, path, query and body."""


class StoredAnswer(NamedTuple):
    """The answer that a request got."""

    status: int
    resource_id: str
    hashed: Mapping[str, str]
    """{hash of a label: the job that forgot it} of the labels of the request that were forgotten already."""

    def already_forgotten(self, labels: Iterable[str]) -> dict[str, str] | None:
        """Return {label: the job that forgot it} of those of these labels; None if there is none.

        labels: all that the model ever learned. An earlier release stored the names themselves.
        """
        found = {label: self.hashed.get(_hash(self.resource_id, label)) for label in labels}
        found |= {label: self.hashed[label] for label in found if label in self.hashed}
        return {label: job for label, job in found.items() if job is not None} or None


def find(session: Session, request: RequestWithKey) -> StoredAnswer | None:
    """Return the answer that this request got before, if it got one.

    Raises IdempotencyKeyReused if the key was used for another request.
    """
    row = session.get(IdempotencyKeyRow, (request.project_id, request.key))
    if row is None:
        return None
    if row.request_sha256 != request.sha256:
        raise IdempotencyKeyReused(request.key)
    return StoredAnswer(row.status, row.resource_id, row.already_forgotten or {})


def begin(session: Session, request: RequestWithKey) -> StoredAnswer | None:
    """Do what `find` does, and keep other requests with this key out until the transaction ends.

    Raises IdempotencyKeyReused; IdempotencyInFlight if another transaction has begun for this key. SQLite
    needs no lock of its own, because only one transaction can write at a time.
    """
    if session.get_bind().dialect.name != "sqlite":
        digest = sha256(f"{request.project_id}/{request.key}".encode()).digest()
        lock = int.from_bytes(digest[:8], "big", signed=True)
        if not session.scalar(select(func.pg_try_advisory_xact_lock(lock))):
            raise IdempotencyInFlight(request.key)
    return find(session, request)


def record(
    session: Session,
    request: RequestWithKey,
    status: int,
    resource_id: str,
    already_forgotten: Mapping[str, str] | None = None,
) -> None:
    """Record the answer, in the transaction that records the resource. Raises IdempotencyInFlight.

    already_forgotten: {label: the job that forgot it} of the labels that were forgotten before.
    """
    hashed = {_hash(resource_id, label): job for label, job in (already_forgotten or {}).items()}
    session.add(
        IdempotencyKeyRow(
            project_id=request.project_id,
            key=request.key,
            request_sha256=request.sha256,
            status=status,
            resource_id=resource_id,
            already_forgotten=hashed or None,
        )
    )
    try:
        with unless_deleted(request.project_id):
            session.flush()
    except exc.IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise IdempotencyInFlight(request.key) from error


def delete_expired(session: Session) -> None:
    """Delete the answers that are older than KEPT_HOURS."""
    expired = IdempotencyKeyRow.created_at < from_now(-KEPT_HOURS * 3600)
    session.execute(delete(IdempotencyKeyRow).where(expired).execution_options(synchronize_session=False))


def _hash(resource_id: str, label: str) -> str:
    """Return the hash of a label, which is another one for each resource."""
    return sha256(f"{resource_id}/{label}".encode()).hexdigest()
