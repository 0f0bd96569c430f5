"""A database or broker that dies and comes back: jobs go on, and requests are refused meanwhile."""

import time
from pathlib import Path

import httpx2
import pytest

from service.registry import releases
from service.settings import Settings
from tests import invariants
from tests.faults.failing import Failpoints
from tests.faults.servers import own_postgresql, own_redis, postgresql_url, proxy_to, redis_url
from tests.instance import instance_of, stop, wait_for

CONSUMES_AGAIN_SECONDS = 30.0


@pytest.fixture
def folder_queue(tmp_path: Path) -> str:
    return f"folder://{tmp_path / 'queue'}"


def test_a_database_that_dies_while_a_job_runs_costs_no_attempt(tmp_path: Path, folder_queue: str) -> None:
    """It is killed as by `pg_ctl stop -m immediate`. The API refuses requests until it is back."""
    with own_postgresql() as server:
        deployment = Settings(
            home=tmp_path / "home", database_url=postgresql_url(server), broker_url=folder_queue, port=0
        )
        with instance_of(deployment, tmp_path) as instance:
            process = instance.up()
            instance.create()
            job_id = instance.submit("learn", labels=["0"], steps=1500)
            instance.worker_in_training(job_id)
            server.kill()
            refused = httpx2.get(f"{instance.url}/v1/jobs/{job_id}", timeout=30)
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert httpx2.get(f"{instance.url}/livez").status_code == 200
            assert httpx2.get(f"{instance.url}/readyz", timeout=30).status_code == 503
            server.start()
            assert wait_for("requests are answered", lambda: answers(f"{instance.url}/v1/jobs/{job_id}"))
            assert instance.succeeded(job_id).attempt == 1
            wait_for("the service is ready", lambda: answers(f"{instance.url}/readyz"))
            assert stop(process) == 0
            invariants.check(deployment, instance.database, ended=True)


def test_a_worker_shut_down_while_the_database_is_away_costs_no_attempt(
    tmp_path: Path, folder_queue: str
) -> None:
    """The job may have one attempt only."""
    with own_postgresql() as server:
        deployment = Settings(
            home=tmp_path / "home",
            database_url=postgresql_url(server),
            broker_url=folder_queue,
            port=0,
            max_attempts=1,
        )
        with instance_of(deployment, tmp_path) as instance:
            process = instance.up()
            instance.create()
            job_id = instance.submit("learn", labels=["0"], steps=1500)
            instance.worker_in_training(job_id)
            server.kill()
            assert stop(process) == 0
            server.start()
            process = instance.up()
            assert instance.succeeded(job_id).attempt == 1
            notes = deployment.artifacts / releases.FOLDER
            wait_for("the note is gone", lambda: not list(notes.iterdir()))
            assert stop(process) == 0
            invariants.check(deployment, instance.database, ended=True)


def answers(url: str) -> bool:
    return httpx2.get(url, timeout=30).status_code == 200


def test_a_broker_that_dies_while_a_job_runs_does_not_disturb_it(tmp_path: Path) -> None:
    with own_redis() as server:
        deployment = Settings(home=tmp_path / "home", broker_url=redis_url(server), port=0)
        with instance_of(deployment, tmp_path) as instance:
            process = instance.up()
            instance.create()
            job_id = instance.submit("learn", labels=["0"], steps=1500)
            worker = instance.worker_in_training(job_id)
            server.kill()
            instance.wait_until(job_id, lambda job: job.progress and job.progress["step"] > 100)
            server.start()
            begun = time.monotonic()
            first = instance.succeeded(job_id)
            next_job = instance.succeeded(instance.submit("learn", labels=["1"]), CONSUMES_AGAIN_SECONDS)
            assert time.monotonic() - begun < 2 * CONSUMES_AGAIN_SECONDS
            assert (first.attempt, next_job.attempt) == (1, 1)
            assert first.worker == next_job.worker
            assert str(first.worker).endswith(f":{worker}")
            assert stop(process) == 0
            invariants.check(deployment, instance.database, ended=True)


@pytest.fixture
def points(tmp_path: Path) -> Failpoints:
    return Failpoints(tmp_path, {"publish.before_commit": "hang"})


def test_a_publication_whose_commit_is_not_answered_is_not_repeated(
    tmp_path: Path, folder_queue: str, points: Failpoints
) -> None:
    """The connection is cut after the COMMIT of the publication has reached the server."""
    with own_postgresql() as server, proxy_to(server.port) as proxy:
        deployment = Settings(
            home=tmp_path / "home",
            database_url=postgresql_url(server, port=proxy.port),
            broker_url=folder_queue,
            port=0,
        )
        with instance_of(deployment, tmp_path) as instance:
            process = instance.up(**points.environment)
            model_id = instance.create()
            points.arm("publish.before_commit")
            job_id = instance.submit("learn", labels=["0"])
            points.wait_until_reached("publish.before_commit")
            cut = proxy.lose_next_answer_to(b"COMMIT", after=b"INSERT INTO versions")
            points.release("publish.before_commit")
            job = instance.succeeded(job_id)
            assert cut.is_set(), "the COMMIT of the publication was cut"
            assert (job.attempt, job.output_version) == (1, 1)
            assert [version.job_id for version in instance.versions(model_id)] == [job_id]
            assert stop(process) == 0
            invariants.check(deployment, instance.database, ended=True)
