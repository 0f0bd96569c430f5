"""Find which artifacts the rows refer to, and lock artifacts so that none is deleted while rows are added.

An artifact is stored before the row that refers to it, so "no row refers to it" may be wrong a moment later.
Therefore artifacts are deleted under an exclusive lock (`try_lock_for_deletion`). A worker that publishes a
version or a report takes a shared lock (`lock_against_deletion`), stores deleted artifacts again, and commits
its rows.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.durable import UNFINISHED
from service.registry.artifacts import FolderArtifacts
from service.registry.tables import ArtifactHash, ModelRow, Row, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES

# "art": an advisory lock of PostgreSQL. SQLite needs none, as only one transaction can write at a time.
ARTIFACT_LOCK = 0x617274

MINIMUM_AGE_SECONDS = 3600.0
"""An artifact without a row is deleted only if it is older: the job that stored it has failed by then."""
INTERRUPTED_SECONDS = 3600.0
"""A temporary file that has not changed for so long was left by a write that a crash interrupted."""


def lock_against_deletion(session: Session) -> None:
    """Prevent the deletion of artifacts until the transaction ends. Waits for a deletion in progress."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock_shared(ARTIFACT_LOCK)))


def try_lock_for_deletion(session: Session) -> bool:
    """Lock the artifacts for deletion until the transaction ends. Returns False if they are locked."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(ARTIFACT_LOCK))))


def find_referenced(session: Session) -> set[str]:
    """Return the sha256 of every artifact that a row of any model needs.

    These are the files of every version of a model that is not deleted (of a purged or deleted
    version only the descriptive ones), and the values of all columns of the type ArtifactHash.
    """
    referenced: set[str] = set()
    is_gone = VersionRow.purged_by.is_not(None) | VersionRow.deleted_at.is_not(None)
    versions = select(VersionRow.files, is_gone).join(ModelRow, ModelRow.id == VersionRow.model_id)
    for files, gone in session.execute(versions.where(ModelRow.deleted_at.is_(None))):
        referenced |= {
            file["sha256"] for name, file in files.items() if not gone or name in DESCRIPTIVE_FILES
        }
    for table in Row.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, ArtifactHash):
                referenced |= set(session.scalars(select(column).where(column.is_not(None))))
    return referenced


def find_unreferenced(session: Session, artifacts: FolderArtifacts) -> list[Path]:
    """Return the files in the artifact folder that no row refers to, temporary ones among them.

    Files of the last hour are left out, because a job stores its files before it publishes.
    """
    referenced = find_referenced(session)
    return [path for path in artifacts.all_files() if path.name not in referenced and _is_old(path)]


def delete_unreferenced(session: Session, paths: Sequence[Path]) -> tuple[int, int] | None:
    """Delete those of these files that no row refers to. Returns how many, and their bytes together.

    Returns None, and deletes nothing, if the artifacts are locked.
    """
    if not try_lock_for_deletion(session):
        return None
    referenced, files, size = find_referenced(session), 0, 0
    for path in paths:
        if path.name in referenced or not _is_old(path):  # stored again since it was found
            continue
        with suppress(OSError):
            found = path.stat().st_size
            path.unlink()
            files, size = files + 1, size + found
    return files, size


def delete_listed(
    session: Session, files: Sequence[dict[str, Any]], artifacts: FolderArtifacts
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Delete the artifacts of these files, but those that a row still needs. Returns deleted and kept ones.

    files: entries {version, file, sha256, bytes}, which no row in use names any more. The artifacts must be
    locked (`try_lock_for_deletion`). Raises OSError; some artifacts are then deleted, and the same call may
    be repeated.
    """
    referenced = find_referenced(session)
    deleted = [file for file in files if file["sha256"] not in referenced]
    for sha256 in sorted({file["sha256"] for file in deleted}):
        artifacts.delete(sha256)
    return deleted, [file for file in files if file["sha256"] in referenced]


def _is_old(path: Path) -> bool:
    """Whether the file has been there for so long that no job or write needs it any more."""
    age = INTERRUPTED_SECONDS if path.name.startswith(UNFINISHED) else MINIMUM_AGE_SECONDS
    try:
        return path.stat().st_mtime <= time.time() - age
    except OSError:  # deleted by another process
        return False
