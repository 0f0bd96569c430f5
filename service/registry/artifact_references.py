"""Which artifacts the rows refer to, and the lock under which that answer stays true.

An artifact is put before the row that names it exists, so "no row refers to it" can be wrong a moment later.
Who deletes holds the lock alone; who commits such a row holds it with others, and stores the bytes again
should they be gone: `keeping` in the worker's publication, `deleting` in a purge and in the collection.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.registry.artifacts import FolderArtifacts
from service.registry.tables import ArtifactHash, Row, VersionRow
from service.registry.version_files import DESCRIPTIVE_FILES

ARTIFACT_LOCK = 0x617274  # "art": PostgreSQL's advisory lock. SQLite has one writer at a time anyway

SETTLED_SECONDS = 3600.0
"""How long ago what no row refers to was put before it is collected: whoever put it has failed since."""


def lock_against_deletion(session: Session) -> None:
    """From here to the commit no artifact is deleted; store again what is gone, then write its row."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock_shared(ARTIFACT_LOCK)))


def try_lock_for_deletion(session: Session) -> bool:
    """Whether this transaction may delete artifacts; while another puts or deletes, the next sweep may."""
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(ARTIFACT_LOCK))))


def find_referenced(session: Session) -> set[str]:
    """The sha256 of every artifact a row of any model still needs.

    Every file of a version, but only the evidence of a purged one; and whatever else a table calls `sha256`.
    """
    held: set[str] = set()
    for files, purged_by in session.execute(select(VersionRow.files, VersionRow.purged_by)):
        held |= {
            file["sha256"] for name, file in files.items() if purged_by is None or name in DESCRIPTIVE_FILES
        }
    for table in Row.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, ArtifactHash):
                held |= set(session.scalars(select(column).where(column.is_not(None))))
    return held


def delete_unreferenced(session: Session, artifacts: FolderArtifacts) -> int | None:
    """Delete what no row refers to and nobody put lately: how many files. None while another puts or deletes.

    The age spares the files of a publication that is under way: they would only be stored again. A database
    that refers to nothing at all is another than the one these artifacts belong to: nothing is deleted.
    """
    if not try_lock_for_deletion(session):
        return None
    held = find_referenced(session)
    orphans = [path for path in _settled(artifacts) if path.name not in held] if held else []
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def _settled(artifacts: FolderArtifacts) -> Iterable[Path]:
    """Files last put that long ago by the folder's own clock, halves of a killed put among them."""
    before = time.time() - SETTLED_SECONDS
    for path in artifacts.every():
        try:
            if path.stat().st_mtime <= before:
                yield path
        except FileNotFoundError:  # another is quicker
            continue
