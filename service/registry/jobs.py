"""Jobs as a client sees them: asked for, found, listed, cancelled.

The worker's side of a job is in claims.py and publishing.py, the sweeper's in sweeping.py.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from service.registry import labels as label_rules
from service.registry import purging, versions
from service.registry.acceptance import frozen
from service.registry.database import from_now, now
from service.registry.errors import JobAlreadyFinished, StaleBase, UnknownJob
from service.registry.tables import HELD, UNFINISHED, JobRow, ModelRow, Operation, new_id


def request(
    session: Session,
    model: ModelRow,
    operation: Operation,
    *,
    strategy: str,
    labels: Sequence[str],
    dataset: str,
    renamed: Mapping[str, str] | None = None,
    retention: str | None,
    params: Mapping[str, Any],
    acceptance: Mapping[str, Any],
    seed: int,
    base_version: int | None,
    evaluated_version: int | None = None,
    request_id: str | None,
    max_attempts: int,
    purge: bool = False,
) -> JobRow:
    """Record the job as queued, or say why not; ring its bell after the commit.

    The rules are checked against what the labels will be once the queue has run. Forgetting what is already
    forgotten (or about to be) makes no second job: it answers with the one that forgot it, whose purge can
    be asked for this way.
    `acceptance` is frozen with the model's own and with what earlier forgets promised. `evaluated_version`:
    what an evaluate job measures.
    Raises LabelAlreadyLearned, UnknownLabel, WouldEmptyModel, ModelHasNoVersion, NothingPermanent, StaleBase,
    UnknownVersion, VersionRevoked.
    """
    model = locked(session, model)
    if base_version is not None and base_version != model.head:
        raise StaleBase(base_version, model.head)
    status = label_rules.projected(session, model)
    asked = list(labels)
    if operation == "learn":
        label_rules.check_learn(model.name, asked, status, retention=retention)
    elif operation == "forget":
        held = [name for name in asked if status.get(name) != "forgotten"]
        before = _forgotten_by(session, model, [name for name in asked if name not in held])
        for job in before if purge else ():
            purging.ask(session, job)
        if not held:
            return before[-1]
        asked = held
        label_rules.check_forget(model.name, asked, status)
    elif operation == "evaluate":
        evaluated_version = versions.measurable(session, model, evaluated_version).number
    else:
        label_rules.check_resize(model.name, status)
    forgets = asked if operation == "forget" else ()
    job = JobRow(
        id=new_id("job"),
        model_id=model.id,
        operation=operation,
        strategy=strategy,
        labels=asked,
        dataset=dataset,
        renamed=dict(renamed) if renamed else None,
        retention=retention,
        params=dict(params),
        acceptance={} if operation == "evaluate" else frozen(session, model, acceptance, forgets=forgets),
        seed=seed,
        base_version=base_version,
        evaluated_version=evaluated_version,
        state="queued",
        max_attempts=max_attempts,
        request_id=request_id,
    )
    session.add(job)
    session.flush()
    if purge:
        purging.ask(session, job)
    return job


def find(session: Session, job_id: str) -> JobRow:
    """The job of that id. Raises UnknownJob."""
    job = session.scalar(select(JobRow).where(JobRow.id == job_id))
    if job is None:
        raise UnknownJob(job_id)
    return job


def page(
    session: Session,
    *,
    model: ModelRow | None = None,
    state: str | None = None,
    limit: int,
    after: str | None = None,
) -> tuple[list[JobRow], bool]:
    """Jobs, newest first, from behind the job `after`; and whether there are more. Raises UnknownJob.

    `state` is a state as shown: `cancelling` finds what is being cancelled, and no other state does.
    """
    query = select(JobRow).order_by(JobRow.sequence.desc()).limit(limit + 1)
    query = query.options(selectinload(JobRow.purge))
    if model is not None:
        query = query.where(JobRow.model_id == model.id)
    if state == "cancelling":
        query = query.where(JobRow.state.in_(UNFINISHED), JobRow.cancel_requested.is_(True))
    elif state in UNFINISHED:
        query = query.where(JobRow.state == state, JobRow.cancel_requested.is_(False))
    elif state is not None:
        query = query.where(JobRow.state == state)
    if after is not None:
        query = query.where(JobRow.sequence < find(session, after).sequence)
    rows = list(session.scalars(query))
    return rows[:limit], len(rows) > limit


def queue_position(session: Session, job: JobRow) -> int | None:
    """How many unfinished jobs were accepted before this one; null once it is no longer queued."""
    return queue_positions(session, [job]).get(job.id)


def queue_positions(session: Session, rows: Sequence[JobRow]) -> dict[str, int]:
    """{id: queue position} of the queued ones among `rows`, by one question for all of them."""
    queued = [row for row in rows if row.state == "queued"]
    if not queued:
        return {}
    last = max(row.sequence for row in queued)
    ahead = select(JobRow.sequence).where(JobRow.state.in_(UNFINISHED), JobRow.sequence < last)
    sequences = sorted(session.scalars(ahead))
    return {row.id: bisect_left(sequences, row.sequence) for row in queued}


def blocked() -> ColumnElement[bool]:
    """In a query of jobs: an earlier change of the same model is not finished.

    Measuring a version neither waits nor keeps others waiting: a version never changes.
    """
    earlier = aliased(JobRow)
    return exists().where(
        JobRow.operation != "evaluate",
        earlier.operation != "evaluate",
        earlier.model_id == JobRow.model_id,
        earlier.sequence < JobRow.sequence,
        earlier.state.in_(UNFINISHED),
    )


def nobody_hears(session: Session, *, seconds: float) -> bool:
    """Whether jobs have been queued that long and no worker ran any meanwhile: is there a worker at all?"""
    since = from_now(-seconds)
    waiting = exists().where(JobRow.state == "queued", JobRow.created_at < since)
    worked = JobRow.started_at.is_not(None) & (JobRow.finished_at >= since)
    heard = exists().where(or_(JobRow.state.in_(HELD), worked))
    return bool(session.scalar(select(waiting & ~heard)))


def cancel(session: Session, job_id: str) -> JobRow:
    """Cancel a queued job now; ask a running one to stop. Once accepted, the job never publishes.

    Asking again changes nothing. Raises UnknownJob, JobAlreadyFinished.
    """
    locked = select(JobRow).where(JobRow.id == job_id).with_for_update()
    job = session.scalar(locked.execution_options(populate_existing=True))
    if job is None:
        raise UnknownJob(job_id)
    if job.state == "cancelled":
        return job
    if job.done:
        raise JobAlreadyFinished(job.id, job.state)
    job.cancel_requested = True
    if job.state == "queued":
        job.state = "cancelled"
        job.finished_at = now()
    session.flush()
    session.refresh(job)
    return job


def locked(session: Session, model: ModelRow) -> ModelRow:
    """The model row, locked: jobs of one model are accepted one after another, so sequence is their order."""
    return session.get_one(ModelRow, model.id, with_for_update=True, populate_existing=True)


def _forgotten_by(session: Session, model: ModelRow, names: Sequence[str]) -> list[JobRow]:
    """The jobs that forgot (or will forget) these labels last, the newest at the end."""
    published = label_rules.statuses(session, model.id)
    last = {name: row.forgotten_by for name, row in published.items() if name in names}
    for job in label_rules.unfinished(session, model.id):
        last |= {name: job.id for name in job.labels if name in names}
    found = [find(session, job_id) for job_id in {*last.values()} if job_id is not None]
    return sorted(found, key=lambda job: job.sequence)
