"""A job that hangs in place of dying is ended, tried again or cancelled, and other jobs go on."""

import os
import signal
from pathlib import Path

import pytest

from tests.instance import Instance, is_running, stop, wait_for

LONG = 100_000
"""So many steps that the job runs until the test ends or cancels it."""
STALL = {"PALIMPSEST_STALL_SECONDS": "5"}


def hang_once(folder: Path) -> dict[str, str]:
    """The environment in which the first worker that takes a second step hangs there, and no other."""
    (file := folder / "hang").touch()
    return {"PALIMPSEST_FAIL_AT": f"train.step#2:hang:{file}"}


def wait_for_the_hang(folder: Path) -> None:
    wait_for("a worker hangs", lambda: not (folder / "hang").exists())


def test_a_hung_job_is_tried_again_by_another_worker_and_other_jobs_go_on(
    instance: Instance, tmp_path: Path
) -> None:
    supervisor = instance.up(**STALL, **hang_once(tmp_path))
    instance.create("hangs")
    instance.create("waits")
    hanging = instance.submit("learn", "hangs", labels=["0"])
    wait_for_the_hang(tmp_path)
    hung = instance.job(hanging).worker
    waiting = instance.submit("learn", "waits", labels=["0"])
    assert instance.succeeded(waiting, 120).attempt == 1
    again = instance.succeeded(hanging, 120)
    assert (again.attempt, again.worker != hung) == (2, True)
    assert stop(supervisor) == 0


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_job_that_hangs_in_its_last_attempt_fails_as_stalled(instance: Instance, tmp_path: Path) -> None:
    instance.up(**STALL, **hang_once(tmp_path), PALIMPSEST_MAX_ATTEMPTS="1")
    instance.create()
    job = instance.wait_until_done(instance.submit("learn", labels=["0"]), 120)
    assert (job.state, job.attempt, (job.error or {})["type"]) == ("failed", 1, "stalled")
    instance.succeeded(instance.submit("learn", labels=["0"]), 120)


def test_a_hung_job_can_be_cancelled(instance: Instance, tmp_path: Path) -> None:
    instance.up(**hang_once(tmp_path))
    instance.create()
    job_id = instance.submit("learn", labels=["0"])
    wait_for_the_hang(tmp_path)
    instance.request("POST", f"/v1/jobs/{job_id}/cancel", status=202)
    assert instance.wait_until_done(job_id).state == "cancelled"
    instance.succeeded(instance.submit("learn", labels=["0"]), 120)


@pytest.mark.parametrize("deployment", ["postgresql+redis"], indirect=True)
def test_a_worker_without_a_supervisor_begins_anew_when_its_job_hangs(
    instance: Instance, tmp_path: Path
) -> None:
    instance.up("serve")
    worker = instance.run("worker", env=STALL | hang_once(tmp_path))
    instance.create()
    job = instance.succeeded(instance.submit("learn", labels=["0"]), 120)
    assert (job.attempt, job.worker) == (2, f"{os.uname().nodename}:{worker.pid}")
    assert stop(worker) == 0


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_hung_job_does_not_delay_a_shutdown_and_costs_no_attempt(
    instance: Instance, tmp_path: Path
) -> None:
    supervisor = instance.up(**hang_once(tmp_path))
    instance.create()
    job_id = instance.submit("learn", labels=["0"])
    wait_for_the_hang(tmp_path)
    assert stop(supervisor) == 0
    job = instance.job(job_id)
    assert (job.state, job.attempt) == ("queued", 0)


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_suspended_worker_is_replaced(instance: Instance) -> None:
    instance.up()
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=LONG)
    suspended = instance.worker_in_training(job_id)
    os.kill(suspended, signal.SIGSTOP)
    instance.wait_until(job_id, lambda job: job.attempt == 2 and job.progress, 120)
    assert not is_running(suspended)
    instance.request("POST", f"/v1/jobs/{job_id}/cancel", status=202)
    assert instance.wait_until_done(job_id).state == "cancelled"


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_named_pipe_in_place_of_the_checkpoint_fails_the_job_and_no_other(instance: Instance) -> None:
    instance.up()
    model_id = instance.create("piped")
    instance.create("other")
    instance.succeeded(instance.submit("learn", "piped", labels=["0"]), 120)
    [version] = instance.versions(model_id)
    sha256 = version.files["checkpoint.safetensors"]["sha256"]
    path = instance.deployment.artifacts / sha256[:2] / sha256
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    piped = instance.submit("learn", "piped", labels=["1"])
    # With the label 0, its version would have the same file, which would take the place of the pipe.
    other = instance.submit("learn", "other", labels=["2"])
    job = instance.wait_until_done(piped, 120)
    assert (job.state, (job.error or {})["code"]) == ("failed", "artifact_unreadable")
    instance.succeeded(other, 120)
    path.unlink()
    path.write_bytes(data)
