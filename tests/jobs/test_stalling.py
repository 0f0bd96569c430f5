"""When a job counts as stalled, and what the watchdog of its worker then does."""

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any, NamedTuple

import pytest

from service.registry import jobs
from service.registry.tables import JobRow, ModelRow
from tests.instance import wait_for
from tests.jobs.test_job_ends import use_strategy
from tests.jobs.worker_contexts import executing, find_job, submit
from worker.jobs import watchdog
from worker.jobs.inputs import WorkerContext
from worker.jobs.stalling import ProgressClock
from worker.learning.strategy import TrainingContext


def silence(clock: ProgressClock, seconds: int) -> ProgressClock:
    """Let so many seconds pass on the clock."""
    for _ in range(seconds):
        clock.tick(1.0)
    return clock


def test_a_job_stalls_when_it_reports_the_same_step_for_too_long() -> None:
    clock = ProgressClock(10.0)
    clock.report("learning", 1)
    silence(clock, 8)
    clock.report("learning", 1)
    assert not silence(clock, 2).is_stalled
    assert silence(clock, 2).is_stalled
    clock.report("learning", 2)
    assert not silence(clock, 1).is_stalled


def test_a_phase_whose_steps_are_slow_may_be_silent_for_longer() -> None:
    clock = ProgressClock(10.0)
    for step in range(3):
        clock.report("learning", step)
        silence(clock, 5)
    clock.report("learning", 3)
    assert not silence(clock, 75).is_stalled
    assert silence(clock, 10).is_stalled
    clock.report("judging", 0)
    assert silence(clock, 12).is_stalled


def test_a_process_that_was_suspended_has_not_stalled() -> None:
    clock = ProgressClock(10.0)
    clock.tick(3600.0)
    assert not clock.is_stalled


def test_a_job_that_waits_for_a_store_does_not_stall() -> None:
    clock = ProgressClock(10.0)
    for _ in range(5):
        clock.wait()
        silence(clock, 5)
    assert not clock.is_stalled


class Hang(NamedTuple):
    """A job that hangs from `began` until `go_on`."""

    began: Event
    go_on: Event


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Hang:
    """Let every job hang before its first step."""
    hang = Hang(Event(), Event())

    def act(context: TrainingContext) -> None:
        hang.began.set()
        hang.go_on.wait(60)

    use_strategy(monkeypatch, act)
    return hang


def run_hanging(
    worker_context: WorkerContext,
    model: ModelRow,
    hang: Hang,
    meanwhile: Callable[[str], None] = lambda job_id: None,
    **fields: Any,
) -> JobRow:
    """Run a job that hangs. Return its row as it is when the watchdog ends the process."""
    replaced = Event()
    context = replace(worker_context, replace_worker=replaced.set, **fields)
    job_id = submit(context, model, "learn", "0")
    with executing(context, job_id, until=lambda job: hang.began.is_set()):
        meanwhile(job_id)
        wait_for("the watchdog ends the process", replaced.is_set)
        row = find_job(context, job_id)
        hang.go_on.set()
    return row


def test_a_hung_job_is_queued_again_and_its_worker_replaced(
    worker_context: WorkerContext, model: ModelRow, hang: Hang
) -> None:
    row = run_hanging(worker_context, model, hang, stall_seconds=0.5)
    assert (row.state, row.attempt, row.worker) == ("queued", 1, None)


def test_a_hung_job_is_cancelled_all_the_same(
    worker_context: WorkerContext, model: ModelRow, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "CANCEL_SECONDS", 0.5)

    def cancel(job_id: str) -> None:
        with worker_context.database.transaction() as session:
            jobs.cancel(session, job_id)

    assert run_hanging(worker_context, model, hang, cancel).state == "cancelled"


def test_a_hung_job_is_given_back_at_a_shutdown(
    worker_context: WorkerContext, model: ModelRow, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "SHUTDOWN_SECONDS", 0.5)
    shutdown = Event()
    row = run_hanging(
        worker_context, model, hang, lambda job_id: shutdown.set(), shutting_down=shutdown.is_set
    )
    assert (row.state, row.attempt) == ("queued", 0)
