"""The commands that run and maintain the service. Learning happens in worker processes, not here."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import typer
from pydantic import ValidationError

from commands.failure import fail
from migrations import check_not_newer, find_differences, upgrade
from service import failpoints, logs
from service.process import sweeper
from service.process.errors import CannotStart
from service.process.supervisor import supervise
from service.process.worker_launch import check_worker_package, worker_command, worker_environment
from service.registry import artifact_references, audit
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.registry.tables import Row
from service.settings import Settings, load_settings


def serve(host: str | None, port: int | None, *, with_worker: bool) -> None:
    """Run the API, the sweeper and, if `with_worker`, a worker as child process, until SIGTERM or Ctrl-C."""
    options = {"host": host, "port": port}
    given = {name: value for name, value in options.items() if value is not None}
    with loaded_deployment() as deployment:
        supervise(
            deployment.model_copy(update=given),
            migrate=upgrade,
            with_worker=with_worker,
            announce=typer.echo,
        )


def work() -> None:
    """Replace this process with a worker."""
    with loaded_deployment() as deployment:
        _open_database(deployment).dispose()
        check_worker_package()
        command = worker_command()
        os.execve(command[0], command, worker_environment(deployment))


def sweep(*, once: bool) -> None:
    """Sweep once, or again and again until the process is stopped."""
    with loaded_deployment() as deployment:
        database = _open_database(deployment)
        if once:
            sweeper.sweep(database, deployment)
        else:
            sweeper.sweep_until(Event(), database, deployment)


def collect() -> None:
    """Delete artifacts that no row of the database refers to."""
    with loaded_deployment() as deployment:
        with _open_database(deployment).transaction() as session:
            collected = artifact_references.delete_unreferenced(
                session, FolderArtifacts(deployment.artifacts)
            )
        if collected is None:
            fail("nothing was deleted: a job or a purge is writing artifacts just now; try again")
        typer.echo(f"deleted {collected} files that no row refers to")


def verify_audit_log(*, head: str | None) -> None:
    """Verify the chain of hashes of the audit log, and print its newest hash; exit with 1 if it is broken."""
    with loaded_deployment() as deployment, Database(deployment.database_url).reading() as session:
        found = audit.verify(session, noted_head=head)
    if found.fault:
        fail(f"the audit log is NOT intact: {found.fault}; the {found.entries} entries before it are")
    if not found.knows_head:
        fail(f"the audit log is NOT complete: none of its {found.entries} entries has the hash {head}")
    typer.echo(f"the audit log is intact: {found.entries} sealed entries, {found.unsealed} not sealed yet")
    typer.echo(f"newest hash: {found.head}")


def migrate() -> None:
    """Migrate the database to the schema of this release."""
    with loaded_deployment() as deployment:
        upgrade(Database(deployment.database_url))


def check_migrations() -> None:
    """Compare the tables that the migrations create with those in the code; exit with 1 if they differ."""
    with tempfile.TemporaryDirectory() as folder:
        migrated, declared = (
            Database(f"sqlite:///{Path(folder) / name}.db") for name in ("migrated", "declared")
        )
        upgrade(migrated)
        Row.metadata.create_all(declared.engine)
        found = find_differences(migrated, declared)
    for line in found:
        typer.echo(line, err=True)
    if found:
        raise typer.Exit(1)


def _open_database(deployment: Settings) -> Database:
    """Open the database. It need not be reachable yet: the worker and the sweeper wait for it.

    Raises DatabaseTooNew if a newer release has migrated it.
    """
    database = Database(deployment.database_url)
    with suppress(DatabaseUnavailable):
        check_not_newer(database)
    return database


@contextmanager
def loaded_deployment() -> Iterator[Settings]:
    """Load the settings and log to stderr. A known error in the block prints one line and exits with 1."""
    try:
        deployment = load_settings()
        logs.configure(level=deployment.log_level, log_format=deployment.log_format)
        failpoints.warn_if_armed()
        yield deployment
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"PALIMPSEST_{str(first['loc'][0]).upper()}: {first['msg']}")
    except DatabaseUnavailable as error:
        fail(f"{error.message} ({error.reason})")
    except (CannotStart, RegistryError, failpoints.UnknownFailpoint) as error:
        fail(str(error))
