"""The database part of a sweep: requeue or cancel jobs, and find wake-up messages to send again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, CursorResult, Float, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session

from service.registry.database import from_now, now
from service.registry.job_errors import HUNG, LOST
from service.registry.jobs import is_blocked
from service.registry.tables import CLAIMED_STATES, INDEPENDENT, JobRow

SWEEPER_LOCK = 0x70616C696D  # "palim": an advisory lock of PostgreSQL. SQLite lets only one transaction write

LONGEST_LEASES = 100
"""A lease that still lasts for so many times its length was not given by the clock of today."""


def try_sweep_lock(session: Session) -> bool:
    """Lock the sweep until the transaction ends. False if another process is sweeping."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(SWEEPER_LOCK))))


def is_due(session: Session, *, lease_seconds: float) -> bool:
    """Whether the sweep has claims to end or leases to shorten, or queued jobs to cancel.

    One question in place of eight updates, which a sweep twice a second would seldom need.
    """
    return bool(session.scalar(_IS_DUE, {"longest": lease_seconds * LONGEST_LEASES}))


def shorten_leases(session: Session, *, lease_seconds: float) -> None:
    """Shorten leases that end too far in the future, which they do once the clock has been set back.

    A worker that lives extends its lease in a moment; that of a dead one would last for as long as the clock
    went back.
    """
    implausible = JobRow.lease_until > from_now(lease_seconds * LONGEST_LEASES)
    _change(session, JobRow.state.in_(CLAIMED_STATES) & implausible, lease_until=from_now(lease_seconds))


def is_any_worker_silent(session: Session, *, lease_seconds: float) -> bool:
    """Whether a job has a worker that has not extended its lease for half of it, or longer ago."""
    late = JobRow.state.in_(CLAIMED_STATES) & (JobRow.lease_until < from_now(lease_seconds / 2))
    expired = (JobRow.state == "queued") & JobRow.worker.is_not(None)
    return session.scalar(select(JobRow.id).where(late | expired).limit(1)) is not None


def requeue_expired(session: Session) -> int:
    """Requeue the jobs whose lease has expired. Returns how many were requeued.

    If a client has cancelled such a job it ends as cancelled; if it has no attempt left it fails as
    worker_lost. Its worker may take it back while nobody else has claimed it (claims.py).
    """
    expired = JobRow.state.in_(CLAIMED_STATES) & (JobRow.lease_until < now())
    return _end_claims(session, expired, error=LOST)


def requeue_stalled(session: Session) -> int:
    """Requeue the jobs that make no progress while their heartbeat goes on. Returns how many.

    Their worker ends itself a little earlier, if it can (worker/jobs/watchdog.py). It cannot take the job
    back. If the job has no attempt left it fails as stalled.
    """
    stalled = JobRow.state.in_(CLAIMED_STATES) & (JobRow.stalls_at < now())
    return _end_claims(session, stalled, error=HUNG, worker=None)


def release_jobs_of(session: Session, worker: str) -> None:
    """Requeue the job of a worker that was shut down and is known to be dead. The attempt does not count.

    If a client has cancelled it, it ends as cancelled.
    """
    claimed = JobRow.state.in_(CLAIMED_STATES) & (JobRow.worker == worker)
    _change(session, claimed & JobRow.cancel_requested, state="cancelled", **_ENDED)
    _change(session, claimed, attempt=JobRow.attempt - 1, worker=None, **_QUEUED)


def release_claim(session: Session, job_id: str, fence: int) -> bool:
    """Requeue a job whose worker gave up this claim. The attempt does not count. False if it was released.

    Its lease may have expired since: then it is queued already, and only the attempt is given back. If a
    client has cancelled it, it ends as cancelled.
    """
    unfinished = JobRow.state.in_((*CLAIMED_STATES, "queued"))
    claimed = (JobRow.id == job_id) & (JobRow.fence == fence) & unfinished & JobRow.worker.is_not(None)
    cancelled = _change(session, claimed & JobRow.cancel_requested, state="cancelled", **_ENDED)
    return cancelled + _change(session, claimed, attempt=JobRow.attempt - 1, worker=None, **_QUEUED) > 0


def _end_claims(
    session: Session, which: ColumnElement[bool], *, error: Mapping[str, Any], **values: Any
) -> int:
    """End the claims of these jobs: cancelled if a client requested that, failed after the last attempt.

    Returns how many are queued again.
    """
    _change(session, which & JobRow.cancel_requested, state="cancelled", **_ENDED)
    used_up = JobRow.attempt >= JobRow.max_attempts
    _change(session, which & used_up, state="failed", error=dict(error), **_ENDED)
    # The clock goes on: the lease of a last attempt may have run out after the statement before.
    return _change(session, which & ~used_up, **_QUEUED, **values)


_ENDED: Mapping[str, Any] = {"lease_until": None, "finished_at": now()}
_QUEUED: Mapping[str, Any] = {
    "state": "queued",
    "lease_until": None,
    "notified_at": None,
    "progress": None,
    "stalls_at": None,
}


def cancel_queued(session: Session) -> None:
    """Cancel queued jobs that a client cancelled while a worker still ran them."""
    cancelled = (JobRow.state == "queued") & JobRow.cancel_requested
    _change(session, cancelled, state="cancelled", finished_at=now())


def find_due(session: Session, *, queue: str, notify_again_seconds: float, limit: int) -> list[str]:
    """Return the ids of jobs that could run now but whose wake-up message may be lost, the oldest first."""
    query = (
        select(JobRow.id)
        .where(
            JobRow.state == "queued",
            JobRow.queue == queue,
            or_(
                JobRow.notified_at.is_(None),
                JobRow.notified_at < from_now(-notify_again_seconds),
                JobRow.notified_at > from_now(notify_again_seconds),  # the clock has been set back
            ),
            ~is_blocked(),
        )
        .order_by(JobRow.sequence)
        .limit(limit)
    )
    return list(session.scalars(query))


_IS_DUE = select(
    or_(
        exists().where(
            JobRow.state.in_(CLAIMED_STATES),
            or_(
                JobRow.lease_until < now(),
                JobRow.lease_until > from_now(bindparam("longest", type_=Float())),
                JobRow.stalls_at < now(),
            ),
        ),
        exists().where(JobRow.state == "queued", JobRow.cancel_requested),
    )
)


def mark_notified(session: Session, job_ids: Sequence[str]) -> None:
    """Record that a wake-up message was sent for each of these jobs just now."""
    _change(session, JobRow.id.in_(job_ids), notified_at=now())


class NextJob(NamedTuple):
    """A job that can run now, and the queue to which its wake-up message goes."""

    id: str
    queue: str


def find_next_of_model(session: Session, model_id: str) -> NextJob | None:
    """Return the queued change of the model that runs next, if there is one.

    Jobs that only read a version are never returned: they wait for no other job.
    """
    query = select(JobRow.id, JobRow.queue).where(
        JobRow.model_id == model_id, JobRow.state == "queued", JobRow.operation.not_in(INDEPENDENT)
    )
    row = session.execute(query.order_by(JobRow.sequence).limit(1)).one_or_none()
    return None if row is None else NextJob(*row)


def expire_leases_of(session: Session, worker: str) -> None:
    """End the leases of a worker that is known to be dead, so that the next sweep queues its job again."""
    _change(session, JobRow.state.in_(CLAIMED_STATES) & (JobRow.worker == worker), lease_until=from_now(-1))


def _change(session: Session, which: ColumnElement[bool], **values: Any) -> int:
    """Change the rows and return their number."""
    change = update(JobRow).where(which).values(values)
    changed = session.execute(change.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], changed).rowcount
