"""When a process is killed, a job still publishes the same files in one version, and no process is left."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from service.registry import jobs, reports
from service.registry.artifacts import FolderArtifacts
from service.registry.tables import ReportRow, VersionRow
from tests.instance import Instance, children, is_running, stop, wait_for
from tests.jobs.worker_contexts import BRIEF_EVALUATION

LONG = 100_000
"""So many steps that the job runs until the test ends or kills it."""


def result(instance: Instance, version: VersionRow) -> dict[str, Any]:
    """Return the sha256 of each file of a version, and its manifest without the model's id and name."""
    shas: dict[str, Any] = {name: file["sha256"] for name, file in version.files.items()}
    manifest = json.loads(FolderArtifacts(instance.deployment.artifacts).read(shas.pop("manifest.json")))
    del manifest["model"]["id"], manifest["model"]["name"]
    return shas | {"manifest": manifest}


def test_a_job_whose_worker_is_killed_gives_the_same_result(instance: Instance) -> None:
    instance.up()
    one, other = instance.create("killed", seed=3), instance.create("undisturbed", seed=3)
    killed = instance.submit("learn", "killed", labels=["0", "1"], steps=2000)
    worker = instance.worker_in_training(killed)
    os.kill(worker, signal.SIGKILL)
    job = instance.succeeded(killed)
    assert job.attempt == 2
    undisturbed = instance.succeeded(instance.submit("learn", "undisturbed", labels=["0", "1"], steps=2000))
    assert undisturbed.attempt == 1
    [after_kill], [at_once] = instance.versions(one), instance.versions(other)
    assert result(instance, after_kill) == result(instance, at_once)


@pytest.mark.slow
@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_worker_killed_while_it_measures_a_version_leaves_one_report_and_the_same_bytes(
    instance: Instance,
) -> None:
    instance.up()
    model_id = instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    instance.succeeded(instance.submit("forget", labels=["1"]))
    thorough = BRIEF_EVALUATION | {"reference": {"steps": 400, "batch_size": 16}}
    killed = instance.submit("evaluate", params=thorough)
    os.kill(instance.worker_in_training(killed), signal.SIGKILL)
    learned = instance.submit("learn", labels=["2"])
    again = instance.succeeded(killed, seconds=120)
    undisturbed = instance.succeeded(instance.submit("evaluate", params=thorough, version=2), seconds=120)
    instance.succeeded(learned)
    assert (again.attempt, undisturbed.attempt) == (2, 1)
    with instance.database.reading() as session:
        rows = [jobs.find(session, job.id) for job in (again, undisturbed)]
        found = [reports.find_for_job(session, row) for row in rows]
        assert session.query(ReportRow).filter_by(model_id=model_id).count() == 2
    assert found[0].sha256 == found[1].sha256
    assert [version.number for version in instance.versions(model_id)] == [1, 2, 3]


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_killed_supervisor_leaves_no_children_and_its_job_goes_on_at_the_next_start(
    instance: Instance,
) -> None:
    supervisor = instance.up()
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=LONG)
    worker = instance.worker_in_training(job_id)
    assert children(supervisor.pid) == [worker]
    assert stop(supervisor, signal.SIGKILL) == -signal.SIGKILL
    wait_for("the worker has ended", lambda: not is_running(worker))
    supervisor = instance.up()
    job = instance.wait_until(job_id, lambda job: job.attempt == 2 and job.progress)
    assert (job.state, job.worker != f"{os.uname().nodename}:{worker}") == ("running", True)
    assert stop(supervisor) == 0


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_sigterm_gives_the_running_job_back_and_exits_cleanly(instance: Instance) -> None:
    supervisor = instance.up()
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=LONG)
    worker = instance.worker_in_training(job_id)
    assert stop(supervisor) == 0
    assert not is_running(worker)
    job = instance.job(job_id)
    assert (job.state, job.attempt, job.worker) == ("queued", 0, None)


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_second_instance_on_the_same_home_is_refused_in_one_line(instance: Instance) -> None:
    first = instance.up()
    second = subprocess.run(
        [sys.executable, "-m", "commands", "up"],
        env=os.environ | instance.deployment.as_environment(),
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    [line] = second.stderr.splitlines()
    assert line.startswith(f"palimpsest: {instance.deployment.home} is in use by process {first.pid};")
    assert httpx2.get(f"{instance.url}/livez").status_code == 200


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_a_worker_that_was_paused_for_longer_than_its_lease_publishes_nothing(instance: Instance) -> None:
    """SIGSTOP for longer than the lease; another worker takes the job over; then SIGCONT."""
    deployment = instance.deployment.model_copy(update={"lease_seconds": 2.0})
    instance.deployment = deployment
    instance.up("serve")
    workers = {process.pid: process for process in (instance.run("worker"), instance.run("worker"))}
    model_id = instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=1000)
    paused = workers[instance.worker_in_training(job_id)]
    os.kill(paused.pid, signal.SIGSTOP)
    job = instance.succeeded(job_id)
    os.kill(paused.pid, signal.SIGCONT)
    assert (job.attempt, job.fence) == (2, 2)
    other = instance.submit("learn", labels=["1"], steps=1)
    instance.succeeded(other)
    assert stop(paused) == 0  # it noticed that it had lost the job, and waited for the next one
    assert [version.job_id for version in instance.versions(model_id)] == [job_id, other]


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_worker_that_ends_at_every_start_is_restarted_after_a_wait_and_the_api_serves(
    instance: Instance,
) -> None:
    supervisor = instance.up(PALIMPSEST_DEVICE="nowhere")
    instance.create()
    job_id = instance.submit("learn", labels=["0"])
    wait_for("a restart with a wait", lambda: "starting another in 0.5 s" in instance.log.read_text())
    assert httpx2.get(f"{instance.url}/v1/jobs/{job_id}").json()["state"] == "queued"
    assert stop(supervisor) == 0


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_job_that_kills_every_worker_fails_and_the_next_one_runs(instance: Instance) -> None:
    supervisor = instance.up(PALIMPSEST_MAX_ATTEMPTS="2")
    instance.create()
    lost = instance.submit("learn", labels=["0"], steps=LONG)
    for attempt in (1, 2):
        os.kill(instance.worker_in_training(lost, attempt=attempt), signal.SIGKILL)
    job = instance.wait_until_done(lost)
    assert (job.state, job.attempt, (job.error or {})["type"]) == ("failed", 2, "worker_lost")
    instance.succeeded(instance.submit("learn", labels=["0"]))
    assert stop(supervisor, signal.SIGINT) == 0
