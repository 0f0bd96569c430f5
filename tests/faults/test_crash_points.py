"""A process that is killed between two steps of the protocol loses nothing and does nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import inspect, select

from service import failpoints
from service.queue.messages import wake_worker
from service.registry import version_deletions, versions
from service.registry.artifact_references import find_referenced
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.tables import JobRow, ModelRow, PurgeRow, ReceiptRow
from service.registry.version_deletions import DeletionRequest
from service.settings import Settings
from tests import invariants
from tests.faults.failing import Failpoints
from tests.instance import Instance, stop
from tests.invariants import Evidence

KILLED = 137
"""The exit code of a process that a failpoint ended."""
ATTEMPTS = {
    "claim.after_commit": 2,
    "publish.after_rename": 2,
    "publish.before_commit": 2,
    "publish.after_commit": 1,
}
"""{where the worker is killed: how many attempts its job needs}."""


@pytest.fixture
def worker_points(tmp_path: Path) -> Failpoints:
    return Failpoints(tmp_path, dict.fromkeys(ATTEMPTS, "exit"))


def test_a_worker_killed_at_any_point_of_a_job_publishes_it_once(
    instance: Instance, worker_points: Failpoints
) -> None:
    instance.up(**worker_points.environment)
    model_id = instance.create()
    accepted = []
    for number, (name, attempts) in enumerate(ATTEMPTS.items()):
        worker_points.arm(name)
        accepted.append(instance.submit("learn", labels=[str(number)]))
        worker_points.wait_until_reached(name)
        job = instance.succeeded(accepted[-1])
        assert (name, job.attempt, job.output_version) == (name, attempts, number + 1)
        wake_worker(job.id, instance.deployment)  # a message that arrives late does nothing
    accepted.append(instance.submit("resize", policy="expand", params={"fisher_examples": 50}))
    assert instance.succeeded(accepted[-1]).attempt == 1
    assert [version.job_id for version in instance.versions(model_id)] == accepted
    assert unreferenced(instance) == set(), "the files of the killed attempts are those of the versions"
    invariants.check(instance.deployment, instance.database, Evidence(accepted), ended=True)


def unreferenced(instance: Instance) -> set[str]:
    """Return the names of the artifacts that no row refers to."""
    with instance.database.reading() as session:
        referenced = find_referenced(session)
    files = FolderArtifacts(instance.deployment.artifacts).all_files()
    return {path.name for path in files} - referenced


def test_an_api_killed_before_or_after_it_commits_a_job_makes_exactly_one(
    instance: Instance, tmp_path: Path
) -> None:
    """The client sends its request again with the same key when the API is back."""
    points = Failpoints(tmp_path, {"submit.before_commit": "exit", "submit.after_commit": "exit"})
    process = instance.up("serve", **points.environment)
    instance.create()
    for number, (name, jobs_left) in enumerate((("submit.before_commit", 0), ("submit.after_commit", 2))):
        points.arm(name)
        body = {"labels": [str(number)], "params": {"schedule": {"steps": 3}, "fisher_examples": 50}}
        with pytest.raises(httpx2.HTTPError):
            submit(instance, body, key=name)
        assert process.wait(30) == KILLED
        assert len(jobs(instance)) == jobs_left
        process = instance.up("serve", **points.environment)
        answer = submit(instance, body, key=name)
        assert answer.status_code == 202, answer.text
        rows = jobs(instance)
        assert (len(rows), rows[-1].id) == (number + 1, answer.json()["id"])
    instance.run("worker")
    for row in jobs(instance):
        assert instance.succeeded(row.id).attempt == 1


def submit(instance: Instance, body: object, *, key: str) -> httpx2.Response:
    headers = {"Idempotency-Key": key}
    return httpx2.post(f"{instance.url}/v1/models/m/learn", json=body, headers=headers, timeout=30)


def jobs(instance: Instance) -> list[JobRow]:
    with instance.database.reading() as session:
        return session.query(JobRow).order_by(JobRow.sequence).all()


@pytest.fixture
def forgotten(instance: Instance) -> tuple[Instance, str]:
    """An instance without processes whose last job was a forget with a purge, which nobody has swept yet."""
    instance.up("serve", PALIMPSEST_SWEEP_SECONDS="3600")
    worker = instance.run("worker")
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    job_id = instance.submit("forget", labels=["1"], purge=True)
    instance.succeeded(job_id)
    assert stop(worker) == 0
    assert stop(instance.processes[0]) == 0
    return instance, job_id


def test_a_purge_interrupted_at_any_point_is_finished_by_a_later_sweep(
    forgotten: tuple[Instance, str], tmp_path: Path
) -> None:
    instance, job_id = forgotten
    names = ("purge.after_mark", "purge.after_delete", "receipt.before_sign")
    points = Failpoints(tmp_path, dict.fromkeys(names, "exit"))
    found = []
    for name in names:
        points.arm(name)
        found.append((name, sweep_once(instance.deployment, points), *purge_of(instance, job_id)))
    assert found == [
        ("purge.after_mark", KILLED, "pending", False),
        ("purge.after_delete", KILLED, "pending", False),
        ("receipt.before_sign", KILLED, "done", False),
    ]
    assert sweep_once(instance.deployment, points) == 0
    assert purge_of(instance, job_id) == ("done", True)
    [first, _] = instance.versions(instance.job(job_id).model_id)
    artifacts = FolderArtifacts(instance.deployment.artifacts)
    assert not artifacts.exists(first.files["checkpoint.safetensors"]["sha256"])
    invariants.check(instance.deployment, instance.database, ended=True)


def test_the_deletion_of_a_version_that_is_interrupted_is_finished_by_a_later_sweep(
    forgotten: tuple[Instance, str], tmp_path: Path
) -> None:
    instance, _ = forgotten
    points = Failpoints(tmp_path, {"version_deletion.after_delete": "exit"})
    assert sweep_once(instance.deployment, points) == 0
    with instance.database.transaction() as session:
        model = session.scalars(select(ModelRow)).one()
        version = versions.find(session, model, 1)
        assert version_deletions.delete_version(session, model, version, DeletionRequest())
    points.arm("version_deletion.after_delete")
    assert sweep_once(instance.deployment, points) == KILLED
    with instance.database.reading() as session:
        assert version_deletions.find_pending(session) == [(model.id, 1)]
    assert sweep_once(instance.deployment, points) == 0
    with instance.database.reading() as session:
        assert version_deletions.find_pending(session) == []
    invariants.check(instance.deployment, instance.database, ended=True)


def sweep_once(deployment: Settings, points: Failpoints) -> int:
    """Run `palimpsest sweep --once`; return its exit code."""
    command = [sys.executable, "-m", "commands", "sweep", "--once"]
    environment = {**deployment.as_environment(), **points.environment}
    return subprocess.run(command, env={**os.environ, **environment}, timeout=120).returncode


def purge_of(instance: Instance, job_id: str) -> tuple[str, bool]:
    """Return the state of the job's purge, and whether its receipt is signed."""
    with instance.database.reading() as session:
        receipt = session.get_one(ReceiptRow, job_id)
        return session.get_one(PurgeRow, job_id).state, receipt.envelope is not None


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_job_waits_for_a_disk_that_can_write_and_publishes_nothing_before(
    instance: Instance, tmp_path: Path
) -> None:
    """fsync fails with EIO. What may not be on the disk is never published."""
    instance.up("serve")
    worker = instance.run("worker", env={"PALIMPSEST_FAIL_AT": "file.sync:eio"})
    model_id = instance.create()
    job_id = instance.submit("learn", labels=["0"])
    instance.wait_until(job_id, lambda job: job.store_failures > 0)  # it went back to the queue once
    assert instance.versions(model_id) == []
    assert stop(worker) == 0
    instance.run("worker")
    job = instance.succeeded(job_id)
    assert job.attempt == 1, "an outage of the store costs no attempt"


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_loss_that_is_not_a_number_fails_the_job_and_publishes_nothing(
    instance: Instance, tmp_path: Path
) -> None:
    points = Failpoints(tmp_path, {"train.nan": "raise"})
    instance.up(**points.environment)
    model_id = instance.create()
    first = instance.succeeded(instance.submit("learn", labels=["0"]))
    points.arm("train.nan")
    job = instance.wait_until_done(instance.submit("learn", labels=["1"], steps=50))
    assert (job.state, job.attempt, (job.error or {})["type"]) == ("failed", 1, "diverged")
    assert [version.job_id for version in instance.versions(model_id)] == [first.id]


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_an_error_in_a_handler_is_a_500_without_details(instance: Instance, tmp_path: Path) -> None:
    points = Failpoints(tmp_path, {"api.request": "raise"})
    instance.up("serve", **points.environment)
    points.arm("api.request")
    answer = httpx2.get(f"{instance.url}/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "failpoint" not in answer.text
    assert answer.headers["X-Request-Id"] in instance.log.read_text()
    assert "InjectedFailure: failpoint api.request" in instance.log.read_text()
    assert httpx2.get(f"{instance.url}/v1/models").status_code == 200


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_an_instance_with_failpoints_says_so(instance: Instance) -> None:
    instance.up("serve", PALIMPSEST_FAIL_AT="publish.after_commit")
    assert "THIS PROCESS FAILS ON PURPOSE at publish.after_commit" in instance.log.read_text()


def test_a_migration_that_is_killed_halfway_is_made_by_the_next_start(deployment: Settings) -> None:
    """It is killed after each of the first steps in turn; each time no table is left."""
    command = [sys.executable, "-m", "commands", "migrate"]
    database = Database(deployment.database_url)
    for step in (1, 3, 8):
        environment = {failpoints.VARIABLE: f"migrate.midway#{step}:exit"}
        ended = subprocess.run(
            command, env={**os.environ, **deployment.as_environment(), **environment}, timeout=120
        )
        assert ended.returncode == KILLED
        assert inspect(database.engine).get_table_names() == []
    for _ in range(2):
        subprocess.run(command, env={**os.environ, **deployment.as_environment()}, check=True, timeout=120)
    assert {"jobs", "snapshots"} <= set(inspect(database.engine).get_table_names())
    database.dispose()
