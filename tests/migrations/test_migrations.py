"""The migrations make exactly the tables of service/registry/tables, from the database of any release."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from migrations import find_differences, upgrade
from service.registry.database import Database
from service.registry.errors import DatabaseTooNew
from service.registry.tables import JobRow, LabelRow, ModelRow, PurgeRow, Row, VersionRow
from service.settings import Settings
from tests.conftest import own_database


def test_migrations_make_the_schema_that_the_tables_declare(
    database: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "declared").mkdir()
    kind = "sqlite" if database.is_sqlite else "postgresql"
    with own_database(kind, tmp_path / "declared", request) as url:
        declared = Database(url)
        Row.metadata.create_all(declared.engine)
        assert find_differences(database, declared) == []
        with declared.transaction() as session:
            session.execute(text("ALTER TABLE models ADD COLUMN surplus INTEGER"))
            session.execute(text("DROP INDEX one_running_job_per_model"))
        found = "\n".join(find_differences(database, declared))
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
      UNION SELECT 'job_3', 'forget', 'failed', NULL) AS listed
"""


def test_forgets_from_before_there_were_receipts_get_one(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    upgrade(database, to="0004")
    with database.transaction() as session:
        session.execute(text(A_MODEL))
        session.execute(text(JOBS))
    upgrade(database)
    with database.reading() as session:
        assert session.execute(text("SELECT job_id, envelope FROM receipts")).all() == [("job_2", None)]
    database.dispose()


def test_purges_of_an_earlier_release_get_the_state_and_reason_requested(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    upgrade(database, to="0006")
    with database.transaction() as session:
        session.execute(text(A_MODEL))
        session.execute(text(JOBS))
        session.execute(text(PURGES_OF_0006))
    upgrade(database)
    with database.transaction() as session:
        purges = session.scalars(select(PurgeRow).order_by(PurgeRow.job_id)).all()
        assert [(purge.state, purge.reason) for purge in purges] == [
            ("done", "retention"),
            ("requested", "requested"),
        ]
        assert purges[0].keys == [KEY]
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(text("UPDATE purges SET state = 'asked'"))
    database.dispose()


KEY = {"version": 1, "file": "decoder.onnx", "sha256": "d" * 64, "bytes": 1}
PURGES_OF_0006 = f"""
INSERT INTO purges (job_id, reason, state, keys, kept, created_at, finished_at)
VALUES ('job_2', 'retention', 'done', '[{json.dumps(KEY)}]', '[]', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP),
       ('job_3', 'asked', 'asked', '[]', '[]', CURRENT_TIMESTAMP, NULL)
"""


def test_two_processes_that_start_at_once_migrate_once(unmigrated_url: str, tmp_path: Path) -> None:
    environment = Settings(home=tmp_path / "home", database_url=unmigrated_url).as_environment()
    migrate = [executable, "-m", "commands", "migrate"]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda _: run(migrate, env=environment, capture_output=True), range(2)))
    assert [one.returncode for one in ended] == [0, 0], ended


def test_the_command_checks_that_migrations_and_tables_agree() -> None:
    ended = run([executable, "-m", "commands", "migrate", "--check"], capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_rows_of_the_first_release_survive_every_step(unmigrated_url: str) -> None:
    """Some steps rebuild a table that others refer to; no row of those may be lost or refer to nothing."""
    database = Database(unmigrated_url)
    upgrade(database, to="0004")
    with database.transaction() as session:
        for statement in ROWS_OF_0004:
            session.execute(text(statement))
    upgrade(database)
    with database.transaction() as session:
        [job] = session.scalars(select(JobRow))
        [version] = session.scalars(select(VersionRow))
        [label] = session.scalars(select(LabelRow))
        assert (job.id, job.state, job.evaluated_version, job.cost) == ("job_1", "succeeded", None, None)
        assert (version.job_id, label.forgotten_by) == ("job_1", "job_1")
        model = session.scalars(select(ModelRow)).one()
        assert (model.acceptance, model.size_policy, job.follows) == (None, "fixed", None)
    if database.is_sqlite:
        with pytest.raises(IntegrityError), database.transaction() as session:
            session.execute(text("DELETE FROM jobs"))  # foreign keys are enforced again
    database.dispose()


NOON = "'2026-01-01 12:00:00+00:00'"
ROWS_OF_0004 = [
    "INSERT INTO models (id, name, dataset, network, seed, created_at) "
    f"VALUES ('mdl_1', 'm', 'digits', '{{}}', 0, {NOON})",
    "INSERT INTO jobs (id, model_id, operation, strategy, labels, dataset, params, acceptance, seed, state, "
    "cancel_requested, fence, attempt, max_attempts, output_version, created_at) "
    "VALUES ('job_1', 'mdl_1', 'learn', 's', '[]', 'digits', '{}', '{}', 0, 'succeeded', "
    f"false, 1, 1, 3, 1, {NOON})",
    "INSERT INTO versions (id, model_id, number, job_id, operation, strategy, labels, parameters, widths, "
    "files, report, created_at) "
    f"VALUES ('ver_1', 'mdl_1', 1, 'job_1', 'learn', 's', '{{}}', 1, '{{}}', '{{}}', '{{}}', {NOON})",
    "INSERT INTO labels (model_id, name, dataset, slot, status, generation, learned_version, "
    "forgotten_version, forgotten_by) "
    "VALUES ('mdl_1', 'a', 'digits', 0, 'forgotten', 1, 1, 1, 'job_1')",
]
