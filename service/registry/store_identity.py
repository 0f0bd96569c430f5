"""Whether the artifact store belongs to the database: both hold the same random id.

The id is the fact `artifact_store` in the database and the file `store-id` in the artifact store. The first
start writes both. A process that finds another id, or none beside files that somebody needs, must not run: it
would publish rows without files, or delete the files of another database.
"""

import logging
import re
from uuid import uuid4

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from service.registry.artifact_references import find_referenced
from service.registry.artifacts import Artifacts
from service.registry.database import Database
from service.registry.errors import StoreUnusable
from service.registry.tables import FactRow, ModelRow, VersionRow

log = logging.getLogger(__name__)

FACT, MARKER = "artifact_store", "store-id"
STORE_LOCK = 0x73746F7265  # "store": an advisory lock of PostgreSQL. SQLite has one writer at a time
ADVICE = (
    "set PALIMPSEST_HOME (or PALIMPSEST_ARTIFACTS_URL) and PALIMPSEST_DATABASE_URL to what belongs together, "
    "or restore the missing one from a backup; `palimpsest adopt` makes the store this database's"
)
IS_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_new_database(database: Database, artifacts: Artifacts) -> None:
    """Check that a database without tables stands beside an artifact store without files.

    Call it before the migration, which makes a new database of an empty one.
    Raises StoreUnusable, DatabaseUnavailable.
    """
    with database.reading() as session:
        tables = inspect(session.connection()).get_table_names()
    if not tables and _has_files(artifacts):
        raise StoreUnusable(_describe_empty_database(artifacts))


def claim_store(database: Database, artifacts: Artifacts) -> None:
    """Check that the artifact store is this database's; the first start makes it so, and makes a folder.

    A store without an id is adopted if it holds the files of every head: it is of an earlier release, or was
    copied. Raises StoreUnusable, DatabaseUnavailable.
    """
    artifacts.store.check()
    with database.transaction() as session:
        _lock(session)
        fact, marker = _read_fact(session), read_marker(artifacts)
        if fact and fact == marker:
            return
        if fact and marker:
            raise StoreUnusable(f"{artifacts.place} is another database's; {ADVICE}")
        if not _has_rows(session):
            if _has_files(artifacts):
                raise StoreUnusable(_describe_empty_database(artifacts))
        elif missing := _count_missing_of_heads(session, artifacts):
            raise StoreUnusable(
                f"{artifacts.place} is not this database's, or was emptied: {missing} "
                f"files of the newest versions are not in it; {ADVICE}"
            )
        _write(session, artifacts, fact or marker or uuid4().hex)


def check_store(database: Database, artifacts: Artifacts) -> None:
    """Check that the artifact store is this database's, and change nothing. For a worker.

    It may be on another machine, with another store. Raises StoreUnusable, DatabaseUnavailable.
    """
    with database.reading() as session:
        fact = _read_fact(session)
    if fact is None:
        return  # the API has not started yet since the database was made, and no job was accepted
    if not artifacts.store.is_bucket:  # of a bucket, the marker shows the same with one request less
        artifacts.store.check()
    if read_marker(artifacts) != fact:
        raise StoreUnusable(
            f"{artifacts.place} is not the one that the API of this database uses; set "
            "PALIMPSEST_ARTIFACTS_URL to the same bucket, or PALIMPSEST_HOME to the same shared folder"
        )


def adopt_store(database: Database, artifacts: Artifacts) -> None:
    """Make the artifact store this database's, whatever it contains.

    Raises StoreUnusable, DatabaseUnavailable.
    """
    artifacts.store.check()
    with database.transaction() as session:
        _lock(session)
        _write(session, artifacts, uuid4().hex)


def is_claimed(session: Session, artifacts: Artifacts) -> bool:
    """Whether both ids are there and equal."""
    fact = _read_fact(session)
    return fact is not None and fact == read_marker(artifacts)


def read_marker(artifacts: Artifacts) -> str | None:
    """Return the id in the artifact store, if there is one. Raises StoreUnusable."""
    try:
        return b"".join(artifacts.store.read(MARKER)).decode("ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        artifacts.store.check()  # may know a better reason
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StoreUnusable(f"cannot read {MARKER} in {artifacts.place}: {reason}") from error


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock(STORE_LOCK)))


def _read_fact(session: Session) -> str | None:
    fact = session.get(FactRow, FACT)
    return None if fact is None else str(fact.value["id"])


def _write(session: Session, artifacts: Artifacts, store_id: str) -> None:
    """Write the id to both. The store comes first: a crash in between leaves one that is claimed again."""
    try:
        artifacts.store.write(MARKER, store_id.encode("ascii") + b"\n")
    except OSError as error:
        raise StoreUnusable(f"cannot write to {artifacts.place}: {error.strerror}") from error
    session.merge(FactRow(name=FACT, value={"id": store_id}))
    log.info("%s belongs to this database; its id is %s", artifacts.place, store_id)


def _has_rows(session: Session) -> bool:
    return bool(find_referenced(session))


def _has_files(artifacts: Artifacts) -> bool:
    return any(IS_SHA256.fullmatch(file.last_part) for file in artifacts.files())


def _count_missing_of_heads(session: Session, artifacts: Artifacts) -> int:
    heads = select(VersionRow.files).join(
        ModelRow, (ModelRow.id == VersionRow.model_id) & (ModelRow.head == VersionRow.number)
    )
    heads = heads.where(ModelRow.deleted_at.is_(None), VersionRow.purged_by.is_(None))
    needed = {file["sha256"] for files in session.scalars(heads) for file in files.values()}
    return sum(not artifacts.exists(sha256) for sha256 in needed)


def _describe_empty_database(artifacts: Artifacts) -> str:
    return f"the database is empty, and {artifacts.place} contains the artifacts of another one; {ADVICE}"
