"""The audit log: who requested what, and what became of it, in a chain of hashes.

An entry is added in the transaction of the change that it records, so that there is neither one without the
other. Seconds later the sweeper seals it: it gets the next position and a hash of itself and of the hash
before it. Sealing apart from adding keeps transactions from waiting for each other. A sealed entry cannot be
changed, removed or inserted without breaking the chain, which `verify` shows. Whoever notes the newest hash
elsewhere can also show that no entry after it was removed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session, joinedload

from service.registry.database import now
from service.registry.pages import FilteredPage, filtered
from service.registry.tables import AuditRow, JobRow

ANONYMOUS = "anonymous"
"""The actor of a request that needed no key."""
SERVICE = "palimpsest"
"""The actor of what the service itself does, such as to end a job."""
FIRST_HASH = "0" * 64
"""The hash before the first entry."""
BATCH = 1000
"""How many entries one transaction seals, or how many outcomes it adds."""

_ENDED = (
    select(JobRow)
    .where(JobRow.finished_at.is_not(None), JobRow.audited_at.is_(None))
    .options(joinedload(JobRow.model))
    .order_by(JobRow.sequence)
    .limit(BATCH)
)
_UNSEALED = select(AuditRow).where(AuditRow.position.is_(None)).order_by(AuditRow.sequence).limit(BATCH)
_NEWEST_SEALED = (
    select(AuditRow).where(AuditRow.position.is_not(None)).order_by(AuditRow.position.desc()).limit(1)
)
_IS_DUE = select(
    or_(
        exists().where(JobRow.finished_at.is_not(None), JobRow.audited_at.is_(None)),
        exists().where(AuditRow.position.is_(None)),
    )
)


@dataclass(frozen=True)
class Verification:
    """What `verify` found: `fault` says at which position the chain is broken, and how."""

    entries: int
    unsealed: int
    head: str
    fault: str | None
    knows_head: bool
    """Whether the chain contains the hash that the caller had noted; True if there was none."""


def append(
    session: Session,
    action: str,
    resource: str,
    *,
    actor: str | None,
    project_id: str | None,
    request_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry, in the transaction of the change that it records.

    action: a noun and a verb, such as `job.submit`; resource: the id of what it was done to; actor: the id of
    an API key, or None for a request without one.
    """
    session.add(
        AuditRow(
            action=action,
            resource=resource,
            actor=actor or ANONYMOUS,
            project_id=project_id,
            request_id=request_id,
            details=dict(details or {}),
        )
    )


def is_due(session: Session) -> bool:
    """Whether a job has ended that has no entry yet, or an entry is unsealed."""
    return bool(session.scalar(_IS_DUE))


def find_ended(session: Session) -> list[str]:
    """Return the ids of jobs that have ended and have no entry yet, the oldest first."""
    return [job.id for job in session.scalars(_ENDED)]


def add_outcomes(session: Session, job_id: str | None = None) -> Sequence[JobRow]:
    """Add an entry for jobs that have ended and have none yet. Returns these jobs. For the sweeper alone.

    job_id: only for this job.
    """
    rows = session.scalars(_ENDED if job_id is None else _ENDED.where(JobRow.id == job_id)).all()
    if not rows:
        return rows
    for job in rows:
        append(
            session,
            "job.end",
            job.id,
            actor=SERVICE,
            project_id=job.model.project_id,
            details=_outcome(job),
        )
    done = update(JobRow).where(JobRow.id.in_([job.id for job in rows])).values(audited_at=now())
    session.execute(done.execution_options(synchronize_session=False))
    return rows


def seal(session: Session) -> int:
    """Seal the oldest unsealed entries. Returns how many. For the sweeper alone: one process at a time."""
    rows = session.scalars(_UNSEALED).all()
    if not rows:
        return 0
    last = session.scalar(_NEWEST_SEALED)
    position, previous = (last.position or 0, last.hash or "") if last else (0, FIRST_HASH)
    for row in rows:
        position += 1
        previous = _hash(row, position, previous)
        row.position, row.hash = position, previous
    session.flush()
    return len(rows)


def verify(session: Session, *, noted_head: str | None = None) -> Verification:
    """Compute the hash of every sealed entry again, from the first on.

    noted_head: a hash that was the newest one at some time; the chain must contain it.
    """
    unsealed = session.scalar(select(func.count()).where(AuditRow.position.is_(None))) or 0
    return _verify(_sealed(session), unsealed, noted_head)


def page(
    session: Session,
    *,
    project_id: str | None,
    action: str | None = None,
    resource: str | None = None,
    limit: int,
    after: int | None = None,
) -> FilteredPage[AuditRow]:
    """Return the newest entries, or those older than the sequence number `after`.

    project_id: only the entries of this project; None: all. action, resource: only those that have them.
    """
    of_project_and_resource = ((AuditRow.project_id, project_id), (AuditRow.resource, resource))
    listed = [column == value for column, value in of_project_and_resource if value is not None]
    return filtered(
        session,
        select(AuditRow).where(*listed),
        AuditRow.sequence,
        [] if action is None else [AuditRow.action == action],
        keys=select(AuditRow.sequence).where(*listed),
        limit=limit,
        after=after,
        descending=True,
    )


def _sealed(session: Session) -> Iterator[AuditRow]:
    """Iterate over the sealed entries in order, and keep only a batch of them in memory."""
    position = 0
    while True:
        following = (
            select(AuditRow).where(AuditRow.position > position).order_by(AuditRow.position).limit(BATCH)
        )
        rows = session.scalars(following).all()
        yield from rows
        if len(rows) < BATCH:
            return
        position = rows[-1].position or 0
        session.expunge_all()


def _verify(rows: Iterable[AuditRow], unsealed: int, noted_head: str | None) -> Verification:
    count, head, known = 0, FIRST_HASH, noted_head in (None, FIRST_HASH)
    for row in rows:
        if row.position != count + 1:
            fault = f"the entry {count + 1} is missing; the next one is {row.position}"
            return Verification(count, unsealed, head, fault, known)
        if row.hash != _hash(row, row.position, head):
            fault = f"the entry {row.position} ({row.action} of {row.resource}) or the one before was changed"
            return Verification(count, unsealed, head, fault, known)
        count, head = row.position, row.hash
        known = known or head == noted_head
    return Verification(count, unsealed, head, None, known)


def _hash(row: AuditRow, position: int, previous: str) -> str:
    """Return the sha256 of the entry as JSON with sorted keys, the hash before it included."""
    entry = {
        "position": position,
        "previous": previous,
        "sequence": row.sequence,
        "at": row.at.isoformat(),
        "project": row.project_id,
        "actor": row.actor,
        "action": row.action,
        "resource": row.resource,
        "request_id": row.request_id,
        "details": row.details,
    }
    return hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _outcome(job: JobRow) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "state": job.state,
        "operation": job.operation,
        "model": job.model_id,
        "labels": job.labels,
        "reference": job.reference,
        "version": job.output_version,
        "error": job.error["code"] if job.error else None,
    }
    return {name: value for name, value in outcome.items() if value not in (None, [])}
