"""The snapshots of a running job, kept as artifacts, so that the next attempt resumes from the newest."""

import logging
import time

from service.failpoints import reach
from service.registry import snapshots
from service.registry.errors import DatabaseUnavailable, FencedOff, RegistryError
from service.registry.store_identity import check_store
from worker.jobs.attempt import Attempt

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
"""How often a snapshot is saved, so that a killed worker costs about so much of the training."""
LARGEST_SHARE = 0.05
"""The share of a job's time that saving may take. A snapshot that is slow to save is saved less often ..."""
LONGEST_INTERVAL_SECONDS = 9.0
"""... but at least this often."""


class JobSnapshots:
    """The snapshots of one job, under the claim that this worker holds (`Snapshots` of worker.learning).

    A snapshot that cannot be saved never fails the job: that is logged once, and tried again later.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._claim = attempt.claim
        self._artifacts = attempt.worker_context.artifacts
        self._database = attempt.worker_context.database
        self._shutting_down = attempt.worker_context.shutting_down
        self._due_at = time.monotonic() + INTERVAL_SECONDS
        self._failed = False

    def load(self) -> bytes | None:
        """Return the newest snapshot of the job; None if there is none that can be read."""
        try:
            found = self._attempt.with_retries(self._read)
            if found is not None:
                self._attempt.note("resumes from the snapshot of an earlier attempt")
            return found
        except DatabaseUnavailable:
            raise
        except RegistryError as error:
            log.warning(
                "job %s: cannot read its snapshot (%s); attempt %d starts from the beginning",
                *(self._claim.job_id, error, self._claim.attempt),
            )
            return None

    def save(self, data: bytes) -> None:
        """Replace the snapshot of the job."""
        began_at = time.monotonic()
        try:
            self._save(data)
            self._failed = False
        except Exception as error:
            if not self._failed:
                log.warning(
                    "job %s: cannot save a snapshot of it (%s); trying again every %g s. Until then, a "
                    "worker that is killed costs more of the training",
                    *(self._claim.job_id, error, INTERVAL_SECONDS),
                )
            self._failed = True
        ended_at = time.monotonic()
        interval = max(INTERVAL_SECONDS, (ended_at - began_at) / LARGEST_SHARE)
        self._due_at = ended_at + min(interval, LONGEST_INTERVAL_SECONDS)

    def is_due(self) -> bool:
        """Return whether a snapshot is to be saved now. Cheap, because it is called at every step.

        None is saved for a job that was cancelled or taken over, nor while the database does not answer.
        """
        if time.monotonic() < self._due_at and not self._shutting_down():
            return False
        heartbeat = self._attempt.heartbeat
        return heartbeat.claim_state == "held" and heartbeat.is_answered

    def _read(self) -> bytes | None:
        with self._database.reading() as session:
            sha256 = snapshots.find(session, self._claim.job_id)
        return None if sha256 is None else self._artifacts.read(sha256).partition(b"\n")[2]

    def _save(self, data: bytes) -> None:
        reach("snapshot.save")
        check_store(self._database, self._artifacts)
        # The heading makes the artifact unlike that of any other claim, so that it can be deleted without
        # asking who else needs it.
        heading = f"palimpsest snapshot of {self._claim.job_id}, claim {self._claim.fence}\n".encode()
        sha256 = self._artifacts.put(heading + data)
        try:
            with self._database.transaction() as session:
                before = snapshots.replace(session, self._claim, sha256)
        except FencedOff:
            self._artifacts.delete(sha256)
            raise
        if before is not None:
            self._artifacts.delete(before)
