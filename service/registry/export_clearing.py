"""Delete what exports leave: files of those that ended without a result, and the rows of their jobs."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, delete, or_, select
from sqlalchemy.orm import Session

from service.registry import artifact_references
from service.registry.artifacts import Artifacts
from service.registry.database import now
from service.registry.tables import (
    CLAIMED_STATES,
    UNFINISHED_STATES,
    ExportRow,
    ExportShardRow,
    JobEventRow,
    JobRow,
    VersionRow,
)

SHARDS_PER_TRANSACTION = 100
"""How many shards one transaction deletes: a job that publishes waits for it."""
JOBS_PER_TRANSACTION = 500
STORED_FILES = "stored_files"
"""The entry in the params of a job of an export (`stored_files_of`)."""


def is_to_clear() -> ColumnElement[bool]:
    """Return the SQL condition that an export ended without a result, or was deleted, and may have files."""
    is_over = or_(ExportRow.deleted_at.is_not(None), ExportRow.state.in_(("failed", "cancelled", "revoked")))
    return ExportRow.cleared_at.is_(None) & is_over


def stored_files_of(job: JobRow) -> set[str]:
    """Return the sha256 of the files that a job of an export has stored, or is about to, and did not publish.

    A worker that is killed leaves such a file, and the shard that another one draws may have other bytes.
    They stand in the job's params: a job of an export has no others.
    """
    return set(job.params.get(STORED_FILES, ()))


def set_stored_files(job: JobRow, files: Set[str]) -> None:
    """Record the files that a job of an export may have stored and did not publish."""
    job.params = {STORED_FILES: sorted(files)} if files else {}


def _has_stored_files() -> ColumnElement[bool]:
    """Return an SQL condition on jobs of exports: `stored_files_of` the job is not empty."""
    return cast(JobRow.params, String) != "{}"


@dataclass(frozen=True)
class RemovedFiles:
    """What was deleted of exports."""

    shards: int
    images: int
    kept: int
    """How many files are kept, because another export has the same bytes."""
    left: list[str]
    """Why a bucket keeps old versions of some, for each export."""


def find_to_clear(session: Session) -> list[str]:
    """Return the ids of the exports whose files are to be deleted: no job writes any of them more."""
    written = select(JobRow.id).where(JobRow.export_id == ExportRow.id, JobRow.state.in_(CLAIMED_STATES))
    query = select(ExportRow.id).where(is_to_clear(), ~written.exists())
    return list(session.scalars(query.order_by(ExportRow.id)))


def clear(session: Session, export_id: str, artifacts: Artifacts) -> bool | None:
    """Delete the files of some shards of an export, and their rows. Returns whether none is left.

    The last call deletes what jobs of the export stored and did not publish, too.
    Returns None, and deletes nothing, if the artifacts are locked. If the process is killed halfway, no row
    has changed, so that the next call deletes the same files.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return None
    export = session.get_one(ExportRow, export_id, with_for_update=True, populate_existing=True)
    query = select(ExportShardRow).where(ExportShardRow.export_id == export_id)
    rows = session.scalars(query.order_by(ExportShardRow.number).limit(SHARDS_PER_TRANSACTION)).all()
    files = [_entry(export, f"shard {row.number}", row.sha256, row.bytes) for row in rows]
    if export.manifest is not None:
        files.append(_entry(export, "manifest", export.manifest, export.manifest_bytes or 0))
        export.manifest = export.manifest_bytes = None
    is_clear = len(rows) < SHARDS_PER_TRANSACTION
    if is_clear:
        unpublished = select(JobRow).where(JobRow.export_id == export_id, _has_stored_files())
        for job in session.scalars(unpublished.order_by(JobRow.part)):
            files += [_entry(export, f"part {job.part}", sha256, 0) for sha256 in stored_files_of(job)]
    for row in rows:
        session.delete(row)
    session.flush()
    _, kept = artifact_references.delete_listed(session, files, artifacts)
    before = export.removed or {"shards": 0, "images": 0, "bytes": 0, "kept": 0, "left": []}
    reasons = {file["reason"] for file in kept if "reason" in file}
    export.removed = {
        "shards": before["shards"] + len(rows),
        "images": before["images"] + sum(row.images for row in rows),
        "bytes": before["bytes"] + sum(row.bytes for row in rows),
        "kept": before["kept"]
        + _count_in_use(session, [one["sha256"] for one in kept if "reason" not in one]),
        "left": sorted({*before["left"], *reasons}),
    }
    if is_clear:
        export.cleared_at = now()
    session.flush()
    return is_clear


def _count_in_use(session: Session, files: Sequence[str]) -> int:
    """Count the files that an export needs whose own files are not to be deleted next.

    Two exports of the same images have the same bytes (docs/decisions/0143).
    """
    is_live = ~is_to_clear() & ExportRow.cleared_at.is_(None)
    shards = select(ExportShardRow.sha256).join(ExportRow, ExportRow.id == ExportShardRow.export_id)
    manifests = select(ExportRow.manifest).where(is_live, ExportRow.manifest.in_(files))
    in_use = {*session.scalars(shards.where(is_live, ExportShardRow.sha256.in_(files)))}
    in_use.update(one for one in session.scalars(manifests) if one is not None)
    return sum(one in in_use for one in files)


def find_forgotten_by(session: Session, job: JobRow) -> list[ExportRow]:
    """Return the exports whose images this forget concerns, however they ended. Their files are deleted.

    These are the exports of earlier versions that hold one of its labels, whichever job revoked them, and of
    the versions that it revoked or purged. job: a forget that has succeeded.
    """
    version = and_(VersionRow.model_id == ExportRow.model_id, VersionRow.number == ExportRow.version)
    columns = (VersionRow.number, VersionRow.labels, VersionRow.revoked_by, VersionRow.purged_by)
    query = select(ExportRow, *columns).join(VersionRow, version).where(ExportRow.model_id == job.model_id)
    query = query.order_by(ExportRow.id).execution_options(populate_existing=True)
    assert job.output_version is not None, "a forget that succeeded has published a version"
    return [
        export
        for export, number, labels, revoked_by, purged_by in session.execute(query)
        if job.id in (revoked_by, purged_by)
        or (number < job.output_version and not set(labels).isdisjoint(job.labels))
    ]


def summarise_removed(rows: Sequence[ExportRow]) -> RemovedFiles:
    """Return what was deleted of these exports together."""
    removed = [row.removed or {} for row in rows]
    shards, images, kept = (sum(one.get(key, 0) for one in removed) for key in ("shards", "images", "kept"))
    return RemovedFiles(shards, images, kept, [reason for one in removed for reason in one.get("left", ())])


def find_of_model(session: Session, model_id: str) -> list[ExportRow]:
    """Return every export of the model, also deleted ones, the oldest first."""
    query = select(ExportRow).where(ExportRow.model_id == model_id).order_by(ExportRow.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def has_jobs(session: Session) -> bool:
    """Whether `delete_ended_jobs` would delete a row."""
    return session.scalar(_jobs_to_delete().limit(1)) is not None


def delete_ended_jobs(session: Session) -> int:
    """Delete the rows of jobs that have drawn their part, or whose export has ended. Returns how many.

    Their shards say what they did. An export may have thousands, which no client ever sees. A job that names
    files which it did not publish stays until these are deleted.
    """
    ids = list(session.scalars(_jobs_to_delete().limit(JOBS_PER_TRANSACTION)))
    if ids:
        session.execute(delete(JobEventRow).where(JobEventRow.job_id.in_(ids)))
        session.execute(delete(JobRow).where(JobRow.id.in_(ids)).execution_options(synchronize_session=False))
    return len(ids)


def _jobs_to_delete() -> Select[Any]:
    query = select(JobRow.id).join(ExportRow, ExportRow.id == JobRow.export_id)
    return query.where(
        JobRow.export_id.is_not(None),
        JobRow.state.not_in(UNFINISHED_STATES),
        or_(JobRow.state == "succeeded", ExportRow.finished_at.is_not(None)),
        or_(~_has_stored_files(), ExportRow.cleared_at.is_not(None)),
    )


def _entry(export: ExportRow, name: str, sha256: str, size: int) -> dict[str, Any]:
    return {"version": export.version, "file": f"export {export.id}: {name}", "sha256": sha256, "bytes": size}
