"""A process that is started as the worker has to say that it is this project's; any other is refused."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Protocol

import pytest

from migrations import upgrade
from service.process import worker_process
from service.process.errors import CannotStart
from service.process.identification import Identification
from service.process.worker_process import WorkerProcess
from service.registry.database import Database
from service.settings import Settings
from service.worker_identity import PROJECT_ROOT, WorkerIdentity
from tests.instance import children, is_running, wait_for

OURS = WorkerIdentity(PROJECT_ROOT, "palimpsest 0.1.0, worker sha256:0").to_line()
ANOTHERS = WorkerIdentity(Path("/elsewhere"), "palimpsest 9.9.9, worker sha256:0").to_line()


def program(says: bytes, *, first: str = "", then: str = "time.sleep(600)") -> Callable[[int], list[str]]:
    """The command line of a process that does something, writes `says` as its identity, and goes on."""
    code = f"import os, sys, time\n{first}\nos.write(int(sys.argv[1]), {says!r})\n{then}"
    return lambda identity_fd: [sys.executable, "-c", code, str(identity_fd)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator["Start"]:
    """Starts a worker process with a given command line; ends it with the test."""
    database = Database(f"sqlite:///{tmp_path / 'palimpsest.db'}")
    upgrade(database)
    started: list[WorkerProcess] = []

    def start(command: Callable[[int], list[str]], *, lease_seconds: float = 6.0) -> WorkerProcess:
        worker = WorkerProcess(Settings(home=tmp_path, lease_seconds=lease_seconds), database, command)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.stop()
    database.dispose()


class Start(Protocol):
    def __call__(
        self, command: Callable[[int], list[str]], *, lease_seconds: float = 6.0
    ) -> WorkerProcess: ...


def test_a_worker_of_this_project_is_accepted_and_its_code_is_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    start(program(OURS)).wait_until_identified(Event())
    assert "palimpsest 0.1.0, worker sha256:0" in caplog.text


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (program(ANOTHERS), f"is in /elsewhere, and this service in {PROJECT_ROOT}"),
        (program(b"200 OK\n"), "is another program"),
        (program(b"[]\n"), "is another program"),
        (program(b"", then="sys.exit(3)"), "did not identify itself"),
        (program(OURS[:-1], then="sys.exit(0)"), "did not identify itself"),
    ],
)
def test_any_other_process_is_refused_in_one_line(
    start: Start, command: Callable[[int], list[str]], reason: str
) -> None:
    with pytest.raises(CannotStart, match="the worker") as refused:
        start(command).wait_until_identified(Event())
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_process_that_says_nothing_is_refused_after_a_while() -> None:
    identification = Identification(seconds=0.0)
    try:
        with pytest.raises(CannotStart, match="does not identify itself"):
            wait_for("a refusal", identification.receive)
    finally:
        identification.close()


def test_nobody_waits_for_an_identity_once_the_instance_stops(start: Start) -> None:
    stop = Event()
    stop.set()
    start(program(b"")).wait_until_identified(stop)


def test_a_wrong_worker_in_place_of_one_that_died_is_logged_and_stopped(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pid_file = tmp_path / "pid"
    wrong = program(
        ANOTHERS, first=f"with open({str(pid_file)!r}, 'w') as file: file.write(str(os.getpid()))"
    )
    commands = iter([program(OURS, then="sys.exit(0)")])
    worker = start(lambda identity_fd: next(commands, wrong)(identity_fd))
    worker.wait_until_identified(Event())

    def refused() -> bool:
        worker.check()
        return "belongs to another project" in caplog.text

    wait_for("the second worker is refused", refused)
    assert {record.levelname for record in caplog.records if "another project" in record.message} == {"ERROR"}
    assert not is_running(int(pid_file.read_text()))


def test_a_worker_that_stops_beating_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is suspended, or one of its threads keeps all others from running."""
    monkeypatch.setattr(worker_process, "SMALLEST_SILENCE_SECONDS", 0.0)
    worker = start(program(OURS, then="os.write(int(sys.argv[1]), b'.')\ntime.sleep(600)"), lease_seconds=0.1)
    worker.wait_until_identified(Event())

    def replaced() -> bool:
        worker.check()
        return "does not run any more" in caplog.text

    wait_for("the silent worker is replaced", replaced)


def test_a_worker_that_starts_slowly_is_left_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not beaten yet, but computes: imports take long on a busy machine."""
    monkeypatch.setattr(worker_process, "SMALLEST_SILENCE_SECONDS", 0.1)
    worker = start(program(OURS, then="while True: pass"), lease_seconds=0.001)
    worker.wait_until_identified(Event())
    pid = children(os.getpid())
    until = time.monotonic() + 1
    while time.monotonic() < until:
        worker.check()
    assert children(os.getpid()) == pid


def test_a_worker_that_is_suspended_before_its_first_beat_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "SMALLEST_SILENCE_SECONDS", 0.1)
    worker = start(program(OURS, then="os.kill(os.getpid(), 19)"), lease_seconds=0.001)
    worker.wait_until_identified(Event())

    def replaced() -> bool:
        worker.check()
        return "does not run any more" in caplog.text

    wait_for("the suspended worker is replaced", replaced)
