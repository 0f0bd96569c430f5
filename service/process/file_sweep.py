"""The files of a sweep: delete what is to be deleted, and sign the receipts of that.

Every step, and every item of a step, fails alone: the others go on, and the next sweep tries again.
"""

import logging
from collections.abc import Callable

from service import failpoints
from service.process import export_sweep, image_deletions
from service.process.failing_alone import failing_alone
from service.receipts import issuing, model_deletion
from service.receipts.signing_keys import find_key, publish
from service.recovery import erasure_log
from service.registry import (
    deletions,
    jobs,
    purging,
    releases,
    snapshots,
    sweeping,
    version_deletions,
)
from service.registry.database import Database
from service.registry.opening import open_artifacts
from service.settings import Settings

log = logging.getLogger(__name__)

Step = tuple[str, Callable[[Database, Settings], None]]
"""What a step does, for the log, and the step."""


def sweep_files(database: Database, deployment: Settings) -> None:
    """Read and delete files, and sign the receipts that are due. Raises DatabaseUnavailable.

    What is signed or written to the erasure log is left to the process that does so.
    """
    deleting: list[Step] = [
        ("release the jobs that workers gave up", release_claims),
        ("find files to purge", _purge),
        ("find files of deleted versions", _delete_versions),
        ("find snapshots of jobs that have ended", _delete_snapshots),
        ("find images to delete", image_deletions.delete_images),
        ("find exports that have ended", export_sweep.end_exports),
        ("find files of exports to delete", export_sweep.clear_exports),
    ]
    signing: list[Step] = [
        ("write the erasure log, before which no receipt is signed", _log_erasures),
        ("find images that are deleted", lambda database, _: image_deletions.finish_erasures(database)),
        ("find receipts to sign", _sign_receipts),
        ("find files of deleted models", _delete_models),
    ]
    for what, step in (*deleting, *(signing if deployment.signer else ())):
        with failing_alone(what):
            step(database, deployment)


def release_claims(database: Database, deployment: Settings) -> None:
    """Release the jobs of workers that were shut down while the database did not answer.

    Raises DatabaseUnavailable, OSError.
    """
    releases.record(database, open_artifacts(deployment), lease_seconds=deployment.lease_seconds)


def _purge(database: Database, deployment: Settings) -> None:
    """Mark versions as purged, then delete their files in a second transaction, when nobody can read them."""
    artifacts = open_artifacts(deployment)
    with database.reading() as session:
        days = deployment.purge_after_days
        overdue = purging.find_overdue(session, days=days) if days else []
        unfinished = purging.find_unfinished(session)
    for job_id in [*overdue, *unfinished]:
        with failing_alone(f"job {job_id}: delete the files that it purges"):
            with database.transaction() as session:
                job = jobs.find(session, job_id)
                if job_id in overdue:
                    purging.request_purge(session, job, reason="retention")
                purging.mark_purged(session, job)
            failpoints.reach("purge.after_mark")
            artifacts.require_answer()
            with database.transaction() as session:
                is_done = purging.delete_files(session, job_id, artifacts)
            if is_done:
                log.info("job %s: deleted the files of the versions that it purges", job_id)


def _delete_versions(database: Database, deployment: Settings) -> None:
    """Delete the files of versions that clients deleted."""
    artifacts = open_artifacts(deployment)
    with database.reading() as session:
        pending = version_deletions.find_pending(session)
    for model_id, number in pending:
        with failing_alone(f"version {number} of model {model_id}: delete its files"):
            artifacts.require_answer()
            with database.transaction() as session:
                is_done = version_deletions.delete_files(session, model_id, number, artifacts)
            if is_done:
                log.info("version %s of model %s: deleted its files", number, model_id)


def _delete_snapshots(database: Database, deployment: Settings) -> None:
    """Delete the snapshots of jobs that have ended, however they ended."""
    artifacts = open_artifacts(deployment)
    with database.reading() as session:
        obsolete = snapshots.find_obsolete(session)
    for job_id in obsolete:
        with failing_alone(f"job {job_id}: delete its snapshot"):
            artifacts.require_answer()
            with database.transaction() as session:
                snapshots.delete_if_obsolete(session, job_id, artifacts)


def _log_erasures(database: Database, deployment: Settings) -> None:
    """Write new erasures to the erasure log. A receipt is signed only after that."""
    with database.transaction() as session:
        if sweeping.try_sweep_lock(session):
            erasure_log.sweep(session, deployment.erasure_log)


def _sign_receipts(database: Database, deployment: Settings) -> None:
    with database.reading() as session:
        due = issuing.list_jobs_with_receipt_due(session)
    if due:
        publish(database, deployment.keys)
    for job_id in due:
        with failing_alone(f"job {job_id}: sign its receipt"):
            key, artifacts = find_key(database, deployment.keys), open_artifacts(deployment)
            issuing.sign_receipt(database, artifacts, key, job_id)


def _delete_models(database: Database, deployment: Settings) -> None:
    """Delete the files of models that were deleted with a purge, and sign the receipts of that."""
    artifacts = open_artifacts(deployment)
    with database.reading() as session:
        pending = deletions.find_pending(session)
    for model_id in pending:
        with failing_alone(f"model {model_id}: delete its files and sign the receipt of that"):
            artifacts.require_answer()
            with database.transaction() as session:
                is_done = deletions.delete_files(session, model_id, artifacts)
            if is_done:
                log.info("model %s: deleted its files", model_id)
            key = find_key(database, deployment.keys)
            model_deletion.sign_receipt(database, key, model_id, in_bucket=artifacts.store.is_bucket)
