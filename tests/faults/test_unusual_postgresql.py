"""A PostgreSQL with unusual settings changes nothing: none of the service's SQL depends on them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from migrations import upgrade
from service.registry.database import Database
from service.registry.errors import DatabaseEncoding
from service.settings import Settings
from tests import invariants
from tests.conftest import POSTGRESQL, new_postgresql_database
from tests.instance import instance_of
from tests.unusual_postgresql import UNUSUAL, VARIABLE

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = ("claims", "publishing", "requests", "taking_back", "audit")
"""The tests of tests/registry that say most about SQL."""
OURS = {
    "synchronous_commit": "on",
    "transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "search_path": '"$user", "public"',
    "client_encoding": "UTF8",
    "transaction_read_only": "off",
}


@pytest.fixture(scope="module")
def unusual() -> Iterator[str]:
    """The URL of a database whose owner has the unusual settings."""
    with new_postgresql_database(unusual=True) as url:
        yield url


def test_the_settings_of_the_role_apply_to_others_and_not_to_the_service(unusual: str) -> None:
    with psycopg.connect(unusual) as connection:
        found = {name: _show(connection, name) for name in UNUSUAL}
    assert found == UNUSUAL | {"statement_timeout": "200ms", "lock_timeout": "200ms"} | {
        "idle_in_transaction_session_timeout": "200ms"
    }
    database = Database(unusual)
    with database.transaction() as session:
        ours = {name: session.scalar(text(f"SHOW {name}")) for name in OURS}
    database.dispose()
    assert ours == OURS


def _show(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute(f"SHOW {name}").fetchone()
    assert row is not None
    return str(row[0])


def test_a_service_on_such_a_database_learns_forgets_and_draws(unusual: str, tmp_path: Path) -> None:
    with instance_of(Settings(home=tmp_path / "home", database_url=unusual, port=0), tmp_path) as instance:
        instance.up()
        instance.create()
        instance.succeeded(instance.submit("learn", labels=["0", "1"]))
        instance.succeeded(instance.submit("forget", labels=["1"], purge=True))
        assert invariants.find_drawable(instance.url, instance.database) == []
        invariants.check(instance.deployment, instance.database, swept=True)


def test_the_registry_keeps_its_rules_on_such_a_database() -> None:
    files = [f"tests/registry/test_{name}.py" for name in CHOSEN]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", "postgresql", *files],
        cwd=ROOT,
        env={**os.environ, VARIABLE: "unusual", "CI": "true"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr


def test_a_database_that_cannot_hold_every_character_is_refused_in_one_line() -> None:
    with (
        new_postgresql_database() as url,
        psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True) as admin,
    ):
        name = url.rpartition("/")[2]
        admin.execute(f"DROP DATABASE {name}")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        database = Database(url)
        with pytest.raises(DatabaseEncoding, match="LATIN1"):
            upgrade(database)
        database.dispose()
