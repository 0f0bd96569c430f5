"""The database's schema and its history: one file a step, in versions/.

`upgrade(database)` brings a database to the newest step: nothing to do is fine, two starters at once do it
once, and a killed one leaves no half step behind, on SQLite and PostgreSQL alike.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select

from service.registry.database import Database
from service.registry.errors import DatabaseTooNew

MIGRATION_LOCK = (
    0x6D696772  # "migr": PostgreSQL's advisory lock. SQLite's own write lock does the same there.
)


def upgrade(database: Database, *, to: str = "head") -> None:
    """Apply every step the database lacks, in one transaction; `to` stops at an earlier one.

    Raises DatabaseTooNew, DatabaseUnavailable.
    """
    with database.migrating() as session:
        connection = session.connection()
        if not database.is_sqlite:
            session.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        _refuse_newer(connection)
        command.upgrade(_config(connection), to)


def refuse_newer(database: Database) -> None:
    """Raises DatabaseTooNew for a revision this release does not know, and DatabaseUnavailable.

    An older database passes, and one without tables: who serves it brings it up to date.
    """
    with database.reading() as session:
        _refuse_newer(session.connection())


def differences(migrated: Database, declared: Database) -> list[str]:
    """How a migrated database differs from one created from tables.py. Empty is right."""
    found, wanted = _schema(migrated), _schema(declared)
    return [f"migrations make it, tables.py does not: {line}" for line in sorted(found - wanted)] + [
        f"tables.py declares it, migrations do not make it: {line}" for line in sorted(wanted - found)
    ]


def _schema(database: Database) -> set[str]:
    """Every column, key, constraint and index of the database, one line each."""
    inspector = inspect(database.engine)
    lines: set[str] = set()
    for table in set(inspector.get_table_names()) - {"alembic_version"}:
        lines.add(f"{table} primary key {inspector.get_pk_constraint(table)}")
        for kind, things in (
            ("column", inspector.get_columns(table)),
            ("unique", inspector.get_unique_constraints(table)),
            ("check", inspector.get_check_constraints(table)),
            ("foreign key", inspector.get_foreign_keys(table)),
            ("index", inspector.get_indexes(table)),
        ):
            lines.update(f"{table} {kind} {_plain(thing)}" for thing in things)
    return lines


def _plain(thing: Any) -> str:
    """A reflected thing in words that compare: SQL expressions as text, keys in order."""
    if isinstance(thing, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(thing[key])}" for key in sorted(thing)) + "}"
    return str(thing)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _refuse_newer(connection: Connection) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config(connection)).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise DatabaseTooNew(revision)
