"""Which artifacts the rows refer to, and the lock that keeps the answer true while artifacts are deleted.

An artifact is stored before the row that refers to it, so "no row refers to it" may be wrong a moment later.
Therefore artifacts are deleted under an exclusive lock (`try_lock_for_deletion`), and rows that refer to
artifacts are committed under a shared one (`lock_against_deletion`), after storing again what was deleted.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.registry.artifacts import FolderArtifacts
from service.registry.tables import ArtifactHash, Row, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES

ARTIFACT_LOCK = (
    0x617274  # "art": an advisory lock of PostgreSQL. SQLite lets only one transaction write at a time
)

SETTLED_SECONDS = 3600.0
"""How old an artifact without a row is when it is deleted: the job that stored it has long failed."""


def lock_against_deletion(session: Session) -> None:
    """Have no artifact deleted until the transaction ends. Waits for a deletion that is going on."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock_shared(ARTIFACT_LOCK)))


def try_lock_for_deletion(session: Session) -> bool:
    """Lock the artifacts until the transaction ends, so that it may delete some. False if it has to wait."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(ARTIFACT_LOCK))))


def find_referenced(session: Session) -> set[str]:
    """Return the sha256 of every artifact that a row of any model needs.

    These are the files of every version (of a purged one the descriptive files only), and what columns of the
    type ArtifactHash hold.
    """
    referenced: set[str] = set()
    for files, purged_by in session.execute(select(VersionRow.files, VersionRow.purged_by)):
        referenced |= {
            file["sha256"] for name, file in files.items() if purged_by is None or name in DESCRIPTIVE_FILES
        }
    for table in Row.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, ArtifactHash):
                referenced |= set(session.scalars(select(column).where(column.is_not(None))))
    return referenced


def delete_unreferenced(session: Session, artifacts: FolderArtifacts) -> int | None:
    """Delete the files that no row refers to and that are an hour old. Return how many; None if locked.

    Younger files are spared, because a job that is about to publish has stored its files already. If no row
    refers to any artifact nothing is deleted: most likely the database and the folder do not belong together.
    """
    if not try_lock_for_deletion(session):
        return None
    referenced = find_referenced(session)
    if not referenced:
        return 0
    unreferenced = [path for path in _settled_files(artifacts) if path.name not in referenced]
    for path in unreferenced:
        path.unlink(missing_ok=True)
    return len(unreferenced)


def _settled_files(artifacts: FolderArtifacts) -> Iterator[Path]:
    """Iterate over the files that were last stored that long ago."""
    before = time.time() - SETTLED_SECONDS
    for path in artifacts.all_files():
        try:
            if path.stat().st_mtime <= before:
                yield path
        except FileNotFoundError:  # deleted by another process
            continue
