"""Ten thousand queued jobs: an index finds each, few messages wait, and a model's jobs stay in order."""

import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import quantiles

import pytest
from sqlalchemy import text

from benchmarks.load import queue_jobs
from migrations import upgrade
from service.process import sweeper
from service.queue.messages import count_waiting_messages
from service.registry import claims, jobs, sweeping
from service.registry.database import Database
from service.registry.tables import JobRow, ModelRow
from service.settings import Settings
from tests.registries import Registry

MODELS, JOBS_OF_EACH = 1000, 10
RUN = 300
"""So many of the jobs are run."""
MAX_SECONDS = 0.1
"""How long a claim or a look at a job may take, 99 times of 100."""


@pytest.fixture
def crowded(deployment: Settings) -> Iterator[Database]:
    """A database with ten thousand queued jobs, of a thousand models."""
    database = Database(deployment.database_url)
    upgrade(database)
    with database.transaction() as session:
        queue_jobs(session, MODELS, JOBS_OF_EACH)
    if not database.is_sqlite:
        with database.transaction() as session:
            session.execute(text("ANALYZE"))
    yield database
    database.dispose()


def test_ten_thousand_queued_jobs(crowded: Database, deployment: Settings) -> None:
    deployment = deployment.model_copy(update={"notify_again_seconds": 0.001})
    for _ in range(3):
        sweeper.sweep(crowded, deployment)
    waiting = count_waiting_messages(deployment)
    assert waiting is not None
    assert 0 < waiting <= sweeper.MAX_MESSAGES_WAITING
    seconds = run_some(crowded)
    assert quantiles(seconds["claim"], n=100)[-1] < MAX_SECONDS
    assert quantiles(seconds["look"], n=100)[-1] < MAX_SECONDS
    check_order(crowded)


def run_some(database: Database) -> dict[str, list[float]]:
    """Claim and publish the oldest jobs; return how long claims and looks took."""
    seconds = defaultdict(list)
    with database.reading() as session:
        due = sweeping.find_due(session, queue="default", notify_again_seconds=0, limit=RUN)
    for job_id in due:
        begun = time.monotonic()
        with database.transaction() as session:
            claim = claims.claim(session, job_id, worker="here:1", lease_seconds=60)
        seconds["claim"].append(time.monotonic() - begun)
        assert claim is not None
        begun = time.monotonic()
        with database.reading() as session:
            job = jobs.find(session, job_id)
            jobs.queue_position(session, job)
            model = session.get_one(ModelRow, job.model_id)
        seconds["look"].append(time.monotonic() - begun)
        Registry(database, model).publish(claim)
    return seconds


def check_order(database: Database) -> None:
    """The jobs that ran are the oldest of their models."""
    with database.reading() as session:
        rows = session.query(JobRow.model_id, JobRow.state).order_by(JobRow.sequence).all()
    of_model = defaultdict(list)
    for model_id, state in rows:
        of_model[model_id].append(state)
    assert sum(state == "succeeded" for _, state in rows) == RUN
    for states in of_model.values():
        assert states == sorted(states, key=lambda state: state != "succeeded")


def test_a_claim_finds_its_job_by_an_index(crowded: Database) -> None:
    """Neither the job nor the earlier jobs of its model are searched for among all rows."""
    with crowded.reading() as session:
        [job_id] = session.scalars(text("SELECT id FROM jobs ORDER BY sequence DESC LIMIT 1"))
        explain = "EXPLAIN QUERY PLAN" if crowded.is_sqlite else "EXPLAIN"
        plan = "\n".join(
            str(tuple(row))
            for row in session.execute(
                text(
                    f"{explain} SELECT 1 FROM jobs WHERE id = '{job_id}' AND state = 'queued' AND NOT EXISTS "
                    "(SELECT 1 FROM jobs AS earlier WHERE earlier.model_id = jobs.model_id "
                    "AND earlier.sequence < jobs.sequence AND earlier.operation <> 'evaluate' "
                    "AND earlier.state IN ('queued', 'running', 'verifying'))"
                )
            )
        )
    assert "SCAN" not in plan.upper().replace("INDEX SCAN", "").replace("BITMAP HEAP SCAN", ""), plan
