"""A job that succeeds makes one version, whose files are the same bytes whenever it is run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.orm import Session

from service.registry import publishing
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.job_specs import ResizeSpec
from service.registry.tables import ModelRow, VersionRow
from tests.instance import schedule
from tests.jobs.worker_contexts import (
    find_job,
    new_model,
    read_checkpoint,
    read_manifest,
    run,
    submit,
    versions_of,
)
from worker.jobs import new_version
from worker.jobs.code_version import CODE
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.jobs.version_files import File, store

AUTO = {**schedule(3), "taylor_examples": 50, "fisher_examples": 50}
"""Params of the resize strategy `auto` that take a second."""


def test_a_job_becomes_a_version_and_names_the_next(worker_context: WorkerContext, model: ModelRow) -> None:
    first, second = (
        submit(worker_context, model, "learn", "0", "1"),
        submit(worker_context, model, "forget", "1"),
    )
    assert execute(second, worker_context) is None  # an earlier job of the model comes first
    assert execute(first, worker_context) == (second, "default")
    assert execute(first, worker_context) is None  # one message more than there are jobs
    assert execute(second, worker_context) is None
    learned, forgot = versions_of(worker_context, model)
    checkpoint = read_checkpoint(worker_context, forgot)
    assert (learned.labels, forgot.labels) == ({"0": 0, "1": 1}, {"0": 0})
    assert (checkpoint.retained, checkpoint.forgotten) == ({"0": 0}, {"1": 1})


@pytest.mark.parametrize("bound", [0.0, 1.0], ids=["published", "rejected"])
def test_a_resize_runs_after_the_job_that_it_follows_or_not_at_all(
    worker_context: WorkerContext, model: ModelRow, bound: float
) -> None:
    resize = ResizeSpec(strategy="auto", params=AUTO, dataset="digits")
    acceptance = {"retained_accuracy_min": bound}
    learning = submit(worker_context, model, "learn", "0", "1", resize=resize, acceptance=acceptance)
    following = execute(learning, worker_context)
    if bound:
        assert (find_job(worker_context, learning).state, following) == ("rejected", None)
        assert versions_of(worker_context, model) == []
        return
    assert following is not None
    assert find_job(worker_context, following.id).follows == learning
    execute(following.id, worker_context)
    assert [version.strategy for version in versions_of(worker_context, model)] == ["replay_ewc", "auto"]


def test_the_same_job_gives_the_same_bytes(worker_context: WorkerContext, database: Database) -> None:
    files = []
    for name in ("one", "other"):
        model = new_model(database, name)
        run(worker_context, model, "learn", "0", "1")
        run(worker_context, model, "resize")
        run(worker_context, model, "learn", "2")
        files.append(
            [{**version.files, "manifest.json": None} for version in versions_of(worker_context, model)]
        )
    assert len(files[0]) == 3
    assert files[0] == files[1]


def test_a_file_deleted_between_being_stored_and_being_published_is_stored_again(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge may delete the same file of another version in between."""

    def store_and_lose(files: Mapping[str, File], artifacts: FolderArtifacts) -> dict[str, dict[str, Any]]:
        stored = store(files, artifacts)
        artifacts.delete(stored["decoder.onnx"]["sha256"])
        return stored

    monkeypatch.setattr(new_version, "store", store_and_lose)
    run(worker_context, model, "learn", "0")
    [version] = versions_of(worker_context, model)
    assert all(worker_context.artifacts.exists(file["sha256"]) for file in version.files.values())


def test_another_seed_gives_other_bytes(worker_context: WorkerContext, database: Database) -> None:
    shas = set()
    for seed in (0, 1):
        model = new_model(database, f"seed-{seed}")
        run(worker_context, model, "learn", "0", seed=seed)
        shas.add(versions_of(worker_context, model)[0].files["checkpoint.safetensors"]["sha256"])
    assert len(shas) == 2


def test_a_commit_without_an_answer_publishes_once(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost during the COMMIT of the publication, which takes place."""
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
    row = run(worker_context, model, "learn", "0")
    assert next(unanswered, None) is None
    assert (row.state, row.attempt, row.output_version) == ("succeeded", 1, 1)
    assert [version.job_id for version in versions_of(worker_context, model)] == [row.id]


def test_a_manifest_binds_the_files_of_a_version_to_those_of_its_parent(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    run(worker_context, model, "learn", "1")
    first, second = versions_of(worker_context, model)
    manifest = read_manifest(worker_context, second)
    assert manifest["parent"] == {"version": 1, "manifest_sha256": first.files["manifest.json"]["sha256"]}
    assert manifest["files"] == {name: file for name, file in second.files.items() if name != "manifest.json"}
    assert manifest["job"]["params"] == schedule(3)
    assert manifest["code"] == CODE
    assert [label["name"] for label in manifest["labels"]] == ["0", "1"]
