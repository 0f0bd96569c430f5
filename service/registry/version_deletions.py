"""Deleting versions: the row stays as a tombstone, the files go, all but the descriptive ones.

The tombstone keeps the numbers, the lineage and the receipts as they are. From the commit of the request on,
nobody may draw from the version, and no job starts from it. The sweeper then deletes the files, as those of a
purge: what the rows say is changed first and `done` is written last, so that the next sweep continues an
interrupted deletion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import failpoints
from service.registry import aliases, artifact_references, exports, purging
from service.registry.artifacts import Artifacts
from service.registry.database import now
from service.registry.errors import VersionInUse
from service.registry.tables import (
    UNFINISHED_STATES,
    JobRow,
    ModelRow,
    ReportRow,
    VersionDeletionRow,
    VersionRow,
)
from service.registry.version_files import DESCRIPTIVE_FILES


@dataclass(frozen=True)
class DeletionRequest:
    """What is recorded of a request to delete a version."""

    created_by: str | None = None
    request_id: str | None = None


def delete_version(session: Session, model: ModelRow, version: VersionRow, request: DeletionRequest) -> bool:
    """Delete a version and its full reports. Returns False if it was deleted before: nothing changes then.

    The model's row must be locked (`jobs.lock_model`), so that no job is accepted and no alias set meanwhile.
    Raises VersionInUse for the head, the version of an alias, and what an unfinished job may start from.
    """
    if version.deleted_at is not None:
        return False
    _check_unused(session, model, version)
    reports = session.scalars(
        select(ReportRow).where(ReportRow.model_id == model.id, ReportRow.version == version.number)
    ).all()
    session.add(
        VersionDeletionRow(
            model_id=model.id,
            number=version.number,
            state="pending",
            keys=[purging.delete_report(session, report) for report in reports],
            created_by=request.created_by,
            request_id=request.request_id,
        )
    )
    version.deleted_at = now()
    session.flush()
    session.refresh(version)
    exports.stop_unusable(session, model.id)
    return True


def find_pending(session: Session) -> Sequence[tuple[str, int]]:
    """Return (model id, number) of the versions whose files are to be deleted, the oldest request first."""
    query = select(VersionDeletionRow.model_id, VersionDeletionRow.number)
    pending = query.where(VersionDeletionRow.state == "pending").order_by(VersionDeletionRow.created_at)
    return [(model_id, number) for model_id, number in session.execute(pending)]


def delete_files(session: Session, model_id: str, number: int, artifacts: Artifacts) -> bool:
    """Delete the artifacts that only this version refers to, and list them in the deletion's row.

    Returns False if the artifacts are locked or nothing is pending; the next sweep then tries again. If the
    process is killed halfway, no row has changed, so that the next call deletes and lists the same files.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    row = session.get_one(
        VersionDeletionRow, (model_id, number), with_for_update=True, populate_existing=True
    )
    if row.state != "pending":
        return False
    query = select(VersionRow).where(VersionRow.model_id == model_id, VersionRow.number == number)
    version = session.scalars(query).one()
    files = [
        purging.file_entry(number, name, file)
        for name, file in sorted(version.files.items())
        if name not in DESCRIPTIVE_FILES
    ]
    files += row.keys
    row.keys, row.kept = artifact_references.delete_listed(session, files, artifacts)
    failpoints.reach("version_deletion.after_delete")
    row.state, row.finished_at = "done", now()
    return True


def _check_unused(session: Session, model: ModelRow, version: VersionRow) -> None:
    number = version.number
    if number == model.head:
        raise VersionInUse(model.name, number, "it is the head, which is deleted only with its model")
    named = [name for name, target in aliases.find_all_of(session, [model.id])[model.id].items()
             if target == number]  # fmt: skip
    if named:
        reason = f"the alias {named[0]!r} names it; set or delete the alias first"
        raise VersionInUse(model.name, number, reason)
    if (export_id := exports.find_unfinished(session, model.id, number)) is not None:
        raise VersionInUse(model.name, number, f"export {export_id}, which has not ended, draws from it")
    unfinished = select(JobRow).where(
        JobRow.model_id == model.id, JobRow.state.in_(UNFINISHED_STATES), JobRow.export_id.is_(None)
    )
    for job in session.scalars(unfinished.order_by(JobRow.sequence)):
        if number in (job.evaluated_version, job.started_from, job.base_version):
            raise VersionInUse(model.name, number, f"job {job.id}, which has not ended, needs it", job.id)
        # It starts from the newest version that never learned certain labels, and finds that when it runs.
        if job.operation == "forget" and job.guarantee != "approximate":
            reason = f"job {job.id}, which forgets exactly and has not ended, may start from it"
            raise VersionInUse(model.name, number, reason, job.id)
