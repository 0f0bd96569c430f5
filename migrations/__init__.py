"""The migrations of the database: one file in versions/ for each step.

`upgrade(database)` applies the steps that a database lacks. Several processes may call it at the same time.
If one is killed meanwhile, the database stays as it was, on SQLite and PostgreSQL alike.
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

MIGRATION_LOCK = 0x6D696772  # "migr": an advisory lock of PostgreSQL. SQLite lets only one transaction write


def upgrade(database: Database, *, to: str = "head") -> None:
    """Apply every step that the database lacks, in one transaction. to: the last step to apply.

    Raises DatabaseTooNew, DatabaseUnavailable.
    """
    with database.migrating() as session:
        connection = session.connection()
        if not database.is_sqlite:
            session.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        _refuse_newer(connection)
        command.upgrade(_config(connection), to)


def refuse_newer(database: Database) -> None:
    """Raise DatabaseTooNew if the database is at a revision that this release does not know.

    An older database passes, and one without tables as well, for the API migrates them.
    Raises DatabaseUnavailable.
    """
    with database.reading() as session:
        _refuse_newer(session.connection())


def differences(migrated: Database, declared: Database) -> list[str]:
    """Return how a migrated database differs from one that was created from tables.py: a line each."""
    found, expected = _schema(migrated), _schema(declared)
    return [f"only in the migrated database: {line}" for line in sorted(found - expected)] + [
        f"only in tables.py: {line}" for line in sorted(expected - found)
    ]


def _schema(database: Database) -> set[str]:
    """Describe every column, key, constraint and index of the database, one line each."""
    inspector = inspect(database.engine)
    lines: set[str] = set()
    for table in set(inspector.get_table_names()) - {"alembic_version"}:
        lines.add(f"{table} primary key {inspector.get_pk_constraint(table)}")
        for kind, objects in (
            ("column", inspector.get_columns(table)),
            ("unique", inspector.get_unique_constraints(table)),
            ("check", inspector.get_check_constraints(table)),
            ("foreign key", inspector.get_foreign_keys(table)),
            ("index", inspector.get_indexes(table)),
        ):
            lines.update(f"{table} {kind} {_describe(each)}" for each in objects)
    return lines


def _describe(value: Any) -> str:
    """Describe a reflected object so that it compares: SQL expressions as text, keys in order."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_describe(value[key])}" for key in sorted(value)) + "}"
    return str(value)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _refuse_newer(connection: Connection) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config(connection)).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise DatabaseTooNew(revision)
