"""Deleting models: the row stays as a tombstone, the files go.

A deleted model is found by nobody, and its name is free again. Its jobs and their receipts stay. Its files
are no longer referred to, so they are collected like other files without a row. If a purge was requested, the
sweeper deletes them at once and lists them, for a signed receipt. Rows are changed first and files deleted
then, so that an interrupted deletion goes on where it stopped.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from service.registry import artifact_references, exports, jobs
from service.registry.artifacts import Artifacts, encode_document
from service.registry.cancelling import cancel_unfinished
from service.registry.database import now
from service.registry.errors import ModelBusy, UnknownModel
from service.registry.tables import (
    CLAIMED_STATES,
    ExportRow,
    JobRow,
    ModelDeletionRow,
    ModelRow,
    ReceiptRow,
    ReportRow,
    VersionRow,
)


@dataclass(frozen=True)
class DeletionRequest:
    """What is recorded of a request to delete a model and purge its files."""

    reference: str | None = None
    created_by: str | None = None
    request_id: str | None = None


def delete_model(session: Session, model: ModelRow, *, purge: DeletionRequest | None) -> None:
    """Delete the model and its full reports, cancel its queued jobs, and stop its exports.

    purge: to have all files deleted at once, with a receipt; None leaves them to the collection of garbage.
    Raises UnknownModel; ModelBusy while a worker runs a job of the model.
    """
    model = jobs.lock_model(session, model)
    own = (JobRow.model_id == model.id) & JobRow.export_id.is_(None)
    _refuse_running(session, model, own)  # before it waits for the row of a job that waits for the model's
    cancel_unfinished(session, own)
    _refuse_running(session, model, own)
    reports = session.scalars(select(ReportRow).where(ReportRow.model_id == model.id)).all()
    if purge is not None:
        session.add(
            ModelDeletionRow(
                model_id=model.id,
                purge=True,
                state="pending",
                keys=[_report_entry(report) for report in reports],
                reference=purge.reference,
                created_by=purge.created_by,
                request_id=purge.request_id,
            )
        )
    of_model = delete(ReportRow).where(ReportRow.model_id == model.id)
    session.execute(of_model.execution_options(synchronize_session=False))
    model.deleted_at = now()
    session.flush()
    exports.stop_unusable(session, model.id)


def _refuse_running(session: Session, model: ModelRow, own: ColumnElement[bool]) -> None:
    """Raise ModelBusy if a worker runs one of the model's own jobs."""
    running = select(JobRow.id).where(own, JobRow.state.in_(CLAIMED_STATES))
    if (job_id := session.scalar(running.limit(1))) is not None:
        raise ModelBusy(model.name, job_id)


def find(session: Session, model_id: str, *, project: str) -> tuple[ModelRow, ModelDeletionRow]:
    """Return the deleted model of that id, and the deletion of its files. Raises UnknownModel."""
    model = session.get(ModelRow, model_id)
    deletion = session.get(ModelDeletionRow, model_id)
    if model is None or deletion is None or model.project_id != project:
        raise UnknownModel(model_id)
    return model, deletion


def find_pending(session: Session) -> list[str]:
    """Return the ids of the models whose files are to be deleted now, the oldest first.

    They wait until the receipts of their forgets are signed, because these are built from the files, too, and
    until the files of their exports are deleted, because a worker may still be drawing one.
    """
    unsigned = exists().where(
        ReceiptRow.job_id == JobRow.id,
        JobRow.model_id == ModelDeletionRow.model_id,
        ReceiptRow.envelope.is_(None),
    )
    exported = exists().where(ExportRow.model_id == ModelDeletionRow.model_id, ExportRow.cleared_at.is_(None))
    pending = select(ModelDeletionRow.model_id).where(ModelDeletionRow.state == "pending")
    pending = pending.where(~unsigned, ~exported)
    return list(session.scalars(pending.order_by(ModelDeletionRow.created_at)))


def delete_files(session: Session, model_id: str, artifacts: Artifacts) -> bool:
    """Delete the artifacts that only the model's rows refer to, and list them in the deletion's row.

    Returns False if the artifacts are locked or nothing is pending; the next sweep then tries again.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    row = session.get_one(ModelDeletionRow, model_id, with_for_update=True, populate_existing=True)
    if row.state != "pending":
        return False
    versions = select(VersionRow).where(VersionRow.model_id == model_id).order_by(VersionRow.number)
    files = list(row.keys)
    files += [
        {"version": version.number, "file": name, "sha256": file["sha256"], "bytes": file["bytes"]}
        for version in session.scalars(versions)
        for name, file in sorted(version.files.items())
    ]
    row.keys, row.kept = artifact_references.delete_listed(session, files, artifacts)
    row.state, row.finished_at = "done", now()
    return True


def _report_entry(report: ReportRow) -> dict[str, Any]:
    """Return the entry of a report's artifact. A rejected candidate has no version: it is entered as 0."""
    size = len(encode_document(report.report))
    return {"version": report.version or 0, "file": "report", "sha256": report.sha256, "bytes": size}
