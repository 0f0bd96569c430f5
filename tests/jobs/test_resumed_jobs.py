"""A job that was interrupted goes on from its snapshot; one whose stores fail waits for them."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread, current_thread, main_thread

import pytest

from service.receipts import issuing
from service.registry.artifacts import Content, FolderArtifacts
from service.registry.tables import ModelRow, SnapshotRow
from tests.instance import schedule, wait_for
from tests.jobs.worker_contexts import (
    find_job,
    folder_artifacts,
    new_model,
    read_manifest,
    run,
    submit,
    versions_of,
)
from worker.jobs import snapshots
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.jobs.store_failures import StoreRetries, StoreUnavailable

STEPS = 60


class Steps:
    """Counts how often a job asks whether to stop, which it does at every step, and says so after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.count = 0
        self._stop_after = stop_after

    def shutting_down(self) -> bool:
        self.count += current_thread() is main_thread()  # the watchdog asks, too
        return self._stop_after is not None and self.count > self._stop_after


def execute_counted(job_id: str, worker_context: WorkerContext, stop_after: int | None = None) -> int:
    """Run the job until it ends, or was asked so often. Returns how often it asked."""
    steps = Steps(stop_after)
    execute(job_id, replace(worker_context, shutting_down=steps.shutting_down))
    return steps.count


def learn(worker_context: WorkerContext, model: ModelRow) -> str:
    return submit(worker_context, model, "learn", "0", "1", params=schedule(STEPS))


def snapshot_of(worker_context: WorkerContext, job_id: str) -> SnapshotRow | None:
    with worker_context.database.reading() as session:
        return session.get(SnapshotRow, job_id)


def files_of(worker_context: WorkerContext, model: ModelRow) -> list[dict[str, str]]:
    return [
        {name: file["sha256"] for name, file in version.files.items() if name != "manifest.json"}
        for version in versions_of(worker_context, model)
    ]


def test_a_job_that_is_shut_down_several_times_goes_on_and_gives_the_same_bytes(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    undisturbed = new_model(worker_context.database, "undisturbed")
    whole = execute_counted(learn(worker_context, undisturbed), worker_context)
    job_id = learn(worker_context, model)
    for _ in range(3):
        execute_counted(job_id, worker_context, stop_after=whole // 4)
        row = find_job(worker_context, job_id)
        assert (row.state, row.attempt) == ("queued", 0)
    snapshot = snapshot_of(worker_context, job_id)
    assert snapshot is not None
    assert execute_counted(job_id, worker_context) < whole * 3 / 4
    assert find_job(worker_context, job_id).state == "succeeded"
    assert files_of(worker_context, model) == files_of(worker_context, undisturbed)
    (environment,) = read_manifest(worker_context, versions_of(worker_context, model)[0])["environments"]
    assert environment["machine"].startswith("torch ")
    assert snapshot_of(worker_context, job_id) is None
    assert not worker_context.artifacts.exists(snapshot.sha256)


def test_a_worker_of_the_next_release_goes_on_with_a_forget_and_the_receipt_names_both(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(learn(worker_context, model), worker_context)
    job_id = submit(worker_context, model, "forget", "1", params=schedule(STEPS))
    monkeypatch.setattr("worker.jobs.execution.CODE", "palimpsest 1")
    execute_counted(job_id, worker_context, stop_after=STEPS // 2)
    monkeypatch.setattr("worker.jobs.execution.CODE", "palimpsest 2")
    execute(job_id, worker_context)
    manifest = read_manifest(worker_context, versions_of(worker_context, model)[-1])
    assert [one["code"] for one in manifest["environments"]] == ["palimpsest 1", "palimpsest 2"]
    with worker_context.database.reading() as session:
        code = issuing.build_statement(session, worker_context.artifacts, job_id).predicate.code
    assert code == "palimpsest 1, then palimpsest 2"


def test_a_job_whose_snapshot_cannot_be_saved_goes_on(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "INTERVAL_SECONDS", 0.0)
    put = FolderArtifacts.put

    def refuse(artifacts: FolderArtifacts, data: bytes | Content) -> str:
        content = data.data if isinstance(data, Content) else data
        if content.startswith(b"palimpsest snapshot"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(artifacts, data)

    monkeypatch.setattr(FolderArtifacts, "put", refuse)
    assert run(worker_context, model, "learn", "0").state == "succeeded"


def test_a_job_whose_snapshot_is_damaged_begins_anew(worker_context: WorkerContext, model: ModelRow) -> None:
    job_id = learn(worker_context, model)
    execute_counted(job_id, worker_context, stop_after=40)
    snapshot = snapshot_of(worker_context, job_id)
    assert snapshot is not None
    folder_artifacts(worker_context).path(snapshot.sha256).write_bytes(b"damaged")
    execute(job_id, worker_context)
    assert find_job(worker_context, job_id).state == "succeeded"


def test_an_artifact_folder_that_comes_back_in_time_costs_nothing(
    worker_context: WorkerContext, model: ModelRow, tmp_path: Path
) -> None:
    run(worker_context, model, "learn", "0")
    folder, away = folder_artifacts(worker_context).folder, tmp_path / "away"
    folder.rename(away)
    job_id = submit(worker_context, model, "learn", "1")
    thread = Thread(target=execute, args=(job_id, worker_context))
    thread.start()
    wait_for("the job waits", lambda: find_job(worker_context, job_id).state == "running")
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    thread.join(60)
    row = find_job(worker_context, job_id)
    assert (row.state, row.attempt) == ("succeeded", 1)


def test_an_artifact_folder_that_stays_away_costs_no_attempt(
    worker_context: WorkerContext, model: ModelRow, tmp_path: Path
) -> None:
    run(worker_context, model, "learn", "0")
    folder_artifacts(worker_context).folder.rename(tmp_path / "away")
    row = run(replace(worker_context, store_wait_seconds=0.5), model, "learn", "1")
    assert (row.state, row.attempt, row.store_failures) == ("queued", 0, 1)


def test_only_a_failure_of_the_store_is_waited_for(tmp_path: Path) -> None:
    retries = StoreRetries(FolderArtifacts(tmp_path), wait_seconds=60.0)
    assert retries.pause_after(OSError(errno.EIO, "Input/output error")) < retries.pause_after(
        OSError(errno.ESTALE, "Stale file handle")
    )
    with pytest.raises(ValueError, match="unrelated"):
        retries.pause_after(ValueError("unrelated"))


@pytest.mark.parametrize(
    ("error", "becomes"),
    [(OSError(errno.EIO, "Input/output error"), StoreUnavailable), (OSError(errno.ENOSPC, "full"), OSError)],
)
def test_a_full_disk_is_reported_and_other_failures_release_the_job(
    tmp_path: Path, error: OSError, becomes: type[Exception]
) -> None:
    with pytest.raises(becomes):
        StoreRetries(FolderArtifacts(tmp_path), wait_seconds=0.0).pause_after(error)
