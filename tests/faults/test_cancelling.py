"""A job is cancelled or succeeds, never both, whenever the cancel comes."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import invariants
from tests.faults.failing import Failpoints
from tests.instance import Instance


def cancel(instance: Instance, job_id: str) -> httpx2.Response:
    return httpx2.post(f"{instance.url}/v1/jobs/{job_id}/cancel", timeout=60)


def code_of(answer: httpx2.Response) -> tuple[int, Any]:
    body = answer.json()
    return answer.status_code, body.get("code") or body["state"]


def test_a_cancel_wins_until_the_publication_begins(instance: Instance, tmp_path: Path) -> None:
    """Cancelled while queued, claimed, and with its files stored; published if it came later."""
    names = ("claim.after_commit", "publish.after_rename", "publish.before_commit")
    points = Failpoints(tmp_path, dict.fromkeys(names, "hang"))
    instance.up(**points.environment)
    model_id = instance.create()

    points.arm("claim.after_commit")
    running, queued = (instance.submit("learn", labels=[label]) for label in "01")
    points.wait_until_reached("claim.after_commit")
    assert code_of(cancel(instance, queued)) == (202, "cancelled")
    assert code_of(cancel(instance, running)) == (202, "cancelling")
    points.release("claim.after_commit")
    assert instance.wait_until_done(running).state == "cancelled"

    points.arm("publish.after_rename")
    stored = instance.submit("learn", labels=["0"])
    points.wait_until_reached("publish.after_rename")
    assert code_of(cancel(instance, stored)) == (202, "cancelling")
    points.release("publish.after_rename")
    assert instance.wait_until_done(stored).state == "cancelled"

    points.arm("publish.before_commit")
    published = instance.submit("learn", labels=["0"])
    points.wait_until_reached("publish.before_commit")
    with ThreadPoolExecutor() as pool:  # the cancel waits for the transaction that publishes, or is refused
        answer = pool.submit(cancel, instance, published)
        points.release("publish.before_commit")
        assert code_of(answer.result()) in ((409, "job_already_finished"), (503, "database_unavailable"))
    assert instance.succeeded(published).attempt == 1
    assert code_of(cancel(instance, published)) == (409, "job_already_finished")

    for job_id in (running, queued, stored):
        assert code_of(cancel(instance, job_id)) == (202, "cancelled"), "again, with the same answer"
    assert [version.job_id for version in instance.versions(model_id)] == [published]
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_job_cancelled_while_its_worker_dies_is_not_run_again(instance: Instance, tmp_path: Path) -> None:
    points = Failpoints(tmp_path, {"train.step": "hang"})
    instance.up(**points.environment)
    instance.create()
    points.arm("train.step")
    job_id = instance.submit("learn", labels=["0"], steps=1000)
    points.wait_until_reached("train.step")
    worker = instance.job(job_id).worker
    assert worker is not None
    assert code_of(cancel(instance, job_id)) == (202, "cancelling")
    with suppress(ProcessLookupError):  # the worker may have noticed by itself that the job hangs
        os.kill(int(worker.partition(":")[2]), signal.SIGKILL)
    job = instance.wait_until_done(job_id)
    assert (job.state, job.attempt, job.output_version) == ("cancelled", 1, None)
    assert instance.succeeded(instance.submit("learn", labels=["0"])).attempt == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_cancels_at_random_moments(instance: Instance) -> None:
    instance.up()
    model_id = instance.create()
    chance = random.Random(7)
    states: dict[str, str] = {}
    for _ in range(200):
        job_id = instance.submit("learn", labels=["0"], retention="temporary", steps=20)
        time.sleep(chance.random() * 0.4)  # varies the moment; nothing is concluded from the wait
        status, code = code_of(cancel(instance, job_id))
        states[job_id] = instance.wait_until_done(job_id).state
        if status == 202:
            assert states[job_id] == "cancelled"
        else:
            assert (status, code, states[job_id]) == (409, "job_already_finished", "succeeded")
            instance.succeeded(instance.submit("forget", labels=["0"], params={}))
    assert set(states.values()) == {"cancelled", "succeeded"}
    published = {version.job_id for version in instance.versions(model_id)}
    assert published & set(states) == {job_id for job_id, state in states.items() if state == "succeeded"}
    invariants.check(instance.deployment, instance.database, ended=True)
