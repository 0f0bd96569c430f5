"""Whether the artifact folder belongs to the database: both hold the same random id.

The id is the fact `artifact_store` in the database and the file `store-id` in the artifact folder. The first
start writes both. A process that finds another id, or none beside files that somebody needs, must not run: it
would publish rows without files, or delete the files of another database.
"""

import logging
import os
from pathlib import Path
from uuid import uuid4

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from service import durable
from service.registry.artifact_references import find_referenced
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import StoreUnusable
from service.registry.tables import FactRow, ModelRow, VersionRow

log = logging.getLogger(__name__)

FACT, MARKER = "artifact_store", "store-id"
STORE_LOCK = 0x73746F7265  # "store": an advisory lock of PostgreSQL. SQLite has one writer at a time
ADVICE = (
    "set PALIMPSEST_HOME and PALIMPSEST_DATABASE_URL to what belongs together, or restore the missing one "
    "from a backup; `palimpsest adopt` makes the folder this database's"
)


def check_new_database(database: Database, artifacts: FolderArtifacts) -> None:
    """Check that a database without tables stands beside an artifact folder without files.

    Call it before the migration, which makes a new database of an empty one.
    Raises StoreUnusable, DatabaseUnavailable.
    """
    with database.reading() as session:
        tables = inspect(session.connection()).get_table_names()
    if not tables and _has_files(artifacts):
        raise StoreUnusable(_describe_empty_database(artifacts))


def claim_store(database: Database, artifacts: FolderArtifacts) -> None:
    """Check that the artifact folder is this database's; the first start makes it so, and makes the folder.

    A folder without an id is adopted if it holds the files of every head: it is of an earlier release, or was
    copied. Raises StoreUnusable, DatabaseUnavailable.
    """
    _check_folder(artifacts.folder)
    with database.transaction() as session:
        _lock(session)
        fact, marker = _read_fact(session), read_marker(artifacts)
        if fact and fact == marker:
            return
        if fact and marker:
            raise StoreUnusable(f"the artifact folder {artifacts.folder} is another database's; {ADVICE}")
        if not _has_rows(session):
            if _has_files(artifacts):
                raise StoreUnusable(_describe_empty_database(artifacts))
        elif missing := _count_missing_of_heads(session, artifacts):
            raise StoreUnusable(
                f"the artifact folder {artifacts.folder} is not this database's, or was emptied: {missing} "
                f"files of the newest versions are not in it; {ADVICE}"
            )
        _write(session, artifacts, fact or marker or uuid4().hex)


def check_store(database: Database, artifacts: FolderArtifacts) -> None:
    """Check that the artifact folder is this database's, and change nothing. For a worker.

    It may be on another machine, with another folder. Raises StoreUnusable, DatabaseUnavailable.
    """
    with database.reading() as session:
        fact = _read_fact(session)
    if fact is None:
        return  # the API has not started yet since the database was made, and no job was accepted
    _check_folder(artifacts.folder)
    if read_marker(artifacts) != fact:
        raise StoreUnusable(
            f"the artifact folder {artifacts.folder} is not the one that the API of this database uses; set "
            "PALIMPSEST_HOME to the same shared folder"
        )


def adopt_store(database: Database, artifacts: FolderArtifacts) -> None:
    """Make the artifact folder this database's, whatever it contains.

    Raises StoreUnusable, DatabaseUnavailable.
    """
    _check_folder(artifacts.folder)
    with database.transaction() as session:
        _lock(session)
        _write(session, artifacts, uuid4().hex)


def is_claimed(session: Session, artifacts: FolderArtifacts) -> bool:
    """Whether both ids are there and equal."""
    fact = _read_fact(session)
    return fact is not None and fact == read_marker(artifacts)


def read_marker(artifacts: FolderArtifacts) -> str | None:
    """Return the id in the artifact folder, if there is one."""
    try:
        return (artifacts.folder / MARKER).read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StoreUnusable(f"cannot read {artifacts.folder / MARKER}: {reason}") from error


def _check_folder(folder: Path) -> None:
    """Raise StoreUnusable if the folder cannot be used; a missing one is made only if it can be."""
    if folder.is_symlink() and not folder.exists():
        raise StoreUnusable(f"the artifact folder {folder} is a link to nothing; is its disk mounted?")
    if folder.exists() and not folder.is_dir():
        raise StoreUnusable(f"the artifact folder {folder} is not a folder; move that file away")
    if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StoreUnusable(f"the artifact folder {folder} cannot be read and written; check its permissions")


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock(STORE_LOCK)))


def _read_fact(session: Session) -> str | None:
    fact = session.get(FactRow, FACT)
    return None if fact is None else str(fact.value["id"])


def _write(session: Session, artifacts: FolderArtifacts, store_id: str) -> None:
    """Write the id to both. The folder comes first: a crash in between leaves one that is claimed again."""
    try:
        durable.write(artifacts.folder / MARKER, store_id.encode("ascii") + b"\n")
    except OSError as error:
        raise StoreUnusable(
            f"cannot write to the artifact folder {artifacts.folder}: {error.strerror}"
        ) from error
    session.merge(FactRow(name=FACT, value={"id": store_id}))
    log.info("the artifact folder %s belongs to this database; its id is %s", artifacts.folder, store_id)


def _has_rows(session: Session) -> bool:
    return bool(find_referenced(session))


def _has_files(artifacts: FolderArtifacts) -> bool:
    return next(artifacts.stored(), None) is not None


def _count_missing_of_heads(session: Session, artifacts: FolderArtifacts) -> int:
    heads = select(VersionRow.files).join(
        ModelRow, (ModelRow.id == VersionRow.model_id) & (ModelRow.head == VersionRow.number)
    )
    heads = heads.where(ModelRow.deleted_at.is_(None), VersionRow.purged_by.is_(None))
    needed = {file["sha256"] for files in session.scalars(heads) for file in files.values()}
    return sum(not artifacts.exists(sha256) for sha256 in needed)


def _describe_empty_database(artifacts: FolderArtifacts) -> str:
    return f"the database is empty, and {artifacts.folder} contains the artifacts of another one; {ADVICE}"
