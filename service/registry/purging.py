"""Purging: the files of every version made from a label are deleted, once a job has forgotten it.

ask -> (the job succeeds) begin: versions sealed, 410 from here on -> finish: files deleted, keys listed.
Rows first, files after, the word `done` last: whatever dies on the way, the next sweep goes on from the rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exc, exists, select, update
from sqlalchemy.orm import Session

from service.registry import artifact_references, versions
from service.registry.artifacts import FolderArtifacts, document
from service.registry.database import from_now, now
from service.registry.tables import JobRow, PurgeReason, PurgeRow, ReceiptRow, ReportRow, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES, is_before_file

SECONDS_A_DAY = 86_400


def request_purge(session: Session, job: JobRow, reason: PurgeReason = "requested") -> None:
    """Have what the job forgets (or forgot) purged. Asking again changes nothing.

    Only inserts beside the job's row, so that it waits for no worker that is about to publish.
    """
    purge = session.get(PurgeRow, job.id)
    if purge is None:
        try:
            with session.begin_nested():
                session.add(PurgeRow(job_id=job.id, reason=reason, state="requested"))
            return
        except exc.IntegrityError:  # a client and the sweeper at the same moment
            purge = session.get_one(PurgeRow, job.id)
    if (purge.reason, reason) == (
        "retention",
        "requested",
    ):  # the rule took what was revoked; this takes more
        purge.reason, purge.state, purge.finished_at = "requested", "requested", None
        session.flush()


def seal_versions(session: Session, job: JobRow) -> None:
    """Seal the versions that the purge of a job that succeeded takes, if it was asked for one."""
    purge = session.get(PurgeRow, job.id, with_for_update=True, populate_existing=True)
    if purge is None or purge.state != "requested":
        return
    for version in _taken(session, purge, job):
        version.purged_by = job.id
    purge.state = "pending"
    _unsign(session, job)
    session.flush()


def find_unfinished(session: Session) -> list[str]:
    """Jobs that succeeded and whose purge is not done yet, the oldest first."""
    waiting = select(PurgeRow.job_id).join(JobRow, JobRow.id == PurgeRow.job_id)
    waiting = waiting.where(PurgeRow.state != "done", JobRow.state == "succeeded")
    return list(session.scalars(waiting.order_by(JobRow.sequence)))


def delete_files(session: Session, job_id: str, artifacts: FolderArtifacts) -> bool:
    """Delete what the sealed versions alone refer to, and list it. False while it has to wait.

    Killed in the middle, no row has changed and some files are gone: the next call lists the same keys.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    purge = session.get_one(PurgeRow, job_id, with_for_update=True, populate_existing=True)
    if purge.state != "pending":  # asked for more since it was begun, or done by another
        return False
    sealed = select(VersionRow).where(VersionRow.purged_by == job_id).order_by(VersionRow.number)
    files = [
        _listed(version.number, name, file)
        for version in session.scalars(sealed)
        for name, file in sorted(version.files.items())
        if name not in DESCRIPTIVE_FILES
    ]
    files += _pictures_before(session, job_id)
    files += [_without(session, report) for report in _full_reports(session, job_id)]
    files += [one for one in (*purge.keys, *purge.kept) if one not in files]  # reports an earlier round took
    held = artifact_references.find_referenced(session)
    purge.keys = [file for file in files if file["sha256"] not in held]
    purge.kept = [file for file in files if file["sha256"] in held]
    for sha256 in sorted({file["sha256"] for file in purge.keys}):
        artifacts.delete(sha256)
    purge.state, purge.finished_at = "done", now()
    return True


def find_overdue(session: Session, *, days: float) -> list[str]:
    """Jobs whose forgetting revoked versions that long ago, none of them purged since."""
    revoked = exists().where(VersionRow.revoked_by == JobRow.id, VersionRow.purged_by.is_(None))
    asked = exists().where(PurgeRow.job_id == JobRow.id)
    before = from_now(-days * SECONDS_A_DAY)
    query = select(JobRow.id).where(JobRow.state == "succeeded", JobRow.finished_at < before, revoked, ~asked)
    return list(session.scalars(query.order_by(JobRow.sequence)))


def _taken(session: Session, purge: PurgeRow, job: JobRow) -> Sequence[VersionRow]:
    """Asked for: every version before the job's own that lists such a label or was made after one learned it.

    The newest version without the label stays, which forgetting exactly goes back to, and so does the job's
    own. By the retention rule: the versions that the job revoked.
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


def _pictures_before(session: Session, job_id: str) -> list[dict[str, Any]]:
    """What weights that had learned the labels drew of what stays: no file of the job's version any more."""
    own = session.scalars(select(VersionRow).where(VersionRow.job_id == job_id)).one()
    drawn = {name: file for name, file in own.files.items() if is_before_file(name)}
    if drawn:
        own.files = {name: file for name, file in own.files.items() if name not in drawn}
        session.flush()
    return [_listed(own.number, name, file) for name, file in sorted(drawn.items())]


def has_removed(session: Session, version: VersionRow, file: str) -> bool:
    """Whether the purge of the version's own job took this file of it, which its manifest still names."""
    purge = session.get(PurgeRow, version.job_id)
    listed = [] if purge is None else [*purge.keys, *purge.kept]
    gone = any((one["version"], one["file"]) == (version.number, file) for one in listed)
    return gone and file not in version.files


def _listed(number: int, name: str, file: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": number, "file": name, "sha256": file["sha256"], "bytes": file["bytes"]}


def _full_reports(session: Session, job_id: str) -> Sequence[ReportRow]:
    """Those on sealed versions: they hold pictures of what was drawn for the label."""
    query = select(ReportRow).join(
        VersionRow,
        (VersionRow.model_id == ReportRow.model_id) & (VersionRow.number == ReportRow.version),
    )
    return session.scalars(query.where(VersionRow.purged_by == job_id).order_by(ReportRow.job_id)).all()


def _without(session: Session, report: ReportRow) -> dict[str, Any]:
    """The row is deleted; what the list of keys says of its artifact."""
    session.delete(report)
    session.flush()
    size = len(document(report.report))
    return {"version": report.version, "file": "full report", "sha256": report.sha256, "bytes": size}


def _unsign(session: Session, job: JobRow) -> None:
    """A receipt signed before no longer tells how things stand; one is due again when the files are gone."""
    session.execute(update(ReceiptRow).where(ReceiptRow.job_id == job.id).values(envelope=None))
