"""Back up a running service: a folder with the database, every artifact it needs, the keys and a manifest.

The database is copied in one moment, and the artifacts that its rows refer to at that moment after it. An
artifact never changes, so the copy is consistent although the service goes on. If a purge deletes an artifact
meanwhile, the backup is made without it, since the purge is in the erasure log (erasure_log.py).
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from service import durable
from service.registry import artifact_references
from service.registry.artifacts import Artifacts, FolderArtifacts
from service.registry.database import Database
from service.registry.errors import ArtifactMissing
from service.registry.opening import open_artifacts
from service.settings import Settings

FORMAT = 1
MANIFEST = "backup.json"
SQLITE_FILE, POSTGRESQL_FILE = "palimpsest.db", "database.dump"
ARTIFACTS, KEYS = "artifacts", "keys"
PRIVATE_FOLDER = 0o700
COPY_SECONDS = 6 * 3600.0
"""How long the copy of the database may take."""


class CannotBackUp(Exception):
    """The backup or the restoration is not possible; the message says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What a backup contains. A backup without this file is incomplete."""

    format: int
    created_at: str
    schema: str
    """The revision of the database's schema."""
    database: str
    """The name of the database file: a copy for SQLite, the output of pg_dump for PostgreSQL."""
    database_sha256: str
    artifacts: int
    artifact_bytes: int
    missing: list[str]
    """The artifacts that a purge deleted while the backup was made."""


def back_up(deployment: Settings, folder: Path) -> Manifest:
    """Write the backup to a new folder, which appears complete or not at all.

    Raises CannotBackUp, DatabaseUnavailable, ArtifactCorrupt, ArtifactUnreadable, OSError.
    """
    if folder.exists():
        raise CannotBackUp(f"{folder} exists already; name a folder that does not")
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    with _locked(unfinished, folder):
        for left in unfinished.iterdir():  # of a backup that was interrupted
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            manifest = _write(deployment, unfinished)
            os.rename(unfinished, folder)
            durable.sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return manifest


@contextmanager
def _locked(unfinished: Path, folder: Path) -> Iterator[None]:
    """Make the unfinished folder, and hold a lock on it. Raises CannotBackUp if another backup holds it."""
    unfinished.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another backup may have ended, and given the folder its name or deleted it, just before the lock.
        if not unfinished.exists() or not os.path.samestat(os.fstat(descriptor), unfinished.stat()):
            raise BlockingIOError
        yield
    except BlockingIOError:
        raise CannotBackUp(f"another backup to {folder} is running; wait for it, or name another") from None
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    """Read what the backup contains. Raises CannotBackUp."""
    try:
        values = json.loads((folder / MANIFEST).read_text())
        if values["format"] != FORMAT:
            raise CannotBackUp(f"{folder} has the format {values['format']}, which this release cannot read")
        return Manifest(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CannotBackUp(f"{folder} is not a complete backup: cannot read {MANIFEST} ({error})") from error


def _write(deployment: Settings, folder: Path) -> Manifest:
    database = Database(deployment.database_url, wait_seconds=COPY_SECONDS)
    artifacts = open_artifacts(deployment)
    name = SQLITE_FILE if database.is_sqlite else POSTGRESQL_FILE
    try:
        with _frozen(database) as session:
            schema = MigrationContext.configure(session.connection()).get_current_revision()
            if schema is None:
                raise CannotBackUp("the database has no tables; there is nothing to back up")
            referenced = artifact_references.find_referenced(session)
            _copy_database(session, make_url(deployment.database_url), folder / name)
        size, missing = _copy_artifacts(referenced, artifacts, FolderArtifacts(folder / ARTIFACTS), database)
    finally:
        database.dispose()
    if deployment.keys.is_dir():
        shutil.copytree(deployment.keys, folder / KEYS)
    manifest = Manifest(
        format=FORMAT,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        schema=schema,
        database=name,
        database_sha256=sha256_of(folder / name),
        artifacts=len(referenced) - len(missing),
        artifact_bytes=size,
        missing=sorted(missing),
    )
    durable.write(folder / MANIFEST, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    return manifest


@contextmanager
def _frozen(database: Database) -> Iterator[Session]:
    """Open a session that sees the database as it is at this moment, whatever is committed meanwhile."""
    with database.reading() as session:
        if not database.is_sqlite:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        yield session


def _copy_database(session: Session, url: URL, target: Path) -> None:
    """Copy the database as the session sees it."""
    if url.get_backend_name() == "sqlite":
        # The session has read, so it keeps its snapshot; VACUUM is not allowed within it.
        source = session.connection().connection.driver_connection
        assert source is not None
        with _sqlite_copy(target) as copy:
            source.backup(copy)
        return
    snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
    run_tool("pg_dump", url, ["--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={target}"])


@contextmanager
def _sqlite_copy(target: Path) -> Iterator[sqlite3.Connection]:
    copy = sqlite3.connect(target)
    try:
        yield copy
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a write-ahead log beside it
    finally:
        copy.close()


def run_tool(program: str, url: URL, arguments: list[str]) -> None:
    """Run a client program of PostgreSQL on the database of the URL. Raises CannotBackUp."""
    if shutil.which(program) is None:
        raise CannotBackUp(f"{program} is not installed; it comes with PostgreSQL's client programs")
    libpq = {
        "PGHOST": url.host,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password if isinstance(url.password, str) else None,
        "PGDATABASE": url.database,
        "PGOPTIONS": url.query.get("options"),
    }
    environment = {name: str(value) for name, value in libpq.items() if value}
    ended = subprocess.run(
        [program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        reason = (ended.stderr.strip() or f"exit code {ended.returncode}").splitlines()[0]
        raise CannotBackUp(f"{program} failed: {reason}")


def _copy_artifacts(
    referenced: set[str], source: Artifacts, target: Artifacts, database: Database
) -> tuple[int, set[str]]:
    """Copy the artifacts, each checked by its hash. Returns their bytes, and those that a purge deleted."""
    size, missing = 0, set[str]()
    for sha256 in sorted(referenced):
        try:
            data = source.read(sha256)
        except ArtifactMissing:
            with database.reading() as session:
                if sha256 in artifact_references.find_referenced(session):
                    raise
            missing.add(sha256)
            continue
        target.put(data)
        size += len(data)
    return size, missing


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file that may be too large for the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
