"""PostgreSQL databases that are migrated once and emptied after each test: to migrate takes a second."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from migrations import upgrade
from service.registry.database import Database

SCHEMA = """
SELECT md5(string_agg(described, ',' ORDER BY described)) FROM (
    SELECT concat_ws(' ', 'class', oid, relname, relkind)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull, atthasdef)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint
    UNION ALL SELECT concat_ws(' ', 'function', oid, prosrc)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname) FROM pg_namespace WHERE nspname !~ '^pg_'
) AS everything (described)
"""
"""One value for all tables, indexes, columns, constraints, triggers and functions of a database."""
OTHER_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
SEQUENCES = """
SELECT setval(oid, 1, false) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
"""


class EmptiedDatabases:
    """Databases with the tables of this release, each for one test at a time."""

    def __init__(self, new_database: Callable[[], AbstractContextManager[str]], superuser: str) -> None:
        """Begin without a database.

        new_database: makes an empty database and yields its URL. superuser: the URL of the server, for
        somebody who may end sessions and disable triggers.
        """
        self._new_database = new_database
        self._superuser = superuser
        self._free: list[_Database] = []
        self._made = ExitStack()

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the URL of a migrated database that no other test uses."""
        database = self._free.pop() if self._free else self._make()
        try:
            yield database.url
        finally:
            if database.empty():
                self._free.append(database)

    def drop(self) -> None:
        """Drop all databases."""
        self._made.close()

    def _make(self) -> "_Database":
        url = self._made.enter_context(self._new_database())
        database = Database(url.replace("postgresql://", "postgresql+psycopg://"))
        upgrade(database)
        database.dispose()
        return _Database.of(url, f"{self._superuser}/{url.rpartition('/')[2]}")


@dataclass(frozen=True)
class _Database:
    url: str
    superuser_url: str
    schema: str
    rows: Mapping[str, list[dict[str, Any]]]
    """{table: its rows after the migrations}."""

    @classmethod
    def of(cls, url: str, superuser_url: str) -> "_Database":
        with psycopg.connect(superuser_url) as connection:
            rows = {
                table: _values(
                    connection, sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table))
                )
                for table in _values(connection, TABLES)
            }
            return cls(url, superuser_url, _values(connection, SCHEMA)[0], rows)

    def empty(self) -> bool:
        """End all sessions and bring back the rows from after the migrations.

        Returns whether that was done: not if the test changed the schema, so that no other can use it.
        Settings are not compared: a test that changes them (`ALTER DATABASE ... SET`) needs another database.
        """
        with psycopg.connect(self.superuser_url) as connection:
            connection.execute(OTHER_SESSIONS)
            if _values(connection, SCHEMA) != [self.schema]:
                return False
            connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
            for table, rows in self.rows.items():
                name = sql.Identifier(table)
                connection.execute(sql.SQL("DELETE FROM {}").format(name))
                insert = sql.SQL("INSERT INTO {0} SELECT * FROM jsonb_populate_recordset(NULL::{0}, %s)")
                if rows:
                    connection.execute(insert.format(name), [Jsonb(rows)])
            connection.execute(SEQUENCES)
        return True


def _values(connection: psycopg.Connection[Any], query: str | sql.Composed) -> list[Any]:
    return [value for (value,) in connection.execute(query)]
