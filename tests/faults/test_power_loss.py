"""An instance whose disk is copied at a random moment goes on from the copy, as after a loss of power.

All processes are suspended while the copy is made, so that the copy has the files of one moment. What the
kernel had not yet written to the disk is in the copy, too: that part of a real loss of power is not provoked.
"""

import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from service.settings import Settings
from tests import invariants
from tests.instance import Instance, children, instance_of, is_suspended, stop, wait_for

COPIES = 6


def test_a_copy_of_any_moment_keeps_the_rules_and_goes_on(tmp_path: Path) -> None:
    chance = random.Random(44)
    home = tmp_path / "home"
    with instance_of(Settings(home=home, port=0), tmp_path) as instance:
        process = instance.up()
        for name in ("a", "b", "c"):
            instance.create(name)
            instance.submit("learn", name, labels=["0", "1"], steps=100)
            instance.submit("forget", name, labels=["1"], purge=True)
            instance.submit("learn", name, labels=["2"], steps=100)
        instance.wait_until(first_job(instance), lambda job: job.done)
        for number in range(COPIES):
            time.sleep(chance.random())  # varies the moment; nothing is concluded from the wait
            copy_at_once(process.pid, home, tmp_path / f"copy{number}")
        assert stop(process) == 0
    for number in range(COPIES):
        with instance_of(Settings(home=tmp_path / f"copy{number}", port=0), tmp_path) as copy:
            invariants.check(copy.deployment, copy.database)
            if number in (0, COPIES - 1):
                go_on(copy)


def first_job(instance: Instance) -> str:
    return str(instance.request("GET", "/v1/jobs?limit=100", status=200)["data"][-1]["id"])


def copy_at_once(supervisor: int, home: Path, copy: Path) -> None:
    """Copy the folder while every process of the instance is suspended."""
    suspend(supervisor)  # first, so that it starts no further child
    workers = children(supervisor)
    for pid in workers:
        suspend(pid)
    shutil.copytree(home, copy)
    for pid in (supervisor, *workers):
        os.kill(pid, signal.SIGCONT)


def suspend(pid: int) -> None:
    """Suspend the process; return once it is. A thread that waits for the disk is suspended after that."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(f"process {pid} is suspended", partial(is_suspended, pid))


def go_on(copy: Instance) -> None:
    process = copy.up()
    jobs = copy.request("GET", "/v1/jobs?limit=100", status=200)["data"]
    assert len(jobs) == 9
    for job in jobs:
        assert copy.wait_until_done(job["id"]).state == "succeeded"
    assert invariants.find_drawable(copy.url, copy.database) == []
    invariants.check(copy.deployment, copy.database, swept=True)
    assert stop(process) == 0
