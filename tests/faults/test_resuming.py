"""A job whose worker is killed or shut down goes on from its snapshot, and gives the same bytes."""

import os
import signal
from typing import Any

import pytest

from service.registry.tables import JobRow, SnapshotRow
from tests.instance import Instance, schedule, stop

SLOW: dict[str, Any] = {**schedule(600), "schedule": {"steps": 600, "batch_size": 1024}}
"""600 steps, each of some 10 ms: a job that three shutdowns interrupt."""
LONG = 100_000
"""So many steps that the job runs until the test cancels it."""


def has_snapshot(instance: Instance, job_id: str) -> bool:
    with instance.database.reading() as session:
        return session.get(SnapshotRow, job_id) is not None


def files(instance: Instance, model_id: str) -> list[dict[str, str]]:
    """Return the sha256 of each file of each version, but of the manifests, which name the model."""
    return [
        {name: file["sha256"] for name, file in version.files.items() if name != "manifest.json"}
        for version in instance.versions(model_id)
    ]


def worker_of(instance: Instance, job_id: str) -> int:
    """Wait until the job trains; return the process id of its worker."""
    job = instance.wait_until(job_id, lambda job: job.progress, 120)
    return int(str(job.worker).partition(":")[2])


def step(job: JobRow) -> int:
    return int((job.progress or {}).get("step", 0))


def test_a_killed_worker_costs_at_most_ten_seconds_of_training(instance: Instance) -> None:
    instance.up()
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=LONG)
    worker = worker_of(instance, job_id)
    instance.wait_until(job_id, lambda job: has_snapshot(instance, job_id), 120)
    safe = step(instance.job(job_id)) - 1
    instance.wait_until(job_id, lambda job: step(job) > safe + 100, 120)
    os.kill(worker, signal.SIGKILL)
    again = instance.wait_until(job_id, lambda job: job.attempt == 2 and step(job) > 0, 120)
    assert step(again) >= safe / 2, "it began anew"
    instance.request("POST", f"/v1/jobs/{job_id}/cancel", status=202)
    assert instance.wait_until_done(job_id).state == "cancelled"
    instance.wait_until(job_id, lambda job: not has_snapshot(instance, job_id))


@pytest.mark.timeout(900)
def test_a_job_that_is_longer_than_the_time_between_shutdowns_ends_and_gives_the_same_bytes(
    instance: Instance,
) -> None:
    supervisor = instance.up()
    one, other = instance.create("interrupted", seed=3), instance.create("undisturbed", seed=3)
    job_id = instance.submit("learn", "interrupted", labels=["0", "1"], params=SLOW)
    reached = 0
    for _ in range(3):
        began_at = reached
        reached = step(instance.wait_until(job_id, lambda job, at=began_at: step(job) > at, 120))  # type: ignore[misc]
        assert stop(supervisor) == 0
        given_back = instance.job(job_id)
        assert (given_back.state, given_back.attempt) == ("queued", 0)
        assert has_snapshot(instance, job_id)
        supervisor = instance.up()
    assert instance.succeeded(job_id, 120).attempt == 1
    instance.succeeded(instance.submit("learn", "undisturbed", labels=["0", "1"], params=SLOW), 120)
    assert files(instance, one) == files(instance, other)
    instance.wait_until(job_id, lambda job: not has_snapshot(instance, job_id))


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_another_worker_takes_over_within_a_lease_and_two_seconds(instance: Instance) -> None:
    instance.up("serve")
    workers = {process.pid: process for process in (instance.run("worker"), instance.run("worker"))}
    instance.create("warm")
    for label in "0123":  # until both workers have run a job, and so have imported everything
        instance.succeeded(instance.submit("learn", "warm", labels=[label]), 120)
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=LONG)
    killed = worker_of(instance, job_id)
    os.kill(killed, signal.SIGKILL)
    workers[killed].wait()
    limit = instance.deployment.lease_seconds + 2
    instance.wait_until(job_id, lambda job: job.attempt == 2 and job.state == "running", limit)
