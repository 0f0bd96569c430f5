"""Snapshots of unfinished jobs: what an attempt had computed, so that the next one goes on from there.

A snapshot is an artifact, and one row for each job names the newest. It can hold anything that the job
holds: weights, images drawn for replay, measurements. So it is deleted as soon as its job has ended, in
whatever way, and by the purge of the version that the job measures.
"""

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from service.registry import claims
from service.registry.artifacts import Artifacts
from service.registry.claims import Claim
from service.registry.database import now
from service.registry.errors import FencedOff
from service.registry.tables import UNFINISHED_STATES, JobRow, SnapshotRow, VersionRow


def find(session: Session, job_id: str) -> str | None:
    """Return the sha256 of the newest snapshot of the job, if it has one."""
    return session.scalar(select(SnapshotRow.sha256).where(SnapshotRow.job_id == job_id))


def replace(session: Session, claim: Claim, sha256: str) -> str | None:
    """Make this artifact the newest snapshot of the job. Returns the sha256 of the one before, to be deleted.

    Raises FencedOff if the claim is no longer valid, or if the version that the job measures is purged. The
    caller then deletes this one.
    """
    claims.require_held(session, claim)
    if session.scalar(select(JobRow.id).where(JobRow.id == claim.job_id, _measures_purged())):
        raise FencedOff(claim.job_id, claim.fence)
    row = session.get(SnapshotRow, claim.job_id, populate_existing=True)
    if row is None:
        session.add(SnapshotRow(job_id=claim.job_id, sha256=sha256))
        session.flush()
        return None
    before, row.sha256, row.created_at = row.sha256, sha256, now()
    session.flush()
    return before if before != sha256 else None


def find_obsolete(session: Session) -> list[str]:
    """Return the ids of the jobs whose snapshot is to be deleted.

    These jobs have ended, or measure a purged version.
    """
    query = select(SnapshotRow.job_id).join(JobRow, JobRow.id == SnapshotRow.job_id)
    return list(session.scalars(query.where(JobRow.state.not_in(UNFINISHED_STATES) | _measures_purged())))


def delete_if_obsolete(session: Session, job_id: str, artifacts: Artifacts) -> None:
    """Delete the snapshot of a job that `find_obsolete` lists, if it has one. Raises OSError.

    The file is deleted first. If the process is killed then, the row still names it, and the next call goes
    on.
    """
    row = session.get(SnapshotRow, job_id, with_for_update=True, populate_existing=True)
    if row is not None and job_id in find_obsolete(session):
        artifacts.delete(row.sha256)
        session.delete(row)
        session.flush()


def _measures_purged() -> ColumnElement[bool]:
    """Return an SQL condition on jobs: the job measures a version whose files are purged."""
    return exists().where(
        VersionRow.model_id == JobRow.model_id,
        VersionRow.number == JobRow.evaluated_version,
        VersionRow.purged_by.is_not(None) | VersionRow.deleted_at.is_not(None),
    )
