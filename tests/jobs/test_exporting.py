"""An export has the images of a sample, in the same bytes whoever draws it, and none after a revocation."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from service.process.export_sweep import clear_exports, end_exports
from service.registry import claims, export_clearing, export_parts, exports, sweeping
from service.registry.artifacts import Artifacts, Content, FileContent, FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.errors import ExportAlreadyFinished, FencedOff, TooManyExports
from service.registry.tables import DEFAULT_PROJECT, JobRow, ModelRow
from service.settings import Settings
from tests.jobs.exporting import (
    Images,
    draw_images,
    find_export,
    new_export,
    queued,
    read_images,
    read_manifest,
    run_jobs,
    shards_of,
)
from tests.jobs.worker_contexts import TEMPORARY, folder_artifacts, on_sqlite_alone, run, submit
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext


@pytest.fixture
def learned(worker_context: WorkerContext, model: ModelRow) -> ModelRow:
    """The model, which holds two permanent labels."""
    run(worker_context, model, "learn", "0", "1")
    return model


@pytest.fixture
def swept(worker_context: WorkerContext) -> Settings:
    """The settings of a sweeper of the same deployment."""
    return Settings(home=folder_artifacts(worker_context).folder.parent)


def sweep(database: Database, deployment: Settings) -> None:
    end_exports(database, deployment)
    clear_exports(database, deployment)


@pytest.mark.parametrize("format", ["npz", "webdataset"])
def test_an_export_has_the_images_of_a_sample_in_equal_shares(
    worker_context: WorkerContext, learned: ModelRow, format: str
) -> None:
    export_id = new_export(worker_context, learned, format=format)
    run_jobs(worker_context)
    export, shards = find_export(worker_context, export_id), shards_of(worker_context, export_id)
    manifest = read_manifest(worker_context, export_id)
    assert (export.state, export.images_done, [one.images for one in shards]) == ("succeeded", 10, [4, 4, 2])
    found: Images = {}
    for shard, entry in zip(shards, manifest["shards"], strict=True):
        content = worker_context.artifacts.read(shard.sha256)
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        images = read_images(format, content, labels=["0", "1"], seed=7)
        assert [label for label, _ in images] == ["0", "1"] * (shard.images // 2)
        found |= images
    drawn = draw_images(worker_context, learned, ["0", "1"], range(7, 12))
    assert found.keys() == drawn.keys()
    assert all((found[key] == drawn[key]).all() for key in drawn)


def test_labels_with_networks_of_their_own_are_exported_too(
    worker_context: WorkerContext, learned: ModelRow
) -> None:
    run(worker_context, learned, "learn", "5", **TEMPORARY)
    labels = ["5", "0"]
    export_id = new_export(worker_context, learned, labels=labels)
    run_jobs(worker_context)
    found: Images = {}
    drawn = draw_images(worker_context, learned, labels, range(7, 12))
    for shard in shards_of(worker_context, export_id):
        content = worker_context.artifacts.read(shard.sha256)
        found |= read_images("npz", content, labels=labels, seed=7)
    assert all((found[key] == drawn[key]).all() for key in drawn)


@on_sqlite_alone
def test_shards_lie_in_a_folder_or_in_a_bucket(
    worker_context: WorkerContext, model: ModelRow, artifacts: Artifacts
) -> None:
    context = replace(worker_context, artifacts=artifacts)
    run(context, model, "learn", "0", "1")
    export_id = new_export(context, model, format="webdataset")
    run_jobs(context)
    found = [hashlib.sha256(artifacts.read(one.sha256)).hexdigest() for one in shards_of(context, export_id)]
    assert found == [one["sha256"] for one in read_manifest(context, export_id)["shards"]]


def test_a_repeated_export_has_the_same_files(worker_context: WorkerContext, learned: ModelRow) -> None:
    first, second = (new_export(worker_context, learned) for _ in range(2))
    run_jobs(worker_context)
    hashes = [[one.sha256 for one in shards_of(worker_context, each)] for each in (first, second)]
    assert hashes[0] == hashes[1]


def test_a_late_worker_publishes_no_shard(
    worker_context: WorkerContext, learned: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = new_export(worker_context, learned)
    first = queued(worker_context)[0]
    late = worker_context

    def lose_the_claim() -> str | None:
        """Between drawing and publishing, the lease ends and another worker draws the shard."""
        with late.database.transaction() as session:
            claim = Claim(first, learned.id, fence=1, attempt=1)
            claims.release(session, claim)
        execute(first, replace(worker_context, worker="here:2", find_lack=lambda: None))
        return None

    calls = iter([None, lose_the_claim])
    execute(first, replace(worker_context, find_lack=lambda: (call := next(calls)) and call()))
    [shard] = shards_of(worker_context, export_id)
    assert find_export(worker_context, export_id).images_done == shard.images == 4
    assert worker_context.artifacts.exists(shard.sha256)


def test_learning_has_its_turn_before_an_export(worker_context: WorkerContext, learned: ModelRow) -> None:
    export_id = new_export(worker_context, learned)
    learning = submit(worker_context, learned, "learn", "2")
    run_jobs(worker_context, until=lambda: learning not in queued(worker_context))
    assert shards_of(worker_context, export_id) == []


def test_a_cancelled_export_leaves_no_file(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings
) -> None:
    export_id = new_export(worker_context, learned)
    execute(queued(worker_context)[0], worker_context)
    [shard] = shards_of(worker_context, export_id)
    with worker_context.database.transaction() as session:
        exports.cancel(session, export_id, project=DEFAULT_PROJECT)
    assert queued(worker_context) == []
    sweep(worker_context.database, swept)
    export = find_export(worker_context, export_id)
    assert (export.state, export.cleared_at is not None) == ("cancelled", True)
    assert not worker_context.artifacts.exists(shard.sha256)


def test_a_complete_export_cannot_be_cancelled(worker_context: WorkerContext, learned: ModelRow) -> None:
    export_id = new_export(worker_context, learned, count=1)
    run_jobs(worker_context)
    with pytest.raises(ExportAlreadyFinished), worker_context.database.transaction() as session:
        exports.cancel(session, export_id, project=DEFAULT_PROJECT)


def test_a_forget_stops_exports_and_deletes_their_files(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings
) -> None:
    finished, running = new_export(worker_context, learned), new_export(worker_context, learned, seed=50)
    run_jobs(worker_context, until=lambda: bool(shards_of(worker_context, running)))
    shards = shards_of(worker_context, finished) + shards_of(worker_context, running)
    run(worker_context, learned, "forget", "1")
    states = [find_export(worker_context, each).state for each in (finished, running)]
    assert (states, queued(worker_context)) == (["revoked", "revoked"], [])
    sweep(worker_context.database, swept)
    assert len(shards) > 3
    assert not any(worker_context.artifacts.exists(shard.sha256) for shard in shards)


class Killed(BaseException):
    """Stands for the end of the worker's process."""


class LastFile(FolderArtifacts):
    """A store that a worker writes one file to, and is killed then."""

    def put(self, data: bytes | Content | FileContent) -> str:
        super().put(data)
        raise Killed


@pytest.mark.parametrize("first", ["the sweep", "the forget"])
def test_a_shard_that_a_killed_worker_stored_is_deleted_with_its_export(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings, first: str
) -> None:
    folder = folder_artifacts(worker_context)
    export_id, before = new_export(worker_context, learned), set(folder.all_files())
    with pytest.raises(Killed):
        execute(queued(worker_context)[0], replace(worker_context, artifacts=LastFile(folder.folder)))
    [shard] = set(folder.all_files()) - before

    def end_claims() -> None:
        with worker_context.database.transaction() as session:
            sweeping.expire_leases_of(session, worker_context.worker)
            sweeping.requeue_expired(session)

    steps: list[Callable[[], object]] = [end_claims, lambda: run(worker_context, learned, "forget", "1")]
    for step in steps if first == "the sweep" else steps[::-1]:
        assert find_export(worker_context, export_id).cleared_at is None
        step()
        sweep(worker_context.database, swept)
    assert find_export(worker_context, export_id).cleared_at is not None
    assert not shard.exists()
    sweep(worker_context.database, swept)
    with worker_context.database.reading() as session:
        assert session.scalar(select(JobRow.id).where(JobRow.export_id == export_id)) is None


def test_other_bytes_of_a_shard_that_was_drawn_again_are_deleted_with_its_export(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings
) -> None:
    export_id, database = new_export(worker_context, learned), worker_context.database
    with database.transaction() as session:
        claim = claims.claim(session, queued(worker_context)[0], worker="here:1", lease_seconds=60)
        assert claim is not None
        other = worker_context.artifacts.put(b"as another machine draws the shard")
        export_parts.note_file(session, claim, other)
        claims.release(session, claim)
    run_jobs(worker_context)
    sweep(database, swept)
    assert find_export(worker_context, export_id).state == "succeeded"
    with database.transaction() as session:
        exports.remove(session, export_id)
    for _ in range(2):
        sweep(database, swept)
    assert not worker_context.artifacts.exists(other)
    with database.reading() as session:
        assert session.scalar(select(JobRow.id).where(JobRow.export_id == export_id)) is None


def test_no_file_is_noted_for_a_cancelled_part(worker_context: WorkerContext, learned: ModelRow) -> None:
    export_id, database = new_export(worker_context, learned), worker_context.database
    with database.transaction() as session:
        claim = claims.claim(session, queued(worker_context)[0], worker="here:1", lease_seconds=60)
        exports.cancel(session, export_id, project=DEFAULT_PROJECT)
        assert claim is not None
        with pytest.raises(FencedOff):
            export_parts.note_file(session, claim, "0" * 64)


def test_a_full_disk_fails_the_export_and_frees_what_it_has(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings
) -> None:
    export_id = new_export(worker_context, learned)
    execute(queued(worker_context)[0], worker_context)
    [shard] = shards_of(worker_context, export_id)
    full = replace(worker_context, find_lack=lambda: "the disk is full", store_wait_seconds=0)
    execute(queued(worker_context)[0], full)
    export = find_export(worker_context, export_id)
    assert (export.state, export.error and export.error["code"]) == ("failed", "storage_full")
    sweep(worker_context.database, swept)
    assert not worker_context.artifacts.exists(shard.sha256)


def test_a_project_has_few_unfinished_exports(worker_context: WorkerContext, learned: ModelRow) -> None:
    for _ in range(exports.MAX_UNFINISHED):
        new_export(worker_context, learned, count=1)
    with pytest.raises(TooManyExports):
        new_export(worker_context, learned, count=1)


def test_the_rows_of_its_jobs_are_deleted(
    worker_context: WorkerContext, learned: ModelRow, swept: Settings
) -> None:
    new_export(worker_context, learned)
    run_jobs(worker_context)
    sweep(worker_context.database, swept)
    with worker_context.database.reading() as session:
        assert not export_clearing.has_jobs(session)
