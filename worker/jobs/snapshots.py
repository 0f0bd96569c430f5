"""The snapshots of a running job, kept as artifacts, so that the next attempt resumes from the newest."""

import logging
import time
from collections.abc import Callable

from service.failpoints import reach
from service.registry import snapshots
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.errors import FencedOff, RegistryError

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

    def __init__(
        self,
        database: Database,
        artifacts: FolderArtifacts,
        claim: Claim,
        *,
        shutting_down: Callable[[], bool],
        is_unwanted: Callable[[], bool],
    ) -> None:
        """is_unwanted: whether the job was cancelled or taken over, or the database does not answer."""
        self._database = database
        self._artifacts = artifacts
        self._claim = claim
        self._shutting_down = shutting_down
        self._is_unwanted = is_unwanted
        self._due_at = time.monotonic() + INTERVAL_SECONDS
        self._failed = False

    def load(self) -> bytes | None:
        """Return the newest snapshot of the job; None if there is none that can be read."""
        with self._database.reading() as session:
            sha256 = snapshots.find(session, self._claim.job_id)
        if sha256 is None:
            return None
        try:
            _, _, data = self._artifacts.read(sha256).partition(b"\n")
        except RegistryError as error:
            log.warning(
                "job %s: cannot read its snapshot (%s); attempt %d starts from the beginning",
                *(self._claim.job_id, error, self._claim.attempt),
            )
            return None
        return data

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
        """Return whether a snapshot is to be saved now. Cheap, because it is called at every step."""
        if time.monotonic() < self._due_at and not self._shutting_down():
            return False
        return not self._is_unwanted()

    def _save(self, data: bytes) -> None:
        reach("snapshot.save")
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
