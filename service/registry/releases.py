"""Claims that a worker gave up while the database did not answer: files, until the sweeper records them.

A worker that is shut down releases its job, and the attempt does not count. During an outage of the database
it can only leave a note of that. The notes lie beside the artifacts, where workers and sweepers reach them.
"""

import logging
import re
from pathlib import Path

from service import durable
from service.registry import sweeping
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database

log = logging.getLogger(__name__)

FOLDER = "released"
NAME = re.compile(r"(job_[0-9A-Za-z]+)\.([0-9]{1,18})")


def note(artifacts: FolderArtifacts, claim: Claim) -> None:
    """Note durably that the claim is given up. Raises OSError."""
    durable.create(artifacts.folder / FOLDER / f"{claim.job_id}.{claim.fence}", b"")


def record(database: Database, artifacts: FolderArtifacts) -> None:
    """Release the claims that are noted, then delete the notes. Raises DatabaseUnavailable, OSError.

    If this process dies in between, the next call releases nothing twice, and deletes the notes.
    """
    notes = _read(artifacts.folder / FOLDER)
    if not notes:
        return
    with database.transaction() as session:
        for job_id, fence in notes.values():
            if sweeping.release_claim(session, job_id, fence):
                log.info("job %s: its worker was shut down while the database was away; queued again", job_id)
    for path in notes:
        path.unlink(missing_ok=True)


def _read(folder: Path) -> dict[Path, tuple[str, int]]:
    """Return {file: (job id, fence)}."""
    try:
        found = {path: NAME.fullmatch(path.name) for path in folder.iterdir()}
    except FileNotFoundError:
        return {}
    return {path: (match[1], int(match[2])) for path, match in found.items() if match}
