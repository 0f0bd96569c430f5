"""One job from its claim to its end, in this process: every end there is, and the same bytes each time."""

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy.orm import Session

from service.registry import claims, jobs, labels, models, publishing, versions
from service.registry import datasets as uploads
from service.registry.artifacts import Content, FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.tables import ModelRow, VersionRow
from tests.datasets.idx_files import small, write
from tests.instance import schedule, wait_for
from tests.jobs.worker_contexts import find_job, new_model, run, submit, versions_of
from worker.jobs import execution
from worker.jobs.classifiers import JUDGES
from worker.jobs.code_version import CODE
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.jobs.version_files import File, store
from worker.learning import strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import DatasetUnavailable, fashion_mnist, load
from worker.learning.datasets.fashion_mnist import FASHION_MNIST
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import Diverged, Examples, StrategyParams, TrainingContext


def strategy_that(monkeypatch: pytest.MonkeyPatch, act: Callable[[TrainingContext], None]) -> None:
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

    monkeypatch.setattr(execution.strategy, "find", find)


def steps_until_stopped(context: TrainingContext) -> None:
    for step in range(10**9):
        context.step("learning", step, 10**9, 1.0)


@contextmanager
def running(worker_context: WorkerContext, job_id: str) -> Iterator[None]:
    """The job being executed beside the block, seen to have begun; it has ended when this has."""
    thread = Thread(target=execute, args=(job_id, worker_context))
    thread.start()
    try:
        wait_for("the job is in its training", lambda: find_job(worker_context, job_id).progress)
        yield
    finally:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("strategy", ["retrain", "surrogate"])
def test_exact_forgetting_gives_the_same_bytes_whatever_the_network_that_saw_the_label_had_become(
    strategy: str, worker_context: WorkerContext, model: ModelRow
) -> None:
    """Two models part where one trains longer on what both then forget: a label, or all that is permanent."""
    forgot = {"retrain": ("1",), "surrogate": ("0", "1", "2")}[strategy]
    other, found = new_model(worker_context.database, "other"), []
    for one, steps in ((model, 3), (other, 5)):
        for asked in (
            submit(worker_context, one, "learn", "0"),
            submit(worker_context, one, "learn", "1", "2", params=schedule(steps)),
            submit(worker_context, one, "learn", "3", strategy="isolated", retention="temporary"),
            submit(worker_context, one, "forget", *forgot, strategy=strategy),
        ):
            execute(asked, worker_context)
        found.append(
            [
                version.files["checkpoint.safetensors"]["sha256"]
                for version in versions_of(worker_context, one)
            ]
        )
    (first, saw, _, after), (first_too, saw_too, _, after_too) = found
    assert (first == first_too, saw == saw_too, after == after_too) == (True, False, True)


def test_what_is_dropped_with_a_permanent_label_changes_no_chance_of_forgetting_that_one(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    other, found = new_model(worker_context.database, "other"), []
    for one, names in ((model, ()), (other, ("1",))):
        run(worker_context, one, "learn", "0", "2")
        if names:
            isolated = {"strategy": "isolated", "retention": "temporary"}
            run(worker_context, one, "learn", *names, **isolated)
        run(worker_context, one, "forget", "0", *names)
        found.append(versions_of(worker_context, one)[-1].files["checkpoint.safetensors"]["sha256"])
    assert found[0] == found[1]


def test_a_job_becomes_a_version_and_names_the_next(worker_context: WorkerContext, model: ModelRow) -> None:
    first, second = (
        submit(worker_context, model, "learn", "0", "1"),
        submit(worker_context, model, "forget", "1"),
    )
    assert execute(second, worker_context) is None  # not its turn
    assert execute(first, worker_context) == second
    assert execute(first, worker_context) is None  # a bell too many
    assert execute(second, worker_context) is None
    learned, forgot = versions_of(worker_context, model)
    checkpoint = Checkpoint.from_bytes(
        worker_context.artifacts.read(forgot.files["checkpoint.safetensors"]["sha256"])
    )
    assert (learned.labels, forgot.labels) == ({"0": 0, "1": 1}, {"0": 0})
    assert (checkpoint.held, checkpoint.forgotten) == ({"0": 0}, {"1": 1})


def test_the_same_job_gives_the_same_bytes(worker_context: WorkerContext, database: Database) -> None:
    files = []
    for name in ("one", "other"):
        model = new_model(database, name)
        for operation, names in (("learn", "01"), ("resize", ""), ("learn", "2")):
            run(worker_context, model, operation, *names)  # type: ignore[arg-type]
        files.append(
            [{**version.files, "manifest.json": None} for version in versions_of(worker_context, model)]
        )
    assert len(files[0]) == 3
    assert files[0] == files[1]


def test_a_dropped_temporary_label_leaves_the_bytes_as_if_it_had_never_been(
    worker_context: WorkerContext, database: Database
) -> None:
    """CLPU's [R0, T1, F1, R2] against [R0, R2]: what each ends with, and what changed on the way."""
    ends = []
    for name, temporary in (("with", True), ("without", False)):
        model = new_model(database, name)
        run(worker_context, model, "learn", "0")
        if temporary:
            isolated = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}
            run(worker_context, model, "learn", "1", **isolated)
            run(worker_context, model, "forget", "1", strategy="drop", params={})
        run(worker_context, model, "learn", "2")
        ends.append(versions_of(worker_context, model))
    first, added, dropped, last = ends[0]
    assert (added.labels, dropped.labels) == ({"0": 0, "1": None}, {"0": 0})
    assert last.labels == ends[1][-1].labels == {"0": 0, "2": 1}
    for name in ("checkpoint.safetensors", "decoder.onnx"):
        assert first.files[name] == added.files[name] == dropped.files[name]
        assert last.files[name] == ends[1][-1].files[name]
    assert set(added.files) - set(dropped.files) == {
        "isolated-1-checkpoint.safetensors",
        "isolated-1-decoder.onnx",
    }
    assert dropped.report["findings"] == {"dropped": ["1"], "guarantee": "exact"}
    assert dropped.report["forgotten"]["labels"] == {}, "no network is left that could draw it"
    assert (added.revoked_by, last.revoked_by) == (dropped.job_id, None)


def test_a_temporary_label_is_learnt_the_same_whatever_else_the_request_asked_for(
    worker_context: WorkerContext, database: Database
) -> None:
    isolated, ends = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}, []
    for name, asked in (("with", "12"), ("alone", "2")):
        model = new_model(database, name)
        run(worker_context, model, "learn", *asked, **isolated)
        if name == "with":
            run(worker_context, model, "forget", "1", strategy="drop", params={})
        ends.append(versions_of(worker_context, model)[-1].files)
    for file in ("isolated-2-checkpoint.safetensors", "isolated-2-decoder.onnx", "checkpoint.safetensors"):
        assert ends[0][file] == ends[1][file]


def test_a_temporary_label_with_the_name_of_a_forgotten_one_leaves_the_main_network_as_it_is(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Its images are called otherwise in their dataset; those of the forgotten one were not."""
    isolated = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")
    run(worker_context, model, "learn", "1", renamed={"1": "8"}, **isolated)
    _, before, after = versions_of(worker_context, model)
    assert after.files["checkpoint.safetensors"] == before.files["checkpoint.safetensors"]
    alone = Checkpoint.from_bytes(
        worker_context.artifacts.read(after.files["isolated-1-checkpoint.safetensors"]["sha256"])
    )
    assert alone.label("1").source == "8"


def test_the_picture_of_what_is_left_is_the_main_networks_while_the_label_is_back_for_a_time(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    isolated = {"strategy": "isolated", "retention": "temporary"}
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")
    run(worker_context, model, "learn", "1", **isolated)
    _, forgot, back = versions_of(worker_context, model)
    assert back.files["decoder.onnx"] == forgot.files["decoder.onnx"]
    assert back.files["forgotten-1.png"] == forgot.files["forgotten-1.png"]


def test_a_temporary_label_becomes_permanent_without_its_data(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    isolated = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}
    run(worker_context, model, "learn", "0", **isolated)
    run(worker_context, model, "learn", "1")
    promote = submit(worker_context, model, "learn", "0", strategy="merge", dataset="elsewhere")
    execute(promote, worker_context)
    alone, _, last = versions_of(worker_context, model)
    assert alone.labels == {"0": None}
    assert last.labels == {"1": 0, "0": 1}
    assert set(last.files) == {"checkpoint.safetensors", "decoder.onnx", "report.json", "manifest.json"}
    assert last.report["findings"] == {"promoted": ["0"]}
    with worker_context.database.reading() as session:
        row = labels.find_all(session, model.id)["0"]
    assert (row.status, row.dataset, row.generation) == ("permanent", "digits", 1)


def test_a_merge_whose_label_was_dropped_meanwhile_fails_in_words(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    isolated = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}
    run(worker_context, model, "learn", "0")
    learning = submit(worker_context, model, "learn", "1", **isolated)
    merging = submit(worker_context, model, "learn", "1", strategy="merge")
    with worker_context.database.transaction() as session:
        jobs.cancel(session, learning)
    execute(merging, worker_context)
    assert (find_job(worker_context, merging).error or {})["code"] == "label_conflict"


def test_labels_of_two_datasets_live_in_one_model_under_names_of_the_clients_choice(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", small(FASHION_MNIST))
    write(fashion_mnist.FASHION_MNIST, worker_context.data)
    clothes = {"dataset": "fashion_mnist", "renamed": {"shoe": "sneaker", "0": "bag"}}
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "0")
    run(worker_context, model, "learn", "shoe", "0", "coat", **clothes)
    run(worker_context, model, "learn", "2", strategy="retrain")  # from every label's images
    *_, learned, last = versions_of(worker_context, model)
    assert learned.report["examples"]["labels"] == {"shoe": 2, "0": 2, "coat": 2}
    assert "too small to train a classifier on" in learned.report["retained"]["labels"]["shoe"]["reason"]
    checkpoint = Checkpoint.from_bytes(
        worker_context.artifacts.read(last.files["checkpoint.safetensors"]["sha256"])
    )
    assert {one.name: (one.dataset, one.source) for one in checkpoint.labels} == {
        "0": ("fashion_mnist", "bag"),
        "1": ("digits", "1"),
        "shoe": ("fashion_mnist", "sneaker"),
        "coat": ("fashion_mnist", "coat"),
        "2": ("digits", "2"),
    }
    manifest = json.loads(worker_context.artifacts.read(learned.files["manifest.json"]["sha256"]))
    assert manifest["job"]["renamed"] == {"shoe": "sneaker", "0": "bag"}
    assert [one["renamed_from"] for one in manifest["labels"]] == ["bag", None, "sneaker", None]


def test_a_file_deleted_between_being_stored_and_being_published_is_stored_again(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge may take a version with the very same file: the publication is later, so it wins."""

    def store_and_lose(files: Mapping[str, File], artifacts: FolderArtifacts) -> dict[str, dict[str, Any]]:
        stored = store(files, artifacts)
        artifacts.delete(stored["decoder.onnx"]["sha256"])
        return stored

    monkeypatch.setattr(execution, "store", store_and_lose)
    run(worker_context, model, "learn", "0")
    [version] = versions_of(worker_context, model)
    assert all(worker_context.artifacts.holds(file["sha256"]) for file in version.files.values())


def test_what_was_uploaded_is_learned_and_judged_as_any_other(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its judge is trained in the first job, and serves the second."""
    monkeypatch.setattr(execution, "JUDGES", replace(JUDGES, training=Training(steps=40)))
    bundled = load("digits", worker_context.data).train
    images = {"ring": bundled["0"][:100], "bar": bundled["1"][:100]}
    pixels = b"".join(one.numpy().tobytes() for one in images.values())
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(pixels)
        uploads.put(session, "doodles", images=dict.fromkeys(images, 100), sha256=sha256)
    run(worker_context, model, "learn", "ring", "0", dataset="doodles", renamed={"0": "bar"})
    [kept] = worker_context.judges.iterdir()
    trained_at = kept.stat().st_mtime_ns
    run(worker_context, model, "learn", "1")
    first, second = versions_of(worker_context, model)
    assert first.report["examples"]["labels"] == {"ring": 80, "0": 80}, "each fifth image is for testing"
    assert first.report["retained"]["n"] == 2000
    assert sorted(second.report["judge"]) == ["digits", "doodles"]
    assert first.report["judge"]["doodles"] == second.report["judge"]["doodles"]
    assert first.report["judge"]["doodles"]["test_accuracy"] > 0.9
    assert [one.stat().st_mtime_ns for one in worker_context.judges.iterdir()] == [trained_at]


def test_a_cancel_stops_the_training_of_a_judge(worker_context: WorkerContext, model: ModelRow) -> None:
    images = load("digits", worker_context.data).train["0"][:100]
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(images.numpy().tobytes() * 2)
        uploads.put(session, "doodles", images={"ring": 100, "same": 100}, sha256=sha256)
    job_id = submit(worker_context, model, "learn", "ring", "same", dataset="doodles")
    thread = Thread(target=execute, args=(job_id, worker_context))
    thread.start()
    wait_for(
        "the judge is in its training",
        lambda: "training judge" in str(find_job(worker_context, job_id).progress),
    )
    with worker_context.database.transaction() as session:
        jobs.cancel(session, job_id)
    thread.join(30)
    assert not thread.is_alive()
    assert find_job(worker_context, job_id).state == "cancelled"
    assert not worker_context.judges.exists()


def test_another_seed_gives_other_bytes(worker_context: WorkerContext, database: Database) -> None:
    shas = set()
    for seed in (0, 1):
        model = new_model(database, f"seed-{seed}")
        run(worker_context, model, "learn", "0", seed=seed)
        shas.add(versions_of(worker_context, model)[0].files["checkpoint.safetensors"]["sha256"])
    assert len(shas) == 2


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (DatasetUnavailable("put it there"), "user", "dataset_unavailable", True),
        (Diverged("the loss became nan"), "diverged", "diverged", False),
        (MemoryError(), "out_of_memory", "out_of_memory", True),
        (OSError(errno.ENOSPC, "No space left on device"), "storage", "storage_full", True),
        (RuntimeError("/secret/path"), "internal", "internal_error", True),
    ],
)
def test_a_job_that_goes_wrong_fails_with_words_a_client_can_act_on(
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

    strategy_that(monkeypatch, fail)
    failed = submit(worker_context, model, "learn", "0")
    execute(failed, worker_context)
    row = find_job(worker_context, failed)
    assert row.state == "failed"
    assert row.error is not None
    assert (row.error["type"], row.error["code"], row.error["retryable"]) == (kind, code, retryable)
    assert "secret" not in row.error["message"]
    assert versions_of(worker_context, model) == []


def test_a_job_whose_premise_failed_fails_too(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was accepted because an earlier job would have learned the label; that one did not."""
    run(worker_context, model, "learn", "0", "1")
    learning, forgetting = (
        submit(worker_context, model, "learn", "2"),
        submit(worker_context, model, "forget", "2"),
    )
    with monkeypatch.context() as patch:
        strategy_that(patch, lambda context: context.step("learning", 1, 1, float("nan")))
        execute(learning, worker_context)
    execute(forgetting, worker_context)
    assert (find_job(worker_context, learning).error or {})["code"] == "diverged"
    assert (find_job(worker_context, forgetting).error or {})["code"] == "unknown_label"


def test_what_is_forgotten_already_when_the_job_runs_is_not_forgotten_twice(
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
    assert (find_job(worker_context, forgetting).error or {})["code"] == "label_forgotten"


def test_exact_forgetting_starts_from_the_newest_version_that_never_saw_the_label(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Learn 0 and 1, then 2, then 3; forget 2 exactly: version 1, and 3 learnt again from its images."""
    for names in (("0", "1"), ("2",), ("3",)):
        run(worker_context, model, "learn", *names)
    run(worker_context, model, "forget", "2", strategy="retrain")
    first, *_, last = versions_of(worker_context, model)
    assert last.report["findings"] == {"guarantee": "exact"}
    assert sorted(last.labels) == ["0", "1", "3"]
    assert last.widths == first.widths, "the expansions since are gone with what they were for"
    anchor, after = (
        Checkpoint.from_bytes(worker_context.artifacts.read(one.files["checkpoint.safetensors"]["sha256"]))
        for one in (first, last)
    )
    moved = (after.weights["decoder.1.weight"] - anchor.weights["decoder.1.weight"]).abs().max()
    assert 0 < moved < 0.2, "three steps away from version 1"


def test_the_newest_version_without_a_label_is_that_before_it_was_first_learned(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    for names in (("0", "1"), ("2",)):
        run(worker_context, model, "learn", *names)
    run(worker_context, model, "forget", "2")
    run(worker_context, model, "learn", "2")
    with worker_context.database.reading() as session:
        found = models.find(session, model.id)
        asked: list[list[str]] = [["2"], ["1"], ["0", "2"], ["9"]]
        newest = [versions.find_newest_without(session, found, names) for names in asked]
    assert newest == [1, None, None, 4]


def test_a_base_that_moved_meanwhile_fails_the_job(worker_context: WorkerContext, model: ModelRow) -> None:
    run(worker_context, model, "learn", "0")
    first, second = (submit(worker_context, model, "learn", label, base_version=1) for label in "12")
    execute(first, worker_context)
    execute(second, worker_context)
    assert (find_job(worker_context, second).error or {})["code"] == "stale_base"


def test_a_corrupt_base_is_never_built_upon(worker_context: WorkerContext, model: ModelRow) -> None:
    run(worker_context, model, "learn", "0")
    [base] = versions_of(worker_context, model)
    path = worker_context.artifacts.path(base.files["checkpoint.safetensors"]["sha256"])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    learning = submit(worker_context, model, "learn", "1")
    execute(learning, worker_context)
    assert (find_job(worker_context, learning).error or {})["code"] == "artifact_corrupt"
    assert len(versions_of(worker_context, model)) == 1


def test_a_cancel_stops_the_job_at_its_next_step(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy_that(monkeypatch, steps_until_stopped)
    job_id = submit(worker_context, model, "learn", "0")
    with running(worker_context, job_id), worker_context.database.transaction() as session:
        jobs.cancel(session, job_id)
    assert find_job(worker_context, job_id).state == "cancelled"


def test_a_shutdown_gives_the_job_back(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy_that(monkeypatch, steps_until_stopped)
    shutdown = Event()
    worker_context = replace(worker_context, shutting_down=shutdown.is_set)
    job_id = submit(worker_context, model, "learn", "0")
    with running(worker_context, job_id):
        shutdown.set()
    row = find_job(worker_context, job_id)
    assert (row.state, row.attempt, row.lease_until) == ("queued", 0, None)


def test_a_job_that_was_taken_over_stops_and_leaves_it_to_the_other(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy_that(monkeypatch, steps_until_stopped)
    job_id = submit(worker_context, model, "learn", "0")
    with running(worker_context, job_id), worker_context.database.transaction() as session:
        claims.release(session, claims.Claim(job_id, model.id, fence=1, attempt=1))
        successor = claims.claim(session, job_id, worker="there:2", lease_seconds=60)
    row = find_job(worker_context, job_id)
    assert successor is not None
    assert (row.state, row.worker, row.fence) == ("running", "there:2", successor.fence)


def test_a_cancel_accepted_during_the_last_moment_wins(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step nothing looks at the pulse any more: the publishing transaction does."""
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


def test_a_commit_without_an_answer_publishes_once(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost exactly at COMMIT of the publication: it happened, but nobody said so."""
    publish, transaction = publishing.publish, worker_context.database.transaction
    unanswered = iter([True])

    @contextmanager
    def without_the_answer() -> Iterator[Session]:
        with transaction() as session:
            yield session
        if session.info.pop("publishes", False) and next(unanswered, False):
            raise DatabaseUnavailable("the connection was lost at COMMIT")

    def marked(session: Session, *arguments: Any) -> VersionRow:
        session.info["publishes"] = True
        return publish(session, *arguments)

    monkeypatch.setattr(publishing, "publish", marked)
    monkeypatch.setattr(worker_context.database, "transaction", without_the_answer)
    job_id = submit(worker_context, model, "learn", "0")
    execute(job_id, worker_context)
    assert next(unanswered, None) is None
    row = find_job(worker_context, job_id)
    assert (row.state, row.attempt, row.output_version) == ("succeeded", 1, 1)
    assert [version.job_id for version in versions_of(worker_context, model)] == [job_id]


def test_the_manifest_binds_the_files_to_the_line_of_versions(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    run(worker_context, model, "learn", "1")
    first, second = versions_of(worker_context, model)
    manifest = json.loads(worker_context.artifacts.read(second.files["manifest.json"]["sha256"]))
    assert manifest["parent"] == {"version": 1, "manifest_sha256": first.files["manifest.json"]["sha256"]}
    assert manifest["files"] == {name: file for name, file in second.files.items() if name != "manifest.json"}
    assert manifest["job"]["params"] == schedule(3)
    assert manifest["code"] == CODE
    assert [label["name"] for label in manifest["labels"]] == ["0", "1"]
