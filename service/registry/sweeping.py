"""What a sweep changes: expired leases, cancels nobody is left to obey, bells to ring again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from service.registry.database import from_now, now
from service.registry.jobs import is_blocked
from service.registry.tables import CLAIMED_STATES, JobRow

SWEEPER_LOCK = 0x70616C696D  # "palim": the advisory lock of PostgreSQL under which one process sweeps


def try_sweep_lock(session: Session) -> bool:
    """Whether this transaction may sweep: on PostgreSQL by an advisory lock, on SQLite as the only writer."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(SWEEPER_LOCK))))


def take_back_expired(session: Session) -> None:
    """A job whose lease ran out is queued again; it fails as worker_lost once its attempts are used up."""
    expired = JobRow.state.in_(CLAIMED_STATES) & (JobRow.lease_until < now())
    _change(
        session,
        expired & JobRow.cancel_requested,
        state="cancelled",
        lease_until=None,
        finished_at=now(),
    )
    _change(
        session,
        expired & (JobRow.attempt >= JobRow.max_attempts),
        state="failed",
        lease_until=None,
        finished_at=now(),
        error={
            "type": "worker_lost",
            "code": "worker_lost",
            "message": "every worker that ran this job died; their logs say how. Mend it and ask again",
            "retryable": True,
        },
    )
    _change(session, expired, state="queued", lease_until=None, notified_at=None, progress=None)


def cancel_queued(session: Session) -> None:
    """A job given back while a cancel was asked for is cancelled, not run again."""
    asked = (JobRow.state == "queued") & JobRow.cancel_requested
    _change(session, asked, state="cancelled", finished_at=now())


def find_due(session: Session, *, notify_again_seconds: float, limit: int) -> list[str]:
    """Ids of jobs that could run but whose bell may be lost, oldest first."""
    query = (
        select(JobRow.id)
        .where(
            JobRow.state == "queued",
            or_(JobRow.notified_at.is_(None), JobRow.notified_at < from_now(-notify_again_seconds)),
            ~is_blocked(),
        )
        .order_by(JobRow.sequence)
        .limit(limit)
    )
    return list(session.scalars(query))


def mark_notified(session: Session, job_ids: Sequence[str]) -> None:
    """Remember that these bells were rung just now."""
    _change(session, JobRow.id.in_(job_ids), notified_at=now())


def find_next_of_model(session: Session, model_id: str) -> str | None:
    """The queued change of the model that runs next, if any; what only measures waits for nothing."""
    query = select(JobRow.id).where(
        JobRow.model_id == model_id, JobRow.state == "queued", JobRow.operation != "evaluate"
    )
    return session.scalar(query.order_by(JobRow.sequence).limit(1))


def expire_leases_of(session: Session, worker: str) -> None:
    """The worker is known to be dead: the next sweep need not wait for its lease to run out."""
    _change(session, JobRow.state.in_(CLAIMED_STATES) & (JobRow.worker == worker), lease_until=from_now(-1))


def _change(session: Session, which: ColumnElement[bool], **values: Any) -> None:
    change = update(JobRow).where(which).values(values)
    session.execute(change.execution_options(synchronize_session=False))
