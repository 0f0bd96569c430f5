"""Purging: once a job has forgotten a label, delete the files of earlier versions that had learned it.

A purge has three steps: `request_purge`; `mark_purged` as soon as the job has succeeded, after which the API
answers requests for the files with 410; and `delete_files`. The rows that name the files are changed first,
in a transaction of their own. Then the files are deleted, and the state `done` is written last, so that the
next sweep can continue an interrupted purge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exc, exists, select, update
from sqlalchemy.orm import Session

from service import failpoints
from service.registry import artifact_references, exports, versions
from service.registry.artifacts import Artifacts, encode_document
from service.registry.database import from_now, is_duplicate, now
from service.registry.tables import JobRow, PurgeReason, PurgeRow, ReceiptRow, ReportRow, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES, is_before_file

SECONDS_PER_DAY = 86_400


def request_purge(session: Session, job: JobRow, reason: PurgeReason = "requested") -> None:
    """Request a purge for a forget job, whether or not it has run. Repeating a request changes nothing.

    A purge that was requested by the retention rule begins again if a client requests it, because a client's
    purge covers more versions. The request has a row of its own, so that it never waits for a worker that has
    locked the job's row to publish.
    """
    purge = session.get(PurgeRow, job.id)
    if purge is None:
        try:
            with session.begin_nested():
                session.add(PurgeRow(job_id=job.id, reason=reason, state="requested"))
            return
        except exc.IntegrityError as error:
            if not is_duplicate(error):
                raise
            # a client and the sweeper at the same moment
            purge = session.get_one(PurgeRow, job.id)
    if (purge.reason, reason) == ("retention", "requested"):
        purge.reason, purge.state, purge.finished_at = "requested", "requested", None
        session.flush()


def mark_purged(session: Session, job: JobRow) -> None:
    """Mark the versions whose files the purge of this job will delete, and list these files in its row.

    Does nothing if no purge was requested. job: a forget that has succeeded.
    """
    purge = session.get(PurgeRow, job.id, with_for_update=True, populate_existing=True)
    if purge is None or purge.state != "requested":
        return
    for version in _find_versions_to_purge(session, purge, job):
        version.purged_by = job.id
    session.flush()
    exports.stop_unusable(session, job.model_id)
    purge.keys, purge.kept = _list_files(session, purge), []
    purge.state = "pending"
    clear_receipt(session, job)
    session.flush()


def find_unfinished(session: Session) -> list[str]:
    """Return the ids of the succeeded jobs that have an unfinished purge, the oldest first."""
    query = select(PurgeRow.job_id).join(JobRow, JobRow.id == PurgeRow.job_id)
    query = query.where(PurgeRow.state != "done", JobRow.state == "succeeded")
    return list(session.scalars(query.order_by(JobRow.sequence)))


def delete_files(session: Session, job_id: str, artifacts: Artifacts) -> bool:
    """Delete the artifacts that only purged versions refer to, and list them in the purge's row.

    Returns False if the artifacts are locked or the purge is not pending; the next sweep then tries again. If
    the process is killed halfway, some files are deleted but no row has changed, so that the next call finds
    and lists the same files.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    purge = session.get_one(PurgeRow, job_id, with_for_update=True, populate_existing=True)
    if purge.state != "pending":  # requested again meanwhile, or completed by another process
        return False
    files = _list_files(session, purge)  # an earlier release listed them only here
    purge.keys, purge.kept = artifact_references.delete_listed(session, files, artifacts)
    failpoints.reach("purge.after_delete")
    purge.state, purge.finished_at = "done", now()
    return True


def find_overdue(session: Session, *, days: float) -> list[str]:
    """Return the ids of the jobs that revoked versions more than `days` days ago and have no purge yet."""
    has_revoked = exists().where(VersionRow.revoked_by == JobRow.id, VersionRow.purged_by.is_(None))
    has_purge = exists().where(PurgeRow.job_id == JobRow.id)
    is_old = JobRow.finished_at < from_now(-days * SECONDS_PER_DAY)
    query = select(JobRow.id).where(JobRow.state == "succeeded", is_old, has_revoked, ~has_purge)
    return list(session.scalars(query.order_by(JobRow.sequence)))


def is_file_purged(session: Session, version: VersionRow, file: str) -> bool:
    """Whether a purge removed this file from the version that its job made. The manifest still names it."""
    purge = session.get(PurgeRow, version.job_id)
    entries = [] if purge is None else [*purge.keys, *purge.kept]
    listed = any((entry["version"], entry["file"]) == (version.number, file) for entry in entries)
    return listed and file not in version.files


def _find_versions_to_purge(session: Session, purge: PurgeRow, job: JobRow) -> Sequence[VersionRow]:
    """Return the versions whose files the purge will delete.

    If a client requested it: every version before the job's own that holds one of the labels, or that was
    made after one of them was first learned. The job's own version keeps its files. So do the versions from
    before the labels were learned, because exact forgetting starts from them.
    If the retention rule requested it: the versions that the job revoked.
    """
    older = select(VersionRow).where(VersionRow.model_id == job.model_id, VersionRow.purged_by.is_(None))
    older = older.order_by(VersionRow.number)
    if purge.reason == "retention":
        return session.scalars(older.where(VersionRow.revoked_by == job.id)).all()
    first = versions.find_first_that_learned(session, job.model_id, job.labels)
    return [
        version
        for version in session.scalars(older.where(VersionRow.number < job.output_version))
        if set(job.labels) & set(version.labels) or (first is not None and version.number >= first)
    ]


def _list_files(session: Session, purge: PurgeRow) -> list[dict[str, Any]]:
    """Return the entries of all files that the purge deletes. No row that is in use names them afterwards.

    Some may be in the purge's row already: the retention rule may have requested it before a client did.
    """
    purged = select(VersionRow).where(VersionRow.purged_by == purge.job_id).order_by(VersionRow.number)
    files = [
        file_entry(version.number, name, file)
        for version in session.scalars(purged)
        for name, file in sorted(version.files.items())
        if name not in DESCRIPTIVE_FILES
    ]
    files += _remove_before_files(session, purge.job_id)
    files += [delete_report(session, report) for report in _find_full_reports(session, purge.job_id)]
    earlier = map(artifact_references.without_reason, (*purge.keys, *purge.kept))
    return files + [file for file in earlier if file not in files]


def _remove_before_files(session: Session, job_id: str) -> list[dict[str, Any]]:
    """Remove the "before" pictures from the version that the job made. Returns the entries of these files.

    The parent's weights drew these pictures, and those weights had learned the labels.
    """
    own = session.scalars(select(VersionRow).where(VersionRow.job_id == job_id)).one()
    removed = {name: file for name, file in own.files.items() if is_before_file(name)}
    if removed:
        own.files = {name: file for name, file in own.files.items() if name not in removed}
        session.flush()
    return [file_entry(own.number, name, file) for name, file in sorted(removed.items())]


def file_entry(number: int, name: str, file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a version's file in the list of what was deleted."""
    return {"version": number, "file": name, "sha256": file["sha256"], "bytes": file["bytes"]}


def _find_full_reports(session: Session, job_id: str) -> Sequence[ReportRow]:
    """Return the full reports on purged versions, because they contain pictures of the forgotten labels."""
    query = select(ReportRow).join(
        VersionRow,
        (VersionRow.model_id == ReportRow.model_id) & (VersionRow.number == ReportRow.version),
    )
    return session.scalars(query.where(VersionRow.purged_by == job_id).order_by(ReportRow.job_id)).all()


def delete_report(session: Session, report: ReportRow) -> dict[str, Any]:
    """Delete the report's row. Returns the entry of the artifact that holds the report."""
    session.delete(report)
    session.flush()
    size = len(encode_document(report.report))
    return {"version": report.version, "file": "full report", "sha256": report.sha256, "bytes": size}


def clear_receipt(session: Session, job: JobRow) -> None:
    """Clear an earlier receipt of the job: it is logged and signed again, with what was requested since."""
    session.execute(
        update(ReceiptRow).where(ReceiptRow.job_id == job.id).values(envelope=None, logged_at=None)
    )
