"""What a worker does to a job: claim it, extend its lease, end it.

Every claim of a job has a higher fence than the one before, and a worker can change the job's row only while
the row has the fence of its claim. So a worker that was suspended for longer than its lease, and replaced by
another, can no longer change anything (a fencing token: M. Kleppmann, Designing Data-Intensive Applications,
chapter 8).
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, Update, exc, func, select, update
from sqlalchemy.orm import Session

from service.registry.database import from_now, now
from service.registry.errors import FencedOff
from service.registry.jobs import is_blocked
from service.registry.tables import CLAIMED_STATES, JobRow, ModelRow

ClaimState = Literal["held", "cancel_requested", "lost"]
"""`cancel_requested`: by a client; `lost`: another worker has the job, or may have it."""


@dataclass(frozen=True)
class Claim:
    """The right to run a job, until another worker takes the job over."""

    job_id: str
    model_id: str
    fence: int
    attempt: int


def worker_name(pid: int) -> str:
    """Return the name under which the worker with that process id, on this machine, claims jobs."""
    return f"{socket.gethostname()}:{pid}"


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float) -> Claim | None:
    """Claim the job. None if it is not queued, or if an earlier change of its model is not finished.

    The attempt is counted now and not when it fails, because a process that runs out of memory is killed
    before it can count.
    """
    claim_queued = (
        update(JobRow)
        .where(
            JobRow.id == job_id,
            JobRow.state == "queued",
            JobRow.cancel_requested.is_(False),
            ~is_blocked(),
        )
        .values(
            state="running",
            fence=JobRow.fence + 1,
            attempt=JobRow.attempt + 1,
            worker=worker,
            lease_until=from_now(lease_seconds),
            started_at=func.coalesce(JobRow.started_at, now()),
            progress=None,
            started_from=select(ModelRow.head).where(ModelRow.id == JobRow.model_id).scalar_subquery(),
        )
        .returning(JobRow.model_id, JobRow.fence, JobRow.attempt)
        .execution_options(synchronize_session=False)
    )
    try:
        with session.begin_nested():
            row = session.execute(claim_queued).one_or_none()
    except exc.IntegrityError:  # one_running_job_per_model: another worker has just claimed an earlier job
        return None
    return None if row is None else Claim(job_id, row.model_id, row.fence, row.attempt)


def heartbeat(
    session: Session, claim: Claim, *, lease_seconds: float, progress: Mapping[str, Any] | None
) -> ClaimState:
    """Extend the lease and write the progress, unless another worker has taken the job over."""
    values: dict[str, Any] = {"lease_until": from_now(lease_seconds)}
    if progress is not None:
        values["progress"] = dict(progress)
    extend = _fenced(claim).values(values).returning(JobRow.cancel_requested)
    cancel_requested = session.execute(extend).scalar_one_or_none()
    if cancel_requested is None:
        return "lost"
    return "cancel_requested" if cancel_requested else "held"


def start_verifying(session: Session, claim: Claim) -> None:
    """Record that the candidate is computed and is being judged. Raises FencedOff."""
    _change(session, claim, state="verifying")


def finish_failed(session: Session, claim: Claim, error: Mapping[str, Any]) -> None:
    """End the job as failed. error: {type, code, message, retryable}. Raises FencedOff."""
    _change(session, claim, state="failed", error=dict(error), lease_until=None, finished_at=now())


def finish_rejected(
    session: Session, claim: Claim, error: Mapping[str, Any], *, cost: Mapping[str, Any] | None = None
) -> None:
    """End the job as rejected: its candidate missed an acceptance criterion. Raises FencedOff."""
    values = {"error": dict(error), "cost": dict(cost) if cost else None}
    _change(session, claim, state="rejected", lease_until=None, finished_at=now(), **values)


def finish_cancelled(session: Session, claim: Claim) -> None:
    """End the job as cancelled, because a client requested it. Raises FencedOff."""
    _change(session, claim, state="cancelled", lease_until=None, finished_at=now())


def release(session: Session, claim: Claim) -> None:
    """Requeue the job because this worker is shutting down. The attempt does not count. Raises FencedOff."""
    _change(
        session,
        claim,
        state="queued",
        attempt=JobRow.attempt - 1,
        lease_until=None,
        notified_at=None,
        worker=None,
        progress=None,
    )


def _change(session: Session, claim: Claim, **values: Any) -> None:
    changed = cast(CursorResult[Any], session.execute(_fenced(claim).values(values)))
    if changed.rowcount != 1:
        raise FencedOff(claim.job_id, claim.fence)


def _fenced(claim: Claim) -> Update:
    """Return an UPDATE of the job's row that matches it only while this claim is valid."""
    return (
        update(JobRow)
        .where(JobRow.id == claim.job_id, JobRow.fence == claim.fence, JobRow.state.in_(CLAIMED_STATES))
        .execution_options(synchronize_session=False)
    )
