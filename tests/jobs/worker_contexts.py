"""Short ways to make models and to submit and run jobs in the process of the test."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.registry import job_events, jobs, models, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.classifier_files import ClassifierFolder
from service.registry.database import Database
from service.registry.labels import projected_statuses
from service.registry.tables import JobEventRow, JobRow, ModelRow, Operation, VersionRow
from tests.instance import TINY_NETWORK, schedule, wait_for
from tests.job_specs import job_spec
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.learning.checkpoint import Checkpoint

on_sqlite_alone = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Marks tests of what jobs compute, which does not depend on the database. The tests of the registry, and
test_main_job.py, run on both."""

STRATEGIES = {"learn": "replay_ewc", "forget": "surrogate", "resize": "expand", "evaluate": "full"}
"""Of a job that names none."""

TEMPORARY: dict[str, Any] = {"strategy": "isolated", "retention": "temporary", "params": schedule(3)}
"""Of the spec of a job that learns labels for a while."""

BRIEF_EVALUATION: dict[str, Any] = {
    "seeds": 3,
    "reference": {"steps": 3, "batch_size": 16},
    "draws": 100,
    "attacks": 64,
    "attack_steps": 20,
    "relearning": {"steps": 8, "batch_size": 16},
    "capacity_examples": 50,
}
"""Params of an evaluate job that takes a second or two."""


def new_model(database: Database, name: str, **fields: Any) -> ModelRow:
    """Create a model with a tiny network."""
    with database.transaction() as session:
        return models.create(session, name=name, dataset="digits", network=TINY_NETWORK, seed=3, **fields)


def submit(
    worker_context: WorkerContext, model: ModelRow, operation: Operation, *labels: str, **fields: Any
) -> str:
    """Queue a job of three training steps, or as `fields` of its spec say; returns its id."""
    params = {"resize": {"fisher_examples": 50}, "evaluate": BRIEF_EVALUATION}.get(operation, schedule(3))
    if operation == "forget" and "strategy" not in fields:
        params |= {"naive_steps": 3}
    max_attempts = fields.pop("max_attempts", 3)
    spec = job_spec(operation, *labels, **({"strategy": STRATEGIES[operation], "params": params} | fields))
    with worker_context.database.transaction() as session:
        model = jobs.lock_model(session, model)
        statuses = projected_statuses(session, model)
        return jobs.submit(session, model, spec, statuses, max_attempts=max_attempts).job.id


def run(
    worker_context: WorkerContext, model: ModelRow, operation: Operation, *labels: str, **fields: Any
) -> JobRow:
    """Submit a job and run it to its end; returns its row."""
    job_id = submit(worker_context, model, operation, *labels, **fields)
    execute(job_id, worker_context)
    return find_job(worker_context, job_id)


def find_job(worker_context: WorkerContext, job_id: str) -> JobRow:
    with worker_context.database.reading() as session:
        return jobs.find(session, job_id)


def error_code(worker_context: WorkerContext, job_id: str) -> str:
    """Return the code of the error that the job failed with."""
    error = find_job(worker_context, job_id).error
    assert error is not None, "the job did not fail"
    return str(error["code"])


def versions_of(worker_context: WorkerContext, model: ModelRow) -> list[VersionRow]:
    """Return every version of the model, oldest first."""
    with worker_context.database.reading() as session:
        return versions.page(session, model, limit=100).rows[::-1]


def events(worker_context: WorkerContext, job_id: str) -> list[JobEventRow]:
    """Return every event of the job, in order."""
    with worker_context.database.reading() as session:
        return job_events.page(session, job_id, limit=1000).rows


def lines(worker_context: WorkerContext, job_id: str) -> list[str]:
    """Return what the job told its client."""
    return [row.data["message"] for row in events(worker_context, job_id) if row.type == "log"]


def read_file(worker_context: WorkerContext, version: VersionRow, name: str) -> bytes:
    """Return the bytes of a file of the version."""
    return worker_context.artifacts.read(version.files[name]["sha256"])


def read_checkpoint(
    worker_context: WorkerContext, version: VersionRow, name: str = "checkpoint.safetensors"
) -> Checkpoint:
    return Checkpoint.from_bytes(read_file(worker_context, version, name))


def read_manifest(worker_context: WorkerContext, version: VersionRow) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(read_file(worker_context, version, "manifest.json"))
    return manifest


def judges_folder(worker_context: WorkerContext) -> Path:
    """Return the folder of the classifiers that were trained."""
    assert isinstance(worker_context.judges, ClassifierFolder)
    return worker_context.judges.folder


def folder_artifacts(worker_context: WorkerContext) -> FolderArtifacts:
    """Return the artifacts of the context, which lie in a folder."""
    assert isinstance(worker_context.artifacts, FolderArtifacts)
    return worker_context.artifacts


@contextmanager
def executing(
    worker_context: WorkerContext, job_id: str, until: Callable[[JobRow], object] = lambda job: job.progress
) -> Iterator[None]:
    """Run the job in a thread; the block begins once `until` is true, and ends with the job."""
    thread = Thread(target=execute, args=(job_id, worker_context))
    thread.start()
    try:
        wait_for(
            f"job {job_id} has come as far as the test needs", lambda: until(find_job(worker_context, job_id))
        )
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()
