"""What a worker does to a job: claim it, extend its lease, end it.

Every claim of a job has a higher fence than the one before, and a worker can change the job's row only while
the row has the fence of its claim. So a worker that was suspended for longer than its lease, and replaced by
another, can no longer change anything (a fencing token: M. Kleppmann, Designing Data-Intensive Applications,
chapter 8).
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Float,
    Select,
    Table,
    Update,
    bindparam,
    exc,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from service.registry.database import from_now, is_duplicate, now
from service.registry.errors import FencedOff
from service.registry.job_errors import HUNG
from service.registry.jobs import is_blocked
from service.registry.tables import CLAIMED_STATES, INDEPENDENT, UNFINISHED_STATES, JobRow, ModelRow

ClaimState = Literal["held", "cancel_requested", "lost"]
"""`cancel_requested`: by a client; `lost`: another worker has the job, or may have it."""


@dataclass(frozen=True)
class Claim:
    """The right to run a job, until another worker takes the job over."""

    job_id: str
    model_id: str
    fence: int
    attempt: int
    request_id: str | None = None
    """The request that submitted the job, and the trace that it belongs to, for the log."""
    trace_id: str | None = None
    export_id: str | None = None
    """The export, if the job draws a part of one."""


_Query = Select[*tuple[Any, ...]]
_CLAIM_COLUMNS = (
    JobRow.model_id,
    JobRow.fence,
    JobRow.attempt,
    JobRow.request_id,
    JobRow.trace_id,
    JobRow.export_id,
)
"""The fields of a Claim after the job's id."""


def worker_name(pid: int) -> str:
    """Return the name under which the worker with that process id, on this machine, claims jobs."""
    return f"{socket.gethostname()}:{pid}"


class WaitingJob(NamedTuple):
    """A queued job that could be claimed now."""

    id: str
    project_id: str
    model_id: str
    sequence: int
    priority: int = 0
    """The largest of its own priority and those of the changes of its model that wait for it."""
    is_export: bool = False
    """Whether it draws a part of an export."""


def find_waiting(session: Session, queues: Sequence[str]) -> list[WaitingJob]:
    """Return the jobs of these queues that could be claimed now.

    Of each model these are at most one change, and one evaluation of each priority. Of an export they are all
    parts that are queued: there are few at a time (exports.PARTS_AHEAD).
    """
    queries, values = _waiting_statements(), {"queues": list(queues)}
    *queued, parts = (session.execute(query, values) for query in queries)
    return [
        *(WaitingJob(*row) for rows in queued for row in rows),
        *(WaitingJob(job, project, model, number, is_export=True) for job, project, model, number in parts),
    ]


@cache
def _waiting_statements() -> tuple[_Query, _Query, _Query]:
    """Return the queries of `find_waiting`: for changes, evaluations and parts of exports."""
    is_change, is_export = JobRow.operation.not_in(INDEPENDENT), JobRow.operation == "export"
    is_evaluation = JobRow.operation == "evaluate"
    is_here = JobRow.queue.in_(bindparam("queues", expanding=True))
    # The changes of a model run in their order, so the first of them has the priority of all behind it.
    first = (
        select(func.min(JobRow.sequence).label("sequence"), func.max(JobRow.priority).label("priority"))
        .where(JobRow.state.in_(UNFINISHED_STATES), is_change)
        .group_by(JobRow.model_id)
        .subquery()
    )
    evaluations = (
        select(func.min(JobRow.sequence).label("sequence"), JobRow.priority)
        .where(JobRow.state == "queued", is_evaluation, is_here)
        .group_by(JobRow.model_id, JobRow.priority)
        .subquery()
    )
    can_start = [JobRow.state == "queued", JobRow.cancel_requested.is_(False), is_here]
    changes, evaluations_first = (
        select(JobRow.id, ModelRow.project_id, JobRow.model_id, JobRow.sequence, each.c.priority)
        .join(each, each.c.sequence == JobRow.sequence)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(*can_start)
        for each in (first, evaluations)
    )
    parts = (
        select(JobRow.id, ModelRow.project_id, JobRow.model_id, JobRow.sequence)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(*can_start, is_export)
    )
    return changes, evaluations_first, parts


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float) -> Claim | None:
    """Claim the job. None if it is not queued, or if an earlier change of its model is not finished.

    The attempt is counted now and not when it fails, because a process that runs out of memory is killed
    before it can count.
    """
    try:
        with session.begin_nested():
            values = {"job": job_id, "claimed_by": worker, "lease_seconds": lease_seconds}
            row = session.execute(_claim_statement(), values).one_or_none()
    except exc.IntegrityError as error:
        if not is_duplicate(error):
            raise
        # one_running_job_per_model: another worker has just claimed an earlier job
        return None
    return None if row is None else Claim(job_id, *row)


@cache
def _claim_statement() -> ReturningUpdate[*tuple[Any, ...]]:
    """Return the statement of `claim`. It is built once: that costs as much time as to run it."""
    return (
        update(cast(Table, JobRow.__table__))
        .where(
            JobRow.id == bindparam("job"),
            JobRow.state == "queued",
            JobRow.cancel_requested.is_(False),
            ~is_blocked(),
        )
        .values(
            state="running",
            fence=JobRow.fence + 1,
            attempt=JobRow.attempt + 1,
            worker=bindparam("claimed_by"),
            lease_until=from_now(bindparam("lease_seconds", type_=Float)),
            started_at=func.coalesce(JobRow.started_at, now()),
            progress=None,
            started_from=select(ModelRow.head).where(ModelRow.id == JobRow.model_id).scalar_subquery(),
            progress_at=now(),
            stalls_at=None,
        )
        .returning(*_CLAIM_COLUMNS)
    )


def find_held(session: Session, job_id: str, *, worker: str) -> Claim | None:
    """Return the claim of a job that this worker holds, after an attempt to claim it got no answer."""
    query = select(*_CLAIM_COLUMNS).where(
        JobRow.id == job_id, JobRow.worker == worker, JobRow.state.in_(CLAIMED_STATES)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else Claim(job_id, *row)


def heartbeat(
    session: Session,
    claim: Claim,
    *,
    lease_seconds: float,
    stall_seconds: float | None = None,
    progress: Mapping[str, Any] | None = None,
) -> ClaimState:
    """Extend the lease, unless another worker has taken the job over. Takes the job back as `take_back` does.

    stall_seconds: in how many seconds the sweeper may end this claim, unless another heartbeat comes. None
        leaves that time as it is.
    progress: the progress of the job, if there was any since the last heartbeat.
    """
    values: dict[str, Any] = {"lease_until": from_now(lease_seconds)}
    if stall_seconds is not None:
        values["stalls_at"] = from_now(stall_seconds)
    if progress is not None:
        values |= {"progress": dict(progress), "progress_at": now()}
    extend = _fenced(claim).values(values).returning(JobRow.cancel_requested)
    cancel_requested = session.execute(extend).scalar_one_or_none()
    if cancel_requested is None:
        return "held" if take_back(session, claim, lease_seconds=lease_seconds) else "lost"
    return "cancel_requested" if cancel_requested else "held"


def take_back(session: Session, claim: Claim, *, lease_seconds: float) -> bool:
    """Make the claim valid again if its lease ran out and nobody has claimed the job since.

    This is how a worker that could not reach the database for longer than its lease keeps its job. The
    attempt goes on: it does not count twice. Returns whether the job was taken back. A claim that its worker
    released, or that was ended because it stalled, cannot be taken back: its row names no worker.
    """
    take = (
        update(JobRow)
        .where(
            JobRow.id == claim.job_id,
            JobRow.fence == claim.fence,
            JobRow.state == "queued",
            JobRow.worker.is_not(None),
            JobRow.cancel_requested.is_(False),
        )
        .values(state="running", lease_until=from_now(lease_seconds), stalls_at=None)
        .execution_options(synchronize_session=False)
    )
    return cast(CursorResult[Any], session.execute(take)).rowcount == 1


def is_held(session: Session, claim: Claim) -> bool:
    """Return whether the claim is valid; if it is, lock the job's row until the transaction ends."""
    held = select(JobRow.id).where(*_is_held(claim)).with_for_update()
    return session.scalar(held) is not None


def require_held(session: Session, claim: Claim) -> None:
    """Lock the job's row for the claim until the transaction ends. Raises FencedOff."""
    if not is_held(session, claim):
        raise FencedOff(claim.job_id, claim.fence)


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


def release(session: Session, claim: Claim, *, store_failed: bool = False) -> None:
    """Requeue the job; the attempt does not count. Raises FencedOff.

    store_failed: the artifact store does not answer, so that another try should come a little later. Without
        it the worker shuts down, and another may claim the job at once.
    """
    _change(
        session,
        claim,
        state="queued",
        attempt=JobRow.attempt - 1,
        notified_at=now() if store_failed else None,
        store_failures=JobRow.store_failures + (1 if store_failed else 0),
        **_NO_WORKER,
    )


def count_store_failures(session: Session, claim: Claim) -> int:
    """Return how often the job was released because the artifact store did not answer."""
    return session.scalars(select(JobRow.store_failures).where(JobRow.id == claim.job_id)).one()


def end_stalled(session: Session, claim: Claim) -> None:
    """End an attempt that makes no progress: requeue the job, or let it fail. Raises FencedOff.

    It fails as `stalled` if this was its last attempt.
    """
    last = cast(
        CursorResult[Any],
        session.execute(
            _fenced(claim)
            .where(JobRow.attempt >= JobRow.max_attempts)
            .values(state="failed", error=HUNG, lease_until=None, finished_at=now())
        ),
    )
    if last.rowcount == 0:
        _change(session, claim, state="queued", notified_at=None, **_NO_WORKER)


_NO_WORKER: Mapping[str, Any] = {"worker": None, "lease_until": None, "progress": None, "stalls_at": None}
"""The columns of a queued job that no worker can take back."""


def _change(session: Session, claim: Claim, **values: Any) -> None:
    changed = cast(CursorResult[Any], session.execute(_fenced(claim).values(values)))
    if changed.rowcount != 1:
        raise FencedOff(claim.job_id, claim.fence)


def _fenced(claim: Claim) -> Update:
    """Return an UPDATE of the job's row that matches it only while this claim is valid."""
    return update(JobRow).where(*_is_held(claim)).execution_options(synchronize_session=False)


def _is_held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (JobRow.id == claim.job_id, JobRow.fence == claim.fence, JobRow.state.in_(CLAIMED_STATES))
