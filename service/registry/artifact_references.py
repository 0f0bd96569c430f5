"""Find which artifacts the rows refer to, and lock artifacts so that none is deleted while rows are added.

An artifact is stored before the row that refers to it, so "no row refers to it" may be wrong a moment later.
Therefore artifacts are deleted under an exclusive lock (`try_lock_for_deletion`). A worker that publishes a
version or a report takes a shared lock (`lock_against_deletion`), stores deleted artifacts again, and commits
its rows.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.registry.artifacts import Artifacts
from service.registry.store import Stored, StoreFailed
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


def find_unreferenced(session: Session, artifacts: Artifacts) -> list[Stored]:
    """Return the files of artifacts that no row refers to, and what interrupted writes left.

    Files of the last hour are left out, because a job stores its files before it publishes.
    """
    referenced = find_referenced(session)
    found = artifacts.files(leftovers=True)
    return [file for file in found if file.last_part not in referenced and _is_old(file)]


def delete_unreferenced(
    session: Session, found: Sequence[Stored], artifacts: Artifacts
) -> tuple[int, int] | None:
    """Delete those of these files that no row refers to. Returns how many, and their bytes together.

    Returns None, and deletes nothing, if the artifacts are locked. Raises StoreFailed.
    """
    if not try_lock_for_deletion(session):
        return None
    referenced = find_referenced(session)
    store = artifacts.store
    now = [
        store.find(file.name) if file.is_current else file
        for file in found
        if file.last_part not in referenced
    ]
    unused = [file for file in now if file is not None and _is_old(file)]  # not stored again meanwhile
    try:
        left = store.delete([file.name for file in unused])
        unused = [file for file in unused if file.name not in left]
    except StoreFailed:
        raise
    except OSError:  # such as another user's file; the others are deleted
        unused = [file for file in unused if store.find(file.name) is None]
    return len(unused), sum(file.bytes for file in unused)


def delete_listed(
    session: Session, files: Sequence[dict[str, Any]], artifacts: Artifacts
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Delete the artifacts of these files, but those that a row still needs. Returns deleted and kept ones.

    files: entries {version, file, sha256, bytes}, which no row in use names any more. Those of which a bucket
    keeps old versions are among the kept ones, and have a `reason`. The artifacts must be locked
    (`try_lock_for_deletion`). Raises OSError; some artifacts are then deleted, and the same call may be
    repeated.
    """
    files = [without_reason(file) for file in files]
    referenced = find_referenced(session)
    left = artifacts.delete(*sorted({file["sha256"] for file in files} - referenced))
    deleted, kept = [], []
    for file in files:
        if file["sha256"] in referenced:
            kept.append(file)
        elif file["sha256"] in left:
            kept.append({**file, "reason": left[file["sha256"]]})
        else:
            deleted.append(file)
    return deleted, kept


def without_reason(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a file as it was before something refused to delete it."""
    return {name: value for name, value in file.items() if name != "reason"}


def _is_old(file: Stored) -> bool:
    """Whether the file has been there for so long that no job or write needs it any more."""
    age = INTERRUPTED_SECONDS if file.is_unfinished else MINIMUM_AGE_SECONDS
    return file.modified_at <= time.time() - age
