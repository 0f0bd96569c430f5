"""The migrations of the database: one file in versions/ for each step.

`upgrade(database)` applies the steps that a database lacks. Several processes may call it at the same time.
If one is killed meanwhile, the database stays as it was, on SQLite and PostgreSQL alike.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, inspect, select, text

from service.registry.database import Database
from service.registry.errors import DatabaseEncoding, DatabaseTooNew

if TYPE_CHECKING:
    from alembic.config import Config

ENCODINGS = ("UTF8", "SQL_ASCII")
"""The encodings of PostgreSQL that hold every text; SQL_ASCII stands for any bytes."""
MIGRATION_LOCK = 0x6D696772  # "migr": an advisory lock of PostgreSQL. SQLite lets only one transaction write


def upgrade(database: Database, *, to: str = "head") -> None:
    """Apply every step that the database lacks, in one transaction.

    to: the last step to apply. Raises DatabaseTooNew, DatabaseEncoding, DatabaseUnavailable.
    """
    with database.migrating() as session:
        connection = session.connection()
        if not database.is_sqlite:
            session.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            _check_encoding(connection)
        _check_not_newer(connection)
        if to == "head" and _is_current(connection):
            return
        from alembic import command  # a quarter of a second, which most starts do not need

        command.upgrade(_config(connection), to)


def check_not_newer(database: Database) -> None:
    """Check that this release knows the database's revision. Raises DatabaseTooNew, DatabaseUnavailable.

    A database that is older, or has no tables yet, is accepted: the API migrates it.
    """
    with database.reading() as session:
        _check_not_newer(session.connection())


def is_current(database: Database) -> bool:
    """Whether every step of this release was applied. Raises DatabaseUnavailable."""
    with database.reading() as session:
        return _is_current(session.connection())


def find_differences(migrated: Database, declared: Database) -> list[str]:
    """Return how a migrated database differs from one made from service/registry/tables, as lines of text."""
    found, expected = _describe_schema(migrated), _describe_schema(declared)
    return [f"only in the migrated database: {line}" for line in sorted(found - expected)] + [
        f"only in tables: {line}" for line in sorted(expected - found)
    ]


def _describe_schema(database: Database) -> set[str]:
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
    """Describe a reflected object as text that can be compared: SQL expressions as text, keys sorted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_describe(value[key])}" for key in sorted(value)) + "}"
    return str(value)


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _check_encoding(connection: Connection) -> None:
    """Check that a new database holds every text. One that has rows already is accepted as it is."""
    encoding = connection.scalar(text("SHOW server_encoding"))
    is_new = not _current(connection)
    if is_new and encoding not in ENCODINGS:
        raise DatabaseEncoding(str(encoding))


def _check_not_newer(connection: Connection) -> None:
    known = _known()
    for revision in _current(connection):
        if revision not in known:
            raise DatabaseTooNew(revision)


@lru_cache
def _known() -> frozenset[str]:
    """Return the revisions of this release: the numbers with which the names of their files begin."""
    return frozenset(
        file.name.partition("_")[0] for file in (Path(__file__).parent / "versions").glob("[0-9]*_*.py")
    )


def _is_current(connection: Connection) -> bool:
    return _current(connection) == {max(_known())}


def _current(connection: Connection) -> set[str]:
    """Return the revision of the database; nothing if it was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(text("SELECT version_num FROM alembic_version")))
