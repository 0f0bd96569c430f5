"""The migrations make exactly the tables that tables.py declares, once, whoever runs them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from sqlalchemy import inspect, text

from migrations import differences, upgrade
from service.registry.database import Database
from service.registry.errors import DatabaseTooNew
from service.registry.tables import Row
from service.settings import Settings
from tests.conftest import own_database


def test_migrations_and_tables_are_equal(
    database: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "declared").mkdir()
    kind = "sqlite" if database.is_sqlite else "postgresql"
    with own_database(kind, tmp_path / "declared", request) as url:
        declared = Database(url)
        Row.metadata.create_all(declared.engine)
        assert differences(database, declared) == []
        with declared.transaction() as session:
            session.execute(text("ALTER TABLE models ADD COLUMN surplus INTEGER"))
            session.execute(text("DROP INDEX one_running_job_per_model"))
        found = "\n".join(differences(database, declared))
        assert "models column {" in found
        assert "one_running_job_per_model" in found
        declared.dispose()


def test_migrating_again_changes_nothing(database: Database) -> None:
    upgrade(database)
    assert "alembic_version" in inspect(database.engine).get_table_names()


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match="9999"):
        upgrade(database)


def test_two_starters_migrate_once(database_url: str, tmp_path: Path) -> None:
    environment = Settings(home=tmp_path / "home", database_url=database_url).as_environment()
    command = [executable, "-m", "service.commands", "migrate"]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda _: run(command, env=environment, capture_output=True), range(2)))
    assert [one.returncode for one in ended] == [0, 0], ended


def test_the_command_says_when_migrations_and_tables_differ() -> None:
    assert run([executable, "-m", "service.commands", "migrate", "--check"]).returncode == 0
