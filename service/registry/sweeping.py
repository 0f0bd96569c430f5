"""The database part of a sweep: requeue or cancel jobs, and find wake-up messages to send again."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, func, or_, select, update
from sqlalchemy.orm import Session

from service.registry.database import from_now, now
from service.registry.jobs import is_blocked
from service.registry.tables import CLAIMED_STATES, JobRow

SWEEPER_LOCK = 0x70616C696D  # "palim": an advisory lock of PostgreSQL. SQLite lets only one transaction write


def try_sweep_lock(session: Session) -> bool:
    """Lock the sweep until the transaction ends. False if another process is sweeping."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(SWEEPER_LOCK))))


def requeue_expired(session: Session) -> int:
    """Requeue the jobs whose lease has expired. Returns how many were requeued.

    If a client has cancelled such a job it ends as cancelled; if it has no attempt left it fails as
    worker_lost.
    """
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
            "message": (
                "every worker that ran this job stopped before it was done; look for the reason in the "
                "workers' logs, then send the request again"
            ),
            "retryable": True,
        },
    )
    return _change(session, expired, state="queued", lease_until=None, notified_at=None, progress=None)


def cancel_queued(session: Session) -> None:
    """Cancel queued jobs that a client cancelled while a worker still ran them."""
    cancelled = (JobRow.state == "queued") & JobRow.cancel_requested
    _change(session, cancelled, state="cancelled", finished_at=now())


def find_due(session: Session, *, notify_again_seconds: float, limit: int) -> list[str]:
    """Return the ids of jobs that could run now but whose wake-up message may be lost, the oldest first."""
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
    """Record that a wake-up message was sent for each of these jobs just now."""
    _change(session, JobRow.id.in_(job_ids), notified_at=now())


def find_next_of_model(session: Session, model_id: str) -> str | None:
    """Return the id of the queued change of the model that runs next, if there is one.

    An evaluate job is never returned: it waits for no other job.
    """
    query = select(JobRow.id).where(
        JobRow.model_id == model_id, JobRow.state == "queued", JobRow.operation != "evaluate"
    )
    return session.scalar(query.order_by(JobRow.sequence).limit(1))


def expire_leases_of(session: Session, worker: str) -> None:
    """End the leases of a worker that is known to be dead, so that the next sweep queues its job again."""
    _change(session, JobRow.state.in_(CLAIMED_STATES) & (JobRow.worker == worker), lease_until=from_now(-1))


def _change(session: Session, which: ColumnElement[bool], **values: Any) -> int:
    """Change the rows and return their number."""
    change = update(JobRow).where(which).values(values)
    changed = session.execute(change.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], changed).rowcount
