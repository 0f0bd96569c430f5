"""The migrations make exactly the tables that tables.py declares, once, whoever runs them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from alembic import command
from sqlalchemy import inspect, text

from migrations import _config, differences, upgrade
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


A_MODEL = """
INSERT INTO models (id, name, dataset, network, seed, created_at)
VALUES ('mdl_1', 'm', 'digits', '{}', 0, CURRENT_TIMESTAMP)
"""
JOBS = """
INSERT INTO jobs (id, operation, state, output_version, labels, params, acceptance, model_id, strategy,
                  dataset, seed, cancel_requested, fence, attempt, max_attempts, created_at)
SELECT id, operation, state, output_version, CAST('[]' AS JSON), CAST('{}' AS JSON), CAST('{}' AS JSON),
       'mdl_1', 'some', 'digits', 0, false, 1, 1, 3, CURRENT_TIMESTAMP
FROM (SELECT 'job_1' AS id, 'learn' AS operation, 'succeeded' AS state, 1 AS output_version
      UNION SELECT 'job_2', 'forget', 'succeeded', 2
      UNION SELECT 'job_3', 'forget', 'failed', NULL) AS asked
"""


def test_what_was_forgotten_before_there_were_receipts_gets_one(database_url: str) -> None:
    database = Database(database_url)
    with database.transaction() as session:
        command.upgrade(_config(session.connection()), "0004")
        session.execute(text(A_MODEL))
        session.execute(text(JOBS))
    upgrade(database)
    with database.reading() as session:
        assert session.execute(text("SELECT job_id, envelope FROM receipts")).all() == [("job_2", None)]
    database.dispose()


def test_two_starters_migrate_once(database_url: str, tmp_path: Path) -> None:
    environment = Settings(home=tmp_path / "home", database_url=database_url).as_environment()
    migrate = [executable, "-m", "service.commands", "migrate"]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda _: run(migrate, env=environment, capture_output=True), range(2)))
    assert [one.returncode for one in ended] == [0, 0], ended


def test_the_command_says_when_migrations_and_tables_differ() -> None:
    assert run([executable, "-m", "service.commands", "migrate", "--check"]).returncode == 0
