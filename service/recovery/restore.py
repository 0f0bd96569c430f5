"""Restore a backup into an empty home and an empty database, and forget again what was forgotten since.

The erasures that the backup does not know are replayed from the erasure log before anything is served
(replay.py).
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.engine import make_url

from service import durable
from service.recovery import erasure_log
from service.recovery.backup import (
    ARTIFACTS,
    KEYS,
    SQLITE_FILE,
    CannotBackUp,
    Manifest,
    read_manifest,
    run_tool,
    sha256_of,
)
from service.recovery.erasures import AnyErasure
from service.recovery.replay import replay
from service.registry.artifacts import Artifacts, FolderArtifacts
from service.registry.database import Database
from service.registry.opening import open_artifacts
from service.settings import Settings
from service.urls import sqlite_file


def restore(
    deployment: Settings,
    folder: Path,
    *,
    erasures: Sequence[AnyErasure],
    migrate: Callable[[Database], None],
) -> list[AnyErasure]:
    """Restore the backup and replay the erasures that it does not know. Returns these.

    Everything in the backup is checked against its hash before anything is written. The erasures are added to
    the deployment's own erasure log before anything that they are about is there.
    migrate: migrates the database to this release's schema.
    Raises CannotBackUp, DatabaseUnavailable, DatabaseTooNew, OSError.
    """
    manifest = read_manifest(folder)
    _check(folder, manifest)
    _refuse_another_kind(deployment, manifest)
    artifacts = open_artifacts(deployment)
    _refuse_to_overwrite(deployment, artifacts)
    erasure_log.merge(deployment.erasure_log, erasures)
    _restore_files(deployment, artifacts, folder)
    _restore_database(deployment, folder / manifest.database)
    database = Database(deployment.database_url)
    try:
        migrate(database)
        with database.transaction() as session:
            return replay(session, erasures, max_attempts=deployment.max_attempts)
    finally:
        database.dispose()


def _check(folder: Path, manifest: Manifest) -> None:
    """Check everything in the backup against its hash. Raises CannotBackUp."""
    found = sha256_of(folder / manifest.database) if (folder / manifest.database).is_file() else "missing"
    if found != manifest.database_sha256:
        raise CannotBackUp(f"{folder / manifest.database} is not as it was written: its sha256 is {found}")
    artifacts = FolderArtifacts(folder / ARTIFACTS)
    count = 0
    for path in artifacts.all_files():
        count += 1
        if sha256_of(path) != path.name:
            raise CannotBackUp(f"{path} is not as it was written: its bytes have another sha256")
    if count != manifest.artifacts:
        raise CannotBackUp(f"{folder} has {count} artifacts of the {manifest.artifacts} that were written")


def _refuse_another_kind(deployment: Settings, manifest: Manifest) -> None:
    if (manifest.database == SQLITE_FILE) != (sqlite_file(deployment.database_url) is not None):
        kind = "SQLite" if manifest.database == SQLITE_FILE else "PostgreSQL"
        raise CannotBackUp(f"the backup is of {kind}; set PALIMPSEST_DATABASE_URL to an empty database of it")


def _refuse_to_overwrite(deployment: Settings, artifacts: Artifacts) -> None:
    url = make_url(deployment.database_url)
    if next(artifacts.store.list(), None) is not None:
        raise CannotBackUp(f"{artifacts.place} is not empty; restore into an empty PALIMPSEST_HOME")
    if deployment.keys.is_dir() and any(deployment.keys.iterdir()):
        raise CannotBackUp(f"{deployment.keys} is not empty; restore into an empty PALIMPSEST_HOME")
    if url.get_backend_name() == "sqlite":
        if url.database and Path(url.database).exists():
            raise CannotBackUp(f"{url.database} exists already; restore into an empty PALIMPSEST_HOME")
        return
    database = Database(deployment.database_url)
    try:
        with database.reading() as session:
            tables = inspect(session.connection()).get_table_names()
    finally:
        database.dispose()
    if tables:
        raise CannotBackUp("the database has tables already; restore into an empty one")


def _restore_files(deployment: Settings, artifacts: Artifacts, folder: Path) -> None:
    for path in FolderArtifacts(folder / ARTIFACTS).all_files():
        artifacts.put(path.read_bytes())
    if (folder / KEYS).is_dir():
        shutil.copytree(folder / KEYS, deployment.keys, dirs_exist_ok=True)


def _restore_database(deployment: Settings, file: Path) -> None:
    """Restore the database, after the files: an interrupted restoration leaves nothing to be served."""
    url = make_url(deployment.database_url)
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        durable.write(Path(url.database), file.read_bytes())
        return
    options = ["--no-owner", "--exit-on-error", "--single-transaction", f"--dbname={url.database}"]
    run_tool("pg_restore", url, [*options, str(file)])
