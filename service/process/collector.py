"""The collection of garbage: unreferenced artifacts, files of interrupted writes, messages that nobody takes.

Artifacts are deleted only from a folder that has the database's id, because the folder of another database
contains files that no row of this one refers to.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from service.durable import UNFINISHED
from service.queue.folder_broker import MESSAGE_SUFFIX
from service.registry import artifact_references, store_identity
from service.registry.artifact_references import INTERRUPTED_SECONDS
from service.registry.artifacts import Artifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.opening import open_artifacts
from service.registry.store import StoreFailed
from service.settings import Settings
from service.urls import broker_folder

log = logging.getLogger(__name__)

MESSAGE_AGE_SECONDS = 86_400.0
"""A message that no worker took for so long is deleted. The sweeper sends another if its job still waits."""
FILES_PER_TRANSACTION = 200
"""How many artifacts one transaction deletes: a job that publishes waits for it."""


@dataclass(frozen=True)
class Collected:
    """What was deleted."""

    artifacts: int = 0
    """Files in the artifact store that no row refers to."""
    temporary: int = 0
    """Files and folders of interrupted writes elsewhere in the home folder."""
    messages: int = 0
    """Wake-up messages that no worker took."""
    bytes: int = 0
    complete: bool = True
    """Whether nothing is left: false while a job or a purge is writing artifacts."""

    @property
    def files(self) -> int:
        return self.artifacts + self.temporary + self.messages


def collect_until(stop: Event, database: Database, deployment: Settings) -> None:
    """Collect at the start and every `collect_minutes`, until `stop` is set."""
    while not stop.is_set():
        try:
            collected = collect(database, deployment)
            if collected.files:
                log.info(
                    "deleted %d artifacts that no row refers to, %d files of interrupted writes and %d old "
                    "messages: %d bytes",
                    *(collected.artifacts, collected.temporary, collected.messages, collected.bytes),
                )
        except DatabaseUnavailable as error:
            log.debug("cannot collect garbage: the database does not answer (%s)", error.reason)
        except StoreFailed as error:
            log.warning("cannot collect garbage: %s; it is tried again", error.strerror)
        except Exception:
            log.exception("a collection of garbage failed with an unexpected error; it is tried again")
        stop.wait(deployment.collect_minutes * 60)


def collect(database: Database, deployment: Settings) -> Collected:
    """Delete what nothing refers to and what is left of interrupted writes, if it is older than an hour.

    Raises DatabaseUnavailable.
    """
    artifacts, size, complete = _collect_artifacts(database, open_artifacts(deployment))
    temporary = list(_find_temporary(deployment))
    messages = list(_find_old_messages(deployment))
    for path in (*temporary, *messages):
        size += _delete(path)
    return Collected(artifacts, len(temporary), len(messages), size, complete)


def find_garbage(deployment: Settings) -> list[Path]:
    """Return the temporary files and old messages that `collect` would delete."""
    return [*_find_temporary(deployment), *_find_old_messages(deployment)]


def _collect_artifacts(database: Database, artifacts: Artifacts) -> tuple[int, int, bool]:
    """Return how many files were deleted, their bytes, and whether none is left."""
    with database.reading() as session:
        if not store_identity.is_claimed(session, artifacts):
            return 0, 0, True
        found = artifact_references.find_unreferenced(session, artifacts)
    files = size = 0
    for start in range(0, len(found), FILES_PER_TRANSACTION):
        some = found[start : start + FILES_PER_TRANSACTION]
        with database.transaction() as session:
            deleted = artifact_references.delete_unreferenced(session, some, artifacts)
        if deleted is None:
            return files, size, False
        files, size = files + deleted[0], size + deleted[1]
    return files, size, True


def _find_temporary(deployment: Settings) -> Iterator[Path]:
    """Iterate over old files and folders of interrupted writes, but those among the artifacts."""
    queue = broker_folder(deployment.broker_url)
    elsewhere = [queue] if queue is not None and deployment.home not in queue.parents else []
    for root in (deployment.home, *elsewhere):
        for folder, folders, files in os.walk(root):
            names = [name for name in (*folders, *files) if name.startswith(UNFINISHED)]
            yield from (path for name in names if _is_older(path := Path(folder, name), INTERRUPTED_SECONDS))
            skipped = {name for name in folders if Path(folder, name) == deployment.artifacts}
            folders[:] = [name for name in folders if name not in {*names, *skipped}]


def _find_old_messages(deployment: Settings) -> Iterator[Path]:
    queue = broker_folder(deployment.broker_url)
    if queue is not None:
        for path in queue.glob(f"*{MESSAGE_SUFFIX}"):
            if _is_older(path, MESSAGE_AGE_SECONDS):
                yield path


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return path.lstat().st_mtime <= time.time() - seconds
    except OSError:  # deleted meanwhile
        return False


def _delete(path: Path) -> int:
    """Delete the file or folder; return the size of a file."""
    try:
        size = path.lstat().st_size
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
        return size
    except OSError:  # deleted meanwhile, or another user's
        return 0
