"""How a job ends that publishes no version: it failed, was cancelled, given back or taken over."""

import errno
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest

from service.registry import claims, jobs
from service.registry import datasets as uploads
from service.registry.artifacts import Content, FolderArtifacts
from service.registry.tables import ModelRow
from tests.jobs.worker_contexts import (
    error_code,
    executing,
    find_job,
    folder_artifacts,
    judges_folder,
    run,
    submit,
    versions_of,
)
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.learning import strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import DatasetUnavailable, load
from worker.learning.strategy import Diverged, Examples, StrategyParams, TrainingContext


def train_until_stopped(context: TrainingContext) -> None:
    for step in range(10**9):
        context.step("learning", step, 10**9, 1.0)


def use_strategy(monkeypatch: pytest.MonkeyPatch, act: Callable[[TrainingContext], None]) -> None:
    """Let every job run `act` in place of its strategy."""

    class AnyParams(StrategyParams, extra="allow"):
        pass

    def run(
        checkpoint: Checkpoint, examples: Examples, params: StrategyParams, context: TrainingContext
    ) -> Checkpoint:
        act(context)
        return checkpoint

    def find(operation: str, name: str) -> strategy.Strategy:
        return strategy.Strategy("learn", name, run, AnyParams, "", "", needs_examples=operation == "learn")

    monkeypatch.setattr(strategy, "find", find)


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (DatasetUnavailable("put it there"), "user", "dataset_unavailable", False),
        (Diverged("the loss became nan"), "diverged", "diverged", False),
        (MemoryError(), "out_of_memory", "out_of_memory", True),
        (OSError(errno.ENOSPC, "No space left on device"), "storage", "storage_full", True),
        (RuntimeError("/secret/path"), "internal", "internal_error", True),
    ],
)
def test_a_failed_job_has_an_error_that_its_client_can_act_on(
    worker_context: WorkerContext,
    model: ModelRow,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: str,
    code: str,
    retryable: bool,
) -> None:
    def fail(context: TrainingContext) -> None:
        raise error

    use_strategy(monkeypatch, fail)
    row = run(worker_context, model, "learn", "0")
    assert row.state == "failed"
    assert row.error is not None
    assert (row.error["type"], row.error["code"], row.error["retryable"]) == (kind, code, retryable)
    assert "secret" not in row.error["message"]
    assert versions_of(worker_context, model) == []


def test_a_job_that_needs_the_label_of_a_failed_job_fails_too(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was accepted because an earlier job was to learn the label."""
    run(worker_context, model, "learn", "0", "1")
    learning, forgetting = (
        submit(worker_context, model, "learn", "2"),
        submit(worker_context, model, "forget", "2"),
    )
    with monkeypatch.context() as patch:
        use_strategy(patch, lambda context: context.step("learning", 1, 1, float("nan")))
        execute(learning, worker_context)
    execute(forgetting, worker_context)
    assert error_code(worker_context, learning) == "diverged"
    assert error_code(worker_context, forgetting) == "unknown_label"


def test_a_label_that_is_forgotten_already_when_the_job_runs_fails_the_job(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Forget, learn again, forget again; the learn in the middle is cancelled."""
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")
    learning, forgetting = (
        submit(worker_context, model, "learn", "1"),
        submit(worker_context, model, "forget", "1"),
    )
    with worker_context.database.transaction() as session:
        jobs.cancel(session, learning)
    execute(forgetting, worker_context)
    assert error_code(worker_context, forgetting) == "label_forgotten"


def test_a_base_version_that_is_no_longer_the_head_fails_the_job(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    first, second = (submit(worker_context, model, "learn", label, base_version=1) for label in "12")
    execute(first, worker_context)
    execute(second, worker_context)
    assert error_code(worker_context, second) == "stale_base"


def test_a_corrupt_base_is_never_built_upon(worker_context: WorkerContext, model: ModelRow) -> None:
    run(worker_context, model, "learn", "0")
    [base] = versions_of(worker_context, model)
    path = folder_artifacts(worker_context).path(base.files["checkpoint.safetensors"]["sha256"])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    learning = submit(worker_context, model, "learn", "1")
    execute(learning, worker_context)
    assert error_code(worker_context, learning) == "artifact_corrupt"
    assert len(versions_of(worker_context, model)) == 1


def test_a_cancel_stops_the_job_at_its_next_step(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_strategy(monkeypatch, train_until_stopped)
    job_id = submit(worker_context, model, "learn", "0")
    with executing(worker_context, job_id), worker_context.database.transaction() as session:
        jobs.cancel(session, job_id)
    assert find_job(worker_context, job_id).state == "cancelled"


def test_a_cancel_stops_the_training_of_a_judge(worker_context: WorkerContext, model: ModelRow) -> None:
    images = load("digits", worker_context.data).train["0"][:100]
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(images.numpy().tobytes() * 2)
        uploads.put(session, "doodles", images={"ring": 100, "same": 100}, sha256=sha256)
    job_id = submit(worker_context, model, "learn", "ring", "same", dataset="doodles")
    with (
        executing(worker_context, job_id, until=lambda job: "training judge" in str(job.progress)),
        worker_context.database.transaction() as session,
    ):
        jobs.cancel(session, job_id)
    assert find_job(worker_context, job_id).state == "cancelled"
    assert not judges_folder(worker_context).exists()


def test_a_cancel_that_is_accepted_after_the_last_step_wins(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step looks for a cancel then; the transaction that publishes does."""
    job_id = submit(worker_context, model, "learn", "0")
    put = FolderArtifacts.put

    def cancel_then_put(artifacts: FolderArtifacts, data: bytes | Content) -> str:
        with worker_context.database.transaction() as session:
            jobs.cancel(session, job_id)
        return put(artifacts, data)

    monkeypatch.setattr(FolderArtifacts, "put", cancel_then_put)
    execute(job_id, worker_context)
    assert find_job(worker_context, job_id).state == "cancelled"
    assert versions_of(worker_context, model) == []


def test_a_shutdown_gives_the_job_back_to_the_queue(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_strategy(monkeypatch, train_until_stopped)
    shutdown = Event()
    worker_context = replace(worker_context, shutting_down=shutdown.is_set)
    job_id = submit(worker_context, model, "learn", "0")
    with executing(worker_context, job_id):
        shutdown.set()
    row = find_job(worker_context, job_id)
    assert (row.state, row.attempt, row.lease_until) == ("queued", 0, None)


def test_a_worker_that_lost_its_job_stops_and_changes_nothing(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_strategy(monkeypatch, train_until_stopped)
    job_id = submit(worker_context, model, "learn", "0")
    with executing(worker_context, job_id), worker_context.database.transaction() as session:
        claims.release(session, claims.Claim(job_id, model.id, fence=1, attempt=1))
        successor = claims.claim(session, job_id, worker="there:2", lease_seconds=60)
    row = find_job(worker_context, job_id)
    assert successor is not None
    assert (row.state, row.worker, row.fence) == ("running", "there:2", successor.fence)
