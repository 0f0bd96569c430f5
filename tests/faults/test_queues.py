"""Workers take jobs of their queues alone, end when they are drained, and never ignore SIGTERM."""

import os
import re
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from service.registry import workers
from service.registry.tables import WorkerRow
from tests.instance import Instance, stop, wait_for

QUICK = 20.0


def is_signed_in(instance: Instance, process: subprocess.Popen[bytes]) -> bool:
    with instance.database.reading() as session:
        return f"{socket.gethostname()}:{process.pid}" in [row.name for row in workers.list_live(session)]


def seen_at(instance: Instance, process: subprocess.Popen[bytes]) -> datetime:
    with instance.database.reading() as session:
        return session.get_one(WorkerRow, f"{socket.gethostname()}:{process.pid}").seen_at


def drain(instance: Instance, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "commands", "drain", *options],
        env={**os.environ, **instance.deployment.as_environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_each_worker_takes_the_jobs_of_its_queues(instance: Instance) -> None:
    instance.up("serve")
    for model in ("a", "b"):
        instance.create(model)
    on_gpu = instance.submit("learn", "a", labels=["0"], steps=1, queue="gpu")
    here = instance.submit("learn", "b", labels=["0"], steps=1)
    usual = instance.run("worker")
    assert instance.succeeded(here).worker == f"{socket.gethostname()}:{usual.pid}"
    assert instance.job(on_gpu).state == "queued"
    assert instance.request("GET", f"/v1/jobs/{on_gpu}", status=200)["waits_for"].endswith("the queue gpu")
    other = instance.run("worker", "--queues", "gpu")
    assert instance.succeeded(on_gpu).worker == f"{socket.gethostname()}:{other.pid}"
    again = instance.submit("learn", "a", labels=["1"], steps=1, queue="gpu")
    assert instance.succeeded(again).worker == f"{socket.gethostname()}:{other.pid}"


def test_a_drained_worker_finishes_its_job_takes_no_other_and_ends(
    instance: Instance, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    instance.up("serve")
    for model in ("a", "b"):
        instance.create(model)
    worker = instance.run("worker", env={"PALIMPSEST_FAIL_AT": f"train.step:hang:{gate}"})
    running = instance.submit("learn", "a", labels=["0"])
    wait_for("the job is in its first step", lambda: not gate.exists())
    waiting = instance.submit("learn", "b", labels=["0"], steps=1)
    assert drain(instance, f"{socket.gethostname()}:{worker.pid}").returncode == 0
    drained_at = seen_at(instance, worker)
    wait_for("the worker has read that it is to end", lambda: seen_at(instance, worker) > drained_at)
    gate.touch()  # the job goes on
    assert worker.wait(60) == 0
    assert (instance.job(running).state, instance.job(running).attempt) == ("succeeded", 1)
    assert instance.job(waiting).state == "queued"
    instance.run("worker")
    instance.succeeded(waiting)


def test_a_drained_worker_hands_its_job_back_if_it_is_told_to(instance: Instance) -> None:
    instance.up("serve")
    instance.create()
    worker = instance.run("worker")
    running = instance.submit("learn", labels=["0"], steps=100_000)
    instance.worker_in_training(running)
    assert drain(instance, "--hand-back", "--wait").returncode == 0
    assert worker.wait(QUICK) == 0
    assert (instance.job(running).state, instance.job(running).attempt) == ("queued", 0)


def test_a_worker_without_a_job_ends_when_it_is_drained(instance: Instance) -> None:
    instance.up("serve")
    worker = instance.run("worker")
    wait_for("the worker is ready", lambda: is_signed_in(instance, worker))
    too_short = drain(instance, "--wait", "--timeout", "0")
    assert too_short.returncode in (0, 1)  # it may have ended at once
    assert worker.wait(20) == 0
    nobody = drain(instance)
    assert (nobody.returncode, "no worker runs on this machine" in nobody.stderr) == (1, True)


def test_a_name_that_no_worker_has_is_refused(instance: Instance) -> None:
    instance.up("serve")
    refused = drain(instance, "elsewhere:1")
    assert refused.returncode == 1
    assert refused.stderr.startswith("palimpsest: no worker elsewhere:1 runs; running: ")


def test_a_worker_that_is_stopped_while_it_still_starts_ends_at_once(instance: Instance) -> None:
    """The first process of a container gets no signal for which it has no handler."""
    instance.up("serve")
    worker = instance.run("worker", env={"PALIMPSEST_FAIL_AT": "worker.start:hang"})
    command_line, status = (Path(f"/proc/{worker.pid}/{name}") for name in ("cmdline", "status"))

    def handles_sigterm() -> bool:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        assert caught is not None
        has_handler = bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)
        return has_handler and b"-m\0worker\0" in command_line.read_bytes()

    wait_for("the worker starts and handles SIGTERM", handles_sigterm)
    assert stop(worker) == 0
