"""The commands that run and maintain the service. Learning happens in worker processes, not here."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import typer

from commands.deployment import loaded_deployment, open_database
from commands.doctor import examine
from commands.failure import fail
from migrations import find_differences, upgrade
from service import home
from service.process import collector, sweeper
from service.process.maintenance import start_maintenance
from service.process.signer import make_signing_key, refuse_older_than_erasures
from service.process.stopping import stop_on_signals
from service.process.supervisor import supervise
from service.registry import audit, database_file, store_identity
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.opening import open_artifacts
from service.registry.tables import Row
from service.settings import Settings
from service.urls import sqlite_url

NEXT_STEPS = """
  Look at it in a browser: {url}
  Or try it from another terminal:

    export PALIMPSEST_URL={url}
    palimpsest models create numbers --dataset digits
    palimpsest learn numbers 0 1 2 3
    palimpsest sample numbers 3 --count 8
    palimpsest forget numbers 3

  Ctrl-C stops it. Its log follows.

"""
"""What is told to people who start the service at a terminal."""


def serve(host: str | None, port: int | None, *, with_worker: bool, without_keys: bool) -> None:
    """Run the API, the sweeper and, if `with_worker`, a worker as child process, until SIGTERM or Ctrl-C."""
    options = {"host": host, "port": port, "auth": "off" if without_keys else None}
    given = {name: value for name, value in options.items() if value is not None}
    with loaded_deployment() as deployment:
        supervise(
            deployment.model_copy(update=given),
            migrate=lambda database: _prepare(database, deployment),
            with_worker=with_worker,
            announce=_announce,
        )


def _announce(line: str) -> None:
    """Write the line to stdout. A full disk there, where a log is kept, ends nothing."""
    with suppress(OSError):
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), NEXT_STEPS.format(url=line.split()[-1]).encode())


def sweep(*, once: bool) -> None:
    """Sweep once, or again and again until the process is stopped."""
    with loaded_deployment() as deployment:
        database = open_database(deployment)
        with suppress(DatabaseUnavailable):
            store_identity.check_store(database, open_artifacts(deployment))
            refuse_older_than_erasures(database, deployment)
            make_signing_key(database, deployment)
        if once:
            sweeper.sweep(database, deployment)
        else:
            start_maintenance(stop := stop_on_signals(), database, deployment)
            sweeper.sweep_until(stop, database, deployment)


def collect() -> None:
    """Delete artifacts that no row of the database refers to."""
    with loaded_deployment() as deployment:
        database = open_database(deployment)
        store_identity.check_store(database, open_artifacts(deployment))
        collected = collector.collect(database, deployment)
        typer.echo(
            f"deleted {collected.files} files ({collected.bytes} bytes): {collected.artifacts} artifacts "
            f"that no row refers to, {collected.temporary} files of interrupted writes, "
            f"{collected.messages} old messages"
        )
        if not collected.complete:
            fail("some artifacts are left: a job or a purge is writing artifacts just now; try again")


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
        _migrate(Database(deployment.database_url), deployment)


def doctor(*, as_json: bool) -> None:
    """Check the deployment and print what was found; exit with 1 if there is a problem."""
    with loaded_deployment() as deployment:
        if not examine(deployment, as_json=as_json):
            raise typer.Exit(1)


def adopt() -> None:
    """Make the artifact store this database's."""
    with loaded_deployment() as deployment:
        artifacts = open_artifacts(deployment)
        store_identity.adopt_store(open_database(deployment), artifacts)
        typer.echo(f"{artifacts.place} is this database's now; `palimpsest doctor` lists what it lacks")


def check_migrations() -> None:
    """Compare the tables that the migrations create with those in the code; exit with 1 if they differ."""
    with tempfile.TemporaryDirectory() as folder:
        migrated, declared = (
            Database(sqlite_url(Path(folder) / f"{name}.db")) for name in ("migrated", "declared")
        )
        upgrade(migrated)
        Row.metadata.create_all(declared.engine)
        found = find_differences(migrated, declared)
    for line in found:
        typer.echo(line, err=True)
    if found:
        raise typer.Exit(1)


def _prepare(database: Database, deployment: Settings) -> None:
    """Migrate the database, and check that the artifact store is its own, before the API uses them."""
    _migrate(database, deployment)
    store_identity.claim_store(database, open_artifacts(deployment))
    home.restrict_home(deployment)


def _migrate(database: Database, deployment: Settings) -> None:
    """Migrate a database that is whole, Palimpsest's, and no new one beside the artifacts of another."""
    database_file.check_database_file(deployment.database_url)
    database_file.check_owner(database)
    store_identity.check_new_database(database, open_artifacts(deployment))
    upgrade(database)
