"""The sweeper's part in deleting uploaded images: replace artifacts, delete the old ones, end erasures.

The next sweep continues a deletion that was interrupted anywhere (service/registry/dataset_deletions.py).
"""

import logging
from pathlib import Path
from tempfile import TemporaryFile

from service import failpoints
from service.process.failing_alone import failing_alone
from service.registry import artifact_references, dataset_deletions, image_erasures, jobs
from service.registry.artifacts import Artifacts, FileContent
from service.registry.database import Database
from service.registry.dataset_deletions import Replacement
from service.registry.opening import open_artifacts, open_classifiers
from service.registry.tables import DatasetDeletionRow
from service.settings import Settings

log = logging.getLogger(__name__)


def delete_images(database: Database, deployment: Settings) -> None:
    """Begin erasures that were requested after their forget, and continue every deletion of images.

    Raises DatabaseUnavailable.
    """
    with database.reading() as session:
        requested = image_erasures.find_requested(session)
    for job_id in requested:
        with failing_alone(f"job {job_id}: begin to delete images"), database.transaction() as session:
            image_erasures.begin(session, jobs.find(session, job_id))
    with database.reading() as session:
        unfinished = dataset_deletions.find_unfinished(session)
    for deletion_id in unfinished:
        with failing_alone(f"deletion {deletion_id}: delete images of an uploaded dataset"):
            _continue(database, deployment, deletion_id)


def finish_erasures(database: Database) -> None:
    """End the erasures whose images are all deleted, so that their receipts can be signed.

    Raises DatabaseUnavailable.
    """
    with database.reading() as session:
        changed = [
            job_id
            for job_id in image_erasures.find_pending(session)
            if image_erasures.has_changed(session, job_id)
        ]
    for job_id in changed:
        with failing_alone(f"job {job_id}: end its deletion of images"):
            with database.transaction() as session:
                is_done = image_erasures.update(session, jobs.find(session, job_id))
            if is_done:
                log.info("job %s: the images of its labels are deleted from the uploaded datasets", job_id)


def _continue(database: Database, deployment: Settings, deletion_id: str) -> None:
    artifacts, scratch = open_artifacts(deployment), deployment.scratch
    failpoints.reach("images.before_replace")
    with database.reading() as session:
        replacement = dataset_deletions.find_replacement(session, deletion_id)
    if replacement is not None:
        _replace(database, artifacts, scratch, deletion_id, replacement)
    with database.reading() as session:
        deletion = session.get_one(DatasetDeletionRow, deletion_id)
        if deletion.state != "pending":
            return
        dataset, labels = deletion.dataset, list(deletion.labels)
    failpoints.reach("images.after_replace")
    left = open_classifiers(deployment).delete_trained_on(dataset, labels)
    artifacts.require_answer()
    with database.transaction() as session:
        is_deleted = dataset_deletions.delete_artifact(session, deletion_id, artifacts, left=left)
        failpoints.reach("images.after_delete")
    if is_deleted:
        log.info("deletion %s: deleted the images of %d labels", deletion_id, len(labels))


def _replace(
    database: Database, artifacts: Artifacts, scratch: Path, deletion_id: str, replacement: Replacement
) -> None:
    """Store an artifact with the remaining images, and let the dataset refer to it."""
    if not replacement.remaining:
        with database.transaction() as session:
            dataset_deletions.replace_artifact(session, deletion_id, replacement, None)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=scratch) as file:
        content = dataset_deletions.copy_remaining(replacement, artifacts, file)
        artifacts.put(content)
        with database.transaction() as session:
            artifact_references.lock_against_deletion(session)
            _store_again(artifacts, content)
            dataset_deletions.replace_artifact(session, deletion_id, replacement, content)


def _store_again(artifacts: Artifacts, content: FileContent) -> None:
    """Store the artifact again if another deletion of the same bytes has deleted it since."""
    if not artifacts.exists(content.sha256):
        artifacts.put(content)
