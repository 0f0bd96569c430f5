"""If a newer release has migrated the database, this release says so in one line and changes no row."""

import pytest
from sqlalchemy import text

from migrations import upgrade
from service.queue.messages import wake_worker
from service.registry.database import Database
from service.settings import Settings
from tests.faults.test_start import refusal
from tests.instance import Instance, wait_for

COMMANDS = (["worker"], ["sweep"], ["sweep", "--once"], ["collect"], ["serve"], ["up"])
ROWS = (
    "INSERT INTO models (id, project_id, name, dataset, network, seed, created_at) "
    "VALUES ('mdl_1', 'prj_default', 'm', 'digits', '{}', 0, CURRENT_TIMESTAMP)",
    "INSERT INTO jobs (id, model_id, operation, strategy, labels, dataset, params, acceptance, seed, state, "
    "lease_until, cancel_requested, fence, attempt, max_attempts, created_at) "
    "VALUES ('job_1', 'mdl_1', 'learn', 'replay_ewc', '[\"0\"]', 'digits', '{}', '{}', 0, 'running', "
    "'2026-01-01 12:00:00+00:00', false, 1, 1, 3, CURRENT_TIMESTAMP)",
    "INSERT INTO jobs (id, model_id, operation, strategy, labels, dataset, params, acceptance, seed, state, "
    "cancel_requested, fence, attempt, max_attempts, created_at) "
    "VALUES ('job_2', 'mdl_1', 'learn', 'replay_ewc', '[\"1\"]', 'digits', '{}', '{}', 0, 'queued', "
    "false, 0, 0, 3, CURRENT_TIMESTAMP)",
)


def replace_revision(database: Database, revision: str) -> str:
    """Write the revision of the schema; returns the one before."""
    with database.transaction() as session:
        before = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        session.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
    return str(before)


@pytest.mark.parametrize(
    ("deployment", "command"),
    [("postgresql+redis", COMMANDS[0]), *(("sqlite+folder", command) for command in COMMANDS)],
    indirect=["deployment"],
    ids=str,
)
def test_every_command_that_changes_rows_refuses_a_newer_schema_in_one_line(
    deployment: Settings, command: list[str]
) -> None:
    database = Database(deployment.database_url)
    upgrade(database)
    with database.transaction() as session:
        for statement in ROWS:
            session.execute(text(statement))
    replace_revision(database, "9999")
    assert wake_worker("job_2", deployment)
    assert refusal(deployment, *command) == (
        "palimpsest: the database is at revision 9999, which this release does not know; "
        "install the release that migrated it, or a newer one"
    )
    with database.reading() as session:
        found = session.execute(text("SELECT id, state, attempt FROM jobs ORDER BY id")).all()
    database.dispose()
    assert [tuple(job) for job in found] == [("job_1", "running", 1), ("job_2", "queued", 0)]


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_a_worker_takes_no_job_while_the_schema_is_newer(instance: Instance) -> None:
    instance.up("serve")
    instance.run("worker")
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0"]))
    own = replace_revision(instance.database, "9999")
    job_id = instance.submit("learn", labels=["1"])
    said = f"job {job_id} stays queued: the database is at revision 9999"
    wait_for("the worker says why it waits", lambda: said in instance.log.read_text())
    job = instance.job(job_id)
    assert (job.state, job.attempt) == ("queued", 0)
    replace_revision(instance.database, own)
    assert instance.succeeded(job_id).attempt == 1


def test_a_worker_started_before_the_migration_takes_jobs_after_it(instance: Instance) -> None:
    instance.run("worker")
    wait_for("the worker is ready", lambda: worker_is_ready(instance))
    instance.up("serve")
    instance.create()
    assert instance.succeeded(instance.submit("learn", labels=["0"])).attempt == 1


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_worker_started_while_the_database_is_down_waits_for_it(instance: Instance) -> None:
    worker = instance.run("worker", env={"PALIMPSEST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    wait_for("the worker is ready", lambda: worker_is_ready(instance))
    assert worker.poll() is None


def worker_is_ready(instance: Instance) -> bool:
    return instance.log.exists() and " ready." in instance.log.read_text()
