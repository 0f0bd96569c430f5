"""A clock that jumps by an hour doubles nothing and delays no job by as much as it jumps."""

import os
import shutil
from pathlib import Path

import pytest

from tests import invariants
from tests.conftest import missing
from tests.instance import Instance, stop, wait_for

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")
SLEEP_BY_SELECT = "import select, time\ntime.sleep = lambda seconds: select.select((), (), (), seconds)\n"
"""libfaketime 0.9.10 breaks clock_nanosleep() with an absolute time, which Python's time.sleep() calls."""
HOUR = 3600
SOON_SECONDS = 90.0
"""A job may be delayed by this much after a jump: some leases and sweeps, on a busy machine."""


class Clock:
    """The clock of the processes that are started with `environment`. The test may set it at any time."""

    def __init__(self, folder: Path) -> None:
        found = [file for pattern in LIBRARIES for file in Path("/").glob(pattern.lstrip("/"))]
        if not found:
            missing("libfaketime is not installed (Debian: apt install faketime)")
        self._file = folder / "clock"
        self.shift(0)
        modules = folder / "modules"
        modules.mkdir()
        (modules / "sitecustomize.py").write_text(SLEEP_BY_SELECT)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(modules), os.environ.get("PYTHONPATH")))),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, seconds: int) -> None:
        """Set the clock to the real time plus so many seconds."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_a_clock_that_jumps_while_a_job_runs_publishes_it_once(instance: Instance, clock: Clock) -> None:
    """SQLite has the clock of the process; with PostgreSQL the clocks of API and worker do not count."""
    instance.up(**clock.environment)
    model_id = instance.create()
    accepted = []
    for label, shift in (("0", HOUR), ("1", -HOUR), ("2", 0)):
        accepted.append(instance.submit("learn", labels=[label], steps=600))
        instance.worker_in_training(accepted[-1])
        clock.shift(shift)
        job = instance.succeeded(accepted[-1], SOON_SECONDS)
        assert job.attempt == 1 or instance.database.is_sqlite
    assert [version.job_id for version in instance.versions(model_id)] == accepted
    assert [instance.job(job_id).sequence for job_id in accepted] == [1, 2, 3]


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_an_hour_back_and_a_lost_message_do_not_delay_a_job_by_an_hour(
    instance: Instance, clock: Clock
) -> None:
    clock.shift(HOUR)
    process = instance.up("serve", **clock.environment)
    instance.create()
    job_id = instance.submit("learn", labels=["0"])
    queue = instance.deployment.home.parent / "queue"
    wait_for("the message is sent", lambda: list(queue.glob("*.msg")))
    shutil.rmtree(queue)
    clock.shift(0)
    instance.run("worker", env=clock.environment)
    assert instance.succeeded(job_id, SOON_SECONDS).attempt == 1
    assert stop(process) == 0
    invariants.check(instance.deployment, instance.database, ended=True)
