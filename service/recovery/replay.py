"""Forget again, in a restored database, what was forgotten after its backup.

The versions that hold a label which was forgotten since are revoked at once, jobs that would learn it are
cancelled, and the forget is queued again. Uploaded images that were deleted since cannot be learned, and the
sweeper deletes them. Keys that were revoked since are revoked, and all sessions end.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.recovery import erasure_log, withdrawals
from service.recovery.erasures import AnyErasure, Erasure, ImageErasure, ModelErasure, VersionErasure
from service.recovery.withdrawals import Withdrawal
from service.registry import (
    aliases,
    audit,
    dataset_deletions,
    deletions,
    exports,
    jobs,
    labels,
    purging,
    sessions,
    version_deletions,
    versions,
)
from service.registry.aliases import AliasRequest
from service.registry.database import now
from service.registry.deletions import DeletionRequest
from service.registry.errors import VersionInUse
from service.registry.job_requests import JobRequest
from service.registry.job_specs import ForgetSpec
from service.registry.tables import (
    UNFINISHED_STATES,
    DatasetRow,
    ExportRow,
    JobRow,
    ModelRow,
    Operation,
    VersionRow,
)
from service.registry.version_deletions import DeletionRequest as VersionDeletionRequest


def replay(session: Session, erasures: Sequence[AnyErasure], *, max_attempts: int) -> list[AnyErasure]:
    """Forget again what the database does not know was forgotten. Returns the erasures it did not know.

    Nothing can be drawn from the versions that hold such a label from the commit on. The forgets themselves
    are queued jobs, which workers run like any other. All sessions end: it is unknown which had ended.
    """
    unknown = erasure_log.find_unknown(session, erasures)
    # Versions come first: no forget that is queued again may start from them. Images come last: these forgets
    # may measure with them, so the deletion waits for them.
    for erasure in sorted(unknown, key=_turn):
        if isinstance(erasure, Withdrawal):
            continue
        if isinstance(erasure, VersionErasure):
            _delete_version_again(session, erasure)
        elif isinstance(erasure, ModelErasure):
            _delete_again(session, erasure)
        elif isinstance(erasure, ImageErasure):
            _delete_images_again(session, erasure)
        else:
            _forget_again(session, erasure, max_attempts=max_attempts)
    withdrawals.repeat(session, [one for one in unknown if isinstance(one, Withdrawal)])
    sessions.end_all(session)
    erasure_log.record_replayed(session, unknown)
    return unknown


def _turn(erasure: AnyErasure) -> int:
    return 0 if isinstance(erasure, VersionErasure) else 2 if isinstance(erasure, ImageErasure) else 1


def _delete_version_again(session: Session, erasure: VersionErasure) -> None:
    """Delete the version, and the aliases that the backup still has for it.

    In the backup it may be the head, or a job may need it. Then it stays, and the audit log says so.
    """
    model = jobs.lock_model(session, session.get_one(ModelRow, erasure.model_id))
    version = versions.find(session, model, erasure.version)
    reason = f"replay of the deletion of {erasure.finished_at}"
    try:
        with session.begin_nested():
            for name, number in aliases.find_all_of(session, [model.id])[model.id].items():
                if number == erasure.version:
                    alias = aliases.find(session, model, name)
                    aliases.remove(session, alias, model, AliasRequest(reason=reason))
            while (export_id := exports.find_unfinished(session, model.id, version.number)) is not None:
                exports.stop(session, session.get_one(ExportRow, export_id), "cancelled")
            version_deletions.delete_version(session, model, version, VersionDeletionRequest())
    except VersionInUse as error:
        _record(session, model.id, model.project_id, version=erasure.version, refused=error.message)
        return
    _record(session, model.id, model.project_id, version=erasure.version)


def _delete_again(session: Session, erasure: ModelErasure) -> None:
    model = session.get_one(ModelRow, erasure.model_id)
    claimed = update(JobRow).where(JobRow.model_id == model.id, JobRow.state.in_(UNFINISHED_STATES))
    # No worker runs them: they were running when the backup was made.
    cancelled = claimed.values(state="cancelled", cancel_requested=True, lease_until=None, finished_at=now())
    session.execute(cancelled.execution_options(synchronize_session=False))
    request = DeletionRequest(reference=f"replay of the deletion of {erasure.finished_at}")
    deletions.delete_model(session, model, purge=request if erasure.purge else None)
    _record(session, model.id, model.project_id, model=model.id)


def _delete_images_again(session: Session, erasure: ImageErasure) -> None:
    key = (erasure.project_id, erasure.dataset)
    row = session.get_one(DatasetRow, key, with_for_update=True, populate_existing=True)
    unfinished = (
        select(JobRow)
        .join(JobRow.model)
        .where(
            ModelRow.project_id == erasure.project_id,
            JobRow.dataset == erasure.dataset,
            JobRow.operation == "learn",
            JobRow.state.in_(UNFINISHED_STATES),
        )
    )
    for job in session.scalars(unfinished).all():
        if set(job.sources.values()) & set(erasure.labels):
            jobs.cancel(session, job.id)
    names = erasure_log.find_images(session, erasure)
    dataset_deletions.withdraw(session, row, names)
    _record(
        session,
        erasure.dataset,
        erasure.project_id,
        erasure=erasure.id,
        dataset=erasure.dataset,
        labels=names,
    )


def _forget_again(session: Session, erasure: Erasure, *, max_attempts: int) -> None:
    earlier = session.scalar(select(JobRow).where(JobRow.id == erasure.job_id))
    if earlier is not None and earlier.state == "succeeded":  # known, but not the purge requested after it
        purging.request_purge(session, earlier)
        return
    model = jobs.lock_model(session, session.get_one(ModelRow, erasure.model_id))
    for job in _unfinished(session, model, "learn", erasure):
        jobs.cancel(session, job.id)
    for job in _unfinished(session, model, "forget", erasure):  # they forget again by themselves, but later
        _revoke(session, model, job, set(job.labels) & set(erasure.labels))
        if erasure.purge:
            purging.request_purge(session, job)
    statuses = labels.projected_statuses(session, model)
    held = tuple(name for name in erasure.labels if statuses.get(name, "forgotten") != "forgotten")
    if not held:
        return
    spec = ForgetSpec(
        strategy=erasure.strategy,
        params=erasure.params,
        dataset=model.dataset,
        seed=erasure.seed,
        acceptance=erasure.acceptance,
        labels=held,
        guarantee="exact" if erasure.guarantee == "exact" else "approximate",
        purge=erasure.purge,
    )
    request = JobRequest(reference=f"replay of {erasure.job_id}")
    job = jobs.submit(session, model, spec, statuses, max_attempts=max_attempts, request=request).job
    _revoke(session, model, job, set(held))
    _record(session, job.id, model.project_id, erasure=erasure.job_id, model=model.id, labels=list(held))
    session.flush()


def _revoke(session: Session, model: ModelRow, job: JobRow, names: AbstractSet[str]) -> None:
    """Let nobody draw from the versions that hold these labels, before the job has forgotten them again.

    They stay revoked if it fails, or if a client cancels it.
    """
    for version in session.scalars(select(VersionRow).where(VersionRow.model_id == model.id)):
        if version.revoked_by is None and names & set(version.labels):
            version.revoked_by = job.id
    session.flush()
    exports.stop_unusable(session, model.id)


def _record(session: Session, resource: str, project_id: str, **details: Any) -> None:
    """Write to the audit log that an erasure was repeated."""
    audit.append(
        session, "erasure.replay", resource, actor=audit.SERVICE, project_id=project_id, details=details
    )


def _unfinished(
    session: Session, model: ModelRow, operation: Operation, erasure: Erasure
) -> Sequence[JobRow]:
    """Return the model's unfinished jobs of that operation that are about a label of the erasure."""
    query = select(JobRow).where(
        JobRow.model_id == model.id,
        JobRow.operation == operation,
        JobRow.state.in_(UNFINISHED_STATES),
        JobRow.cancel_requested.is_(False),
    )
    return [job for job in session.scalars(query) if set(job.labels) & set(erasure.labels)]
