"""Claims that a worker gave up while the database did not answer: files, until the sweeper records them.

A worker that is shut down releases its job, and the attempt does not count. During an outage of the database
it can only leave a note of that. The notes lie beside the artifacts, where workers and sweepers reach them.
"""

import logging
import re

from service.registry import sweeping
from service.registry.artifacts import Artifacts
from service.registry.claims import Claim
from service.registry.database import Database

log = logging.getLogger(__name__)

FOLDER = "released"
NAME = re.compile(FOLDER + r"/(job_[0-9A-Za-z]+)\.([0-9]{1,18})")


def note(artifacts: Artifacts, claim: Claim) -> None:
    """Note durably that the claim is given up. Raises OSError."""
    artifacts.store.write(f"{FOLDER}/{claim.job_id}.{claim.fence}", b"", replace=False)


def record(database: Database, artifacts: Artifacts, *, lease_seconds: float) -> None:
    """Release the claims that are noted, then delete the notes. Raises DatabaseUnavailable, OSError.

    If this process dies in between, the next call releases nothing twice, and deletes the notes. A bucket is
    asked only if the worker of some claim is silent: each question costs.
    """
    if artifacts.store.is_bucket:
        with database.reading() as session:
            if not sweeping.is_any_worker_silent(session, lease_seconds=lease_seconds):
                return
    notes = _read(artifacts)
    if not notes:
        return
    with database.transaction() as session:
        for job_id, fence in notes.values():
            if sweeping.release_claim(session, job_id, fence):
                log.info("job %s: its worker was shut down while the database was away; queued again", job_id)
    artifacts.store.delete(list(notes))


def _read(artifacts: Artifacts) -> dict[str, tuple[str, int]]:
    """Return {name of the note: (job id, fence)}."""
    found = {file.name: NAME.fullmatch(file.name) for file in artifacts.store.list(FOLDER)}
    return {name: (match[1], int(match[2])) for name, match in found.items() if match}
