"""Purging: once a job has forgotten a label, the files of the versions that were made from it are deleted.

`request_purge`; when the job succeeds `seal_versions`, from which moment their files answer 410; then
`delete_files`. Rows are changed first, then files are deleted, and the state `done` is written last: a purge
that is interrupted is continued from the rows by the next sweep.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exc, exists, select, update
from sqlalchemy.orm import Session

from service.registry import artifact_references, versions
from service.registry.artifacts import FolderArtifacts, encode_document
from service.registry.database import from_now, now
from service.registry.tables import JobRow, PurgeReason, PurgeRow, ReceiptRow, ReportRow, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES, is_before_file

SECONDS_PER_DAY = 86_400


def request_purge(session: Session, job: JobRow, reason: PurgeReason = "requested") -> None:
    """Have purged what the job forgets, or forgot. A second request of the same reason changes nothing.

    A row of its own is inserted and the job's is not touched, so that a request never waits for a worker that
    is about to publish.
    """
    purge = session.get(PurgeRow, job.id)
    if purge is None:
        try:
            with session.begin_nested():
                session.add(PurgeRow(job_id=job.id, reason=reason, state="requested"))
            return
        except exc.IntegrityError:  # a client and the sweeper at the same moment
            purge = session.get_one(PurgeRow, job.id)
    if (purge.reason, reason) == ("retention", "requested"):  # a request takes more files than the rule did
        purge.reason, purge.state, purge.finished_at = "requested", "requested", None
        session.flush()


def seal_versions(session: Session, job: JobRow) -> None:
    """Seal the versions that the purge of this job takes. Does nothing if no purge was requested.

    job: a forget that has succeeded.
    """
    purge = session.get(PurgeRow, job.id, with_for_update=True, populate_existing=True)
    if purge is None or purge.state != "requested":
        return
    for version in _versions_to_seal(session, purge, job):
        version.purged_by = job.id
    purge.state = "pending"
    _withdraw_receipt(session, job)
    session.flush()


def find_unfinished(session: Session) -> list[str]:
    """Return the ids of the jobs that succeeded and whose purge is not done yet, the oldest first."""
    waiting = select(PurgeRow.job_id).join(JobRow, JobRow.id == PurgeRow.job_id)
    waiting = waiting.where(PurgeRow.state != "done", JobRow.state == "succeeded")
    return list(session.scalars(waiting.order_by(JobRow.sequence)))


def delete_files(session: Session, job_id: str, artifacts: FolderArtifacts) -> bool:
    """Delete the artifacts that only sealed versions refer to, and list them in the purge's row.

    False if the artifacts are locked, or the purge is not pending: the next sweep tries again. If the process
    is killed in between, no row has changed but some files are gone; the next call lists the same files.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    purge = session.get_one(PurgeRow, job_id, with_for_update=True, populate_existing=True)
    if purge.state != "pending":  # requested once more since it was sealed, or done by another process
        return False
    sealed = select(VersionRow).where(VersionRow.purged_by == job_id).order_by(VersionRow.number)
    files = [
        _entry(version.number, name, file)
        for version in session.scalars(sealed)
        for name, file in sorted(version.files.items())
        if name not in DESCRIPTIVE_FILES
    ]
    files += _take_before_files(session, job_id)
    files += [_take_report(session, report) for report in _full_reports(session, job_id)]
    files += [
        file for file in (*purge.keys, *purge.kept) if file not in files
    ]  # of an earlier purge by the rule
    referenced = artifact_references.find_referenced(session)
    purge.keys = [file for file in files if file["sha256"] not in referenced]
    purge.kept = [file for file in files if file["sha256"] in referenced]
    for sha256 in sorted({file["sha256"] for file in purge.keys}):
        artifacts.delete(sha256)
    purge.state, purge.finished_at = "done", now()
    return True


def find_overdue(session: Session, *, days: float) -> list[str]:
    """Return the ids of the jobs that revoked versions so many days ago, and that have no purge yet."""
    has_revoked = exists().where(VersionRow.revoked_by == JobRow.id, VersionRow.purged_by.is_(None))
    has_purge = exists().where(PurgeRow.job_id == JobRow.id)
    is_old = JobRow.finished_at < from_now(-days * SECONDS_PER_DAY)
    query = select(JobRow.id).where(JobRow.state == "succeeded", is_old, has_revoked, ~has_purge)
    return list(session.scalars(query.order_by(JobRow.sequence)))


def has_removed(session: Session, version: VersionRow, file: str) -> bool:
    """Whether the purge of the version's own job removed this file from it; its manifest still names it."""
    purge = session.get(PurgeRow, version.job_id)
    entries = [] if purge is None else [*purge.keys, *purge.kept]
    listed = any((entry["version"], entry["file"]) == (version.number, file) for entry in entries)
    return listed and file not in version.files


def _versions_to_seal(session: Session, purge: PurgeRow, job: JobRow) -> Sequence[VersionRow]:
    """Return the versions whose files the purge takes.

    If a client requested it: each version before the job's own that holds one of the labels, or was made
    after one of them was learned. The job's own version stays, and so do the versions from before the labels
    were learned, which exact forgetting goes back to. By the retention rule: those that the job revoked.
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


def _take_before_files(session: Session, job_id: str) -> list[dict[str, Any]]:
    """Remove the "before" pictures from the job's own version, because the parent's weights drew them.

    Those weights had learned the labels. Returns the entries of the files.
    """
    own = session.scalars(select(VersionRow).where(VersionRow.job_id == job_id)).one()
    taken = {name: file for name, file in own.files.items() if is_before_file(name)}
    if taken:
        own.files = {name: file for name, file in own.files.items() if name not in taken}
        session.flush()
    return [_entry(own.number, name, file) for name, file in sorted(taken.items())]


def _entry(number: int, name: str, file: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": number, "file": name, "sha256": file["sha256"], "bytes": file["bytes"]}


def _full_reports(session: Session, job_id: str) -> Sequence[ReportRow]:
    """Return the full reports on sealed versions: they contain pictures of what was drawn for the labels."""
    query = select(ReportRow).join(
        VersionRow,
        (VersionRow.model_id == ReportRow.model_id) & (VersionRow.number == ReportRow.version),
    )
    return session.scalars(query.where(VersionRow.purged_by == job_id).order_by(ReportRow.job_id)).all()


def _take_report(session: Session, report: ReportRow) -> dict[str, Any]:
    """Delete the report's row. Returns the entry of its artifact."""
    session.delete(report)
    session.flush()
    size = len(encode_document(report.report))
    return {"version": report.version, "file": "full report", "sha256": report.sha256, "bytes": size}


def _withdraw_receipt(session: Session, job: JobRow) -> None:
    """Remove a receipt that was signed before: it is signed anew once the files are deleted."""
    session.execute(update(ReceiptRow).where(ReceiptRow.job_id == job.id).values(envelope=None))
