"""Jobs as a client sees them: submitted, found, cancelled. job_lists.py lists them.

The worker's side of a job is in claims.py and publishing.py, the sweeper's in sweeping.py.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, exists, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased, contains_eager, joinedload, selectinload

from service.registry import (
    datasets,
    forgets,
    image_erasures,
    job_events,
    job_requests,
    labels,
    purging,
    versions,
)
from service.registry.acceptance import freeze_criteria
from service.registry.database import from_now, now
from service.registry.errors import (
    ImagesDeleted,
    JobAlreadyFinished,
    LabelAlreadyLearned,
    UnknownJob,
    UnknownModel,
)
from service.registry.job_requests import NO_REQUEST, JobRequest
from service.registry.job_specs import (
    ChangeSpec,
    EvaluateSpec,
    ForgetSpec,
    JobSpec,
    LabelsSpec,
    LearnSpec,
    Statuses,
)
from service.registry.tables import (
    CLAIMED_STATES,
    INDEPENDENT,
    UNFINISHED_STATES,
    JobRow,
    ModelRow,
    new_id,
)

MAX_QUEUE_POSITION = 100
"""The largest queue position that is shown. It stands for itself and for every larger one."""


EXACTNESS_ENDS = (
    "{} was temporary, so that forgetting it was exact. Once it is permanent, forgetting it is approximate, "
    "unless the request to forget asks for guarantee 'exact', which trains a new network."
)
"""The line that a client reads of a job that makes temporary labels permanent."""

_FIRST = [  # the index ix_jobs_state_sequence has them in this order
    select(JobRow.sequence).where(JobRow.state == state, JobRow.export_id.is_(None)).limit(MAX_QUEUE_POSITION)
    for state in UNFINISHED_STATES
]
OLDEST = union_all(*(select(each.order_by(JobRow.sequence).subquery().c.sequence) for each in _FIRST))
"""The sequences of the oldest unfinished jobs: MAX_QUEUE_POSITION of them or more."""
_COUNTS = [
    select(func.count())
    .select_from(each.where(JobRow.sequence < bindparam("sequence")).subquery())
    .scalar_subquery()
    for each in _FIRST
]
_AHEAD = select(sum(_COUNTS[1:], _COUNTS[0]))
"""How many unfinished jobs are older than `sequence`; if there are many, MAX_QUEUE_POSITION or more."""


SHOWN = (
    selectinload(JobRow.purge),
    selectinload(JobRow.follower),
    selectinload(JobRow.repeated_requests),
    joinedload(JobRow.image_erasure),
    contains_eager(JobRow.model),
)
"""The rows that are shown with a job, for a query that joins its model."""


class Submitted(NamedTuple):
    """The answer to a request for a job."""

    job: JobRow
    """The new job; or the newest one that has done all of it already, or will have."""
    already_forgotten: Mapping[str, str]
    """{label: the job that forgot it} of the labels left out. The answered job may not have ended yet."""
    is_new: bool
    follower: JobRow | None = None
    """The new job that resizes the network afterwards, if the spec has one."""


def submit(
    session: Session,
    model: ModelRow,
    spec: JobSpec,
    statuses: Statuses,
    *,
    max_attempts: int,
    request: JobRequest = NO_REQUEST,
) -> Submitted:
    """Insert a queued job and return it. The caller sends its wake-up message after the commit.

    model: locked by `lock_model`, so that its statuses stay as they are until the commit.
    statuses: as they will be once the queue has run (`labels.projected_statuses`), read after the lock.

    The rules are checked against these statuses. Labels that are
    forgotten already with all that is asked for are left out of a forget (forgets.py). If none remains, no
    job is inserted, and the job that forgot them, or is to, is returned. If the spec requests a
    purge, or the deletion of images, that is also requested for the jobs that forgot the labels left out. The
    acceptance criteria are frozen (acceptance.py). If the spec has a resize, that becomes a job right behind
    the new one; no other job of the model gets between them. Raises what `check` raises, ImagesDeleted, and
    TooManyRepetitions.
    """
    accepted = _accept(session, model, spec, statuses)
    if isinstance(accepted.spec, LearnSpec):
        _check_images(session, model, accepted.spec, statuses)
    purge = isinstance(spec, ForgetSpec) and spec.purge
    erase_images = isinstance(spec, ForgetSpec) and spec.erase_images
    for earlier in accepted.earlier:
        if purge:
            purging.request_purge(session, earlier)
        if erase_images:
            names = [name for name, job in accepted.done_by.items() if job.id == earlier.id]
            image_erasures.request(session, earlier, names)
    left_out = {name: job.id for name, job in accepted.done_by.items()}
    if accepted.spec is None:
        answer = accepted.earlier[-1]
        job_requests.keep_repeated(session, answer, request)
        return Submitted(answer, left_out, is_new=False)
    columns = accepted.spec.columns()
    if isinstance(accepted.spec, ChangeSpec):
        columns["acceptance"] = freeze_criteria(
            session, model, accepted.spec.acceptance, forgets=accepted.held
        )
    columns |= {"max_attempts": max_attempts, "already_forgotten": left_out or None}
    made_permanent = _find_made_permanent(accepted.spec, statuses)
    job = _insert(session, model, request, columns | {"made_permanent": made_permanent or None})
    if made_permanent:
        job_events.add_log(session, job.id, EXACTNESS_ENDS.format(", ".join(map(repr, made_permanent))))
    if purge:
        purging.request_purge(session, job)
    if erase_images:
        image_erasures.request(session, job, job.labels)
    follower = None
    if isinstance(accepted.spec, LabelsSpec) and (resize := accepted.spec.resize):
        columns = resize.columns() | {"max_attempts": max_attempts, "follows": job.id}
        columns["acceptance"] = freeze_criteria(session, model, resize.acceptance)
        following = replace(request, retry_of=None, priority=job.priority)
        follower = _insert(session, model, following, columns)
    return Submitted(job, left_out, is_new=True, follower=follower)


def _find_made_permanent(spec: JobSpec, statuses: Statuses) -> list[str]:
    """Return the temporary labels that the job makes permanent."""
    if not isinstance(spec, LearnSpec) or spec.retention != "permanent":
        return []
    return [name for name in spec.labels if statuses.get(name) == "temporary"]


def _insert(session: Session, model: ModelRow, request: JobRequest, columns: Mapping[str, Any]) -> JobRow:
    job = JobRow(
        id=new_id("job"),
        model_id=model.id,
        state="queued",
        **request.columns(model, columns["operation"]),
        **columns,
    )
    session.add(job)
    session.flush()
    return job


def _check_images(session: Session, model: ModelRow, spec: LearnSpec, statuses: Statuses) -> None:
    """Raise ImagesDeleted if images to learn from were deleted, and let none be deleted until the commit."""
    row = datasets.lock_for_learning(session, spec.dataset, project=model.project_id)
    sources = [spec.renamed.get(name, name) for name in spec.labels]
    if row is None or set(sources).isdisjoint(row.deleted_labels or ()):
        return
    deleted = [  # making a temporary label permanent needs no image
        source
        for name, source in zip(spec.labels, sources, strict=True)
        if source in (row.deleted_labels or ()) and statuses.get(name) != "temporary"
    ]
    if deleted:
        raise ImagesDeleted(spec.dataset, deleted)


def check(session: Session, model: ModelRow, spec: JobSpec, statuses: Statuses) -> None:
    """Check whether `submit` would accept the spec now. Writes nothing, so that a reading session will do.

    Raises StaleBase, LabelAlreadyLearned, UnknownLabel, ForgottenWithLess, ForgetUnfinished, NotExact,
    NothingToFollow, ModelHasNoVersion, NoPermanentLabel; for an evaluation UnknownVersion, VersionPurged,
    VersionRevoked.
    """
    _accept(session, model, spec, statuses)


class _Accepted(NamedTuple):
    spec: JobSpec | None
    """The spec without the labels that are forgotten already; None if no label remains."""
    done_by: Mapping[str, JobRow] = {}
    """{label: the job that forgot it, or will} of the labels left out."""
    held: Collection[str] = ()
    """The labels to forget that are not forgotten when the job runs."""

    @property
    def earlier(self) -> list[JobRow]:
        """The jobs that forgot the labels left out, each once, the newest at the end."""
        return sorted({job.id: job for job in self.done_by.values()}.values(), key=lambda job: job.sequence)


def _accept(session: Session, model: ModelRow, spec: JobSpec, statuses: Statuses) -> _Accepted:
    if isinstance(spec, EvaluateSpec):
        version = versions.find_measurable(session, model, spec.evaluated_version)
        return _Accepted(replace(spec, evaluated_version=version.number))
    spec.check_base(model)
    if isinstance(spec, ForgetSpec):
        left = forgets.left_to_do(session, model, spec, statuses)
        if left.spec is not None:
            left.spec.check(model, statuses)
            left.spec.check_resize(model, statuses)
        return _Accepted(
            left.spec, left.done_by, [name for name in spec.labels if statuses.get(name) != "forgotten"]
        )
    try:
        spec.check(model, statuses)
        if isinstance(spec, LabelsSpec):
            spec.check_resize(model, statuses)
    except LabelAlreadyLearned as error:
        holder = _find_holder(session, model, error.labels)
        raise LabelAlreadyLearned(model.name, error.labels, holder) from None
    return _Accepted(spec)


def find(session: Session, job_id: str, *, project: str | None = None) -> JobRow:
    """Return the job of that id. Raises UnknownJob, also for a job of another project if one is given."""
    query = select(JobRow).join(JobRow.model).where(JobRow.id == job_id)
    if project is not None:  # a client asks, who sees the export and not its jobs
        query = query.where(ModelRow.project_id == project, JobRow.export_id.is_(None))
    job = session.scalar(query.options(contains_eager(JobRow.model)))
    if job is None:
        raise UnknownJob(job_id)
    return job


def find_each(session: Session, job_ids: Sequence[str]) -> list[JobRow]:
    """Return the jobs of these ids, of any project. Those that no client sees are left out."""
    query = select(JobRow).join(JobRow.model).where(JobRow.id.in_(job_ids), JobRow.export_id.is_(None))
    return list(session.scalars(query.options(*SHOWN)))


def queue_position(session: Session, job: JobRow) -> int | None:
    """Return how many unfinished jobs were accepted before this one; None once it is no longer queued.

    MAX_QUEUE_POSITION stands for so many jobs or more: a poll costs the same however long the queue is.
    """
    if job.state != "queued":
        return None
    found = session.scalar(_AHEAD, {"sequence": job.sequence})
    return min(found or 0, MAX_QUEUE_POSITION)


def queue_positions(session: Session, rows: Sequence[JobRow]) -> dict[str, int]:
    """Return {id: queue position} of those of these jobs that are queued, with one query."""
    queued = [row for row in rows if row.state == "queued"]
    if not queued:
        return {}
    sequences = sorted(session.scalars(OLDEST))
    return {row.id: min(bisect_left(sequences, row.sequence), MAX_QUEUE_POSITION) for row in queued}


def is_blocked() -> ColumnElement[bool]:
    """Return an SQL condition on jobs: an earlier change of the same model is not finished.

    Evaluate jobs and exports neither wait for other jobs nor delay them, because a version never changes.
    """
    earlier = aliased(JobRow)
    return exists().where(
        JobRow.operation.not_in(INDEPENDENT),
        earlier.operation.not_in(INDEPENDENT),
        earlier.model_id == JobRow.model_id,
        earlier.sequence < JobRow.sequence,
        earlier.state.in_(UNFINISHED_STATES),
    )


def is_queue_stalled(session: Session, *, seconds: float) -> bool:
    """Whether jobs have waited that long while no worker ended any or made progress with one.

    Most likely no worker is running, or each hangs: a job that is claimed does not prove that one works.
    """
    before = from_now(-seconds)
    waiting = exists().where(JobRow.state == "queued", JobRow.created_at < before)
    has_ended = JobRow.started_at.is_not(None) & (JobRow.finished_at >= before)
    progresses = JobRow.state.in_(CLAIMED_STATES) & (JobRow.progress_at >= before)
    has_run = exists().where(or_(progresses, has_ended))
    return bool(session.scalar(select(waiting & ~has_run)))


def cancel(session: Session, job_id: str) -> JobRow:
    """Cancel the job: a queued one at once, a running one as soon as its worker notices.

    From then on the job cannot publish. Cancelling it again changes nothing.
    Raises UnknownJob, JobAlreadyFinished.
    """
    query = select(JobRow).where(JobRow.id == job_id).with_for_update()
    job = session.scalar(query.execution_options(populate_existing=True))
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


def lock_model(session: Session, model: ModelRow) -> ModelRow:
    """Lock the model's row until the transaction ends, so that its jobs are accepted one after another.

    Raises UnknownModel if it has been deleted meanwhile.
    """
    locked = session.get_one(ModelRow, model.id, with_for_update=True, populate_existing=True)
    if locked.deleted_at is not None:
        raise UnknownModel(locked.name)
    return locked


def _find_holder(session: Session, model: ModelRow, names: Collection[str]) -> str | None:
    """Return the id of the newest job that learned (or will learn) one of these labels."""
    holders = [
        job
        for job, spec in labels.unfinished_changes(session, model.id)
        if spec.operation == "learn" and set(job.labels) & set(names)
    ]
    if holders:
        return holders[-1].id
    published = labels.find_all(session, model.id)
    numbers = [published[name].learned_version for name in names if name in published]
    return versions.find(session, model, max(numbers)).job_id if numbers else None
