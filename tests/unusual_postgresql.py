"""A PostgreSQL whose own settings are as unlike the usual ones as they can be.

With PALIMPSEST_TEST_POSTGRESQL=unusual the tests of a run use a database like that, so that

    PALIMPSEST_TEST_POSTGRESQL=unusual pytest tests/registry -k postgresql

shows whether the service depends on a setting that is not its own. `make test-faults` runs it in part
(tests/faults/test_unusual_postgresql.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

VARIABLE = "PALIMPSEST_TEST_POSTGRESQL"

UNUSUAL = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "default_text_search_config": "pg_catalog.simple",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "enable_seqscan": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "200",
    "lc_messages": "POSIX",
    "lock_timeout": "200",
    "plan_cache_mode": "force_generic_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "elsewhere, pg_temp",
    "standard_conforming_strings": "off",
    "statement_timeout": "200",
    "synchronous_commit": "off",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
}


def is_requested() -> bool:
    """Whether the databases of this test run are to be unusual."""
    return os.environ.get(VARIABLE) == "unusual"


@contextmanager
def unusual_owner(administration: psycopg.Connection[Any], database: str) -> Iterator[str]:
    """Give the database a new owner, and that role these settings. Yields its name; deletes it at the end.

    The role is no superuser and may create no databases. At the end the database must be gone.
    """
    role = f"{database}_owner"
    administration.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        for name, value in UNUSUAL.items():
            statement = sql.SQL("ALTER ROLE {} SET {} TO {}")
            values = sql.SQL(", ").join(sql.Literal(one) for one in _values(name, value))
            administration.execute(statement.format(sql.Identifier(role), sql.Identifier(name), values))
        alter = sql.SQL("ALTER DATABASE {} OWNER TO {}")
        administration.execute(alter.format(sql.Identifier(database), sql.Identifier(role)))
        yield role
    finally:
        administration.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _values(name: str, value: str) -> list[str]:
    """Return the items of a setting that is a list; the others have one."""
    return value.split(", ") if name == "search_path" else [value]
