"""A job that ends every process that runs it fails after its attempts, and delays no other model's jobs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests import invariants
from tests.faults.failing import Failpoints
from tests.instance import Instance, stop, wait_for

MEMORY_CONTROLLERS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
MEMORY_BYTES = 8 << 20
"""What a worker may allocate once it is limited. A job needs more."""


def test_a_job_that_crashes_the_interpreter_fails_and_others_go_on(
    instance: Instance, tmp_path: Path
) -> None:
    points = Failpoints(tmp_path, {"train.step": "abort"})
    instance.up(**points.environment, PALIMPSEST_MAX_ATTEMPTS="2")
    instance.create("poison")
    instance.create("other")
    points.arm("train.step")
    poison = instance.submit("learn", "poison", labels=["0"])
    points.wait_until_reached("train.step")
    points.arm("train.step")
    points.wait_until_reached("train.step")
    other = instance.submit("learn", "other", labels=["0"])
    job = instance.wait_until_done(poison)
    assert (job.state, job.attempt, (job.error or {})["type"]) == ("failed", 2, "worker_lost")
    assert instance.succeeded(other).attempt == 1
    assert httpx2.get(f"{instance.url}/livez").status_code == 200


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_a_worker_killed_because_memory_ran_out_is_lost_and_the_api_goes_on(instance: Instance) -> None:
    """The kernel kills it, where a memory controller can be written; elsewhere the test sends the signal."""
    instance.up("serve", PALIMPSEST_MAX_ATTEMPTS="1")
    instance.create()
    worker = instance.run("worker")
    wait_for("the worker is ready", lambda: " ready." in instance.log.read_text())
    with little_memory(worker.pid) as is_limited:
        job_id = instance.submit("learn", labels=["0"], steps=100_000)
        if not is_limited:
            os.kill(instance.worker_in_training(job_id), signal.SIGKILL)
        assert worker.wait(120) == -signal.SIGKILL
    job = instance.wait_until_done(job_id)
    assert (job.state, job.attempt, (job.error or {})["type"]) == ("failed", 1, "worker_lost")
    assert httpx2.get(f"{instance.url}/v1/jobs/{job_id}").json()["error"]["type"] == "worker_lost"
    last = instance.run("worker")
    instance.succeeded(instance.submit("learn", labels=["0"]))
    assert stop(last) == 0
    invariants.check(instance.deployment, instance.database, ended=True)


@contextmanager
def little_memory(pid: int) -> Iterator[bool]:
    """Limit what the process may allocate from now on. Yields whether this machine can do that."""
    for root, limit in MEMORY_CONTROLLERS:
        group = root / f"palimpsest-test-{uuid4().hex}"
        try:
            group.mkdir()
            (group / limit).write_text(str(MEMORY_BYTES))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        try:
            yield True
        finally:
            with suppress(OSError):  # a process that has just ended may still be in it
                group.rmdir()
        return
    yield False
