"""Jobs of models that learned from images which were deleted since: measured without them, or refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reports import FullReport
from service.process import sweeper
from service.registry import dataset_deletions, reports
from service.registry import datasets as uploads
from service.registry.artifacts import FolderArtifacts
from service.registry.tables import DEFAULT_PROJECT, DatasetRow, ModelRow
from service.settings import Settings
from tests.jobs.worker_contexts import (
    find_job,
    folder_artifacts,
    judges_folder,
    on_sqlite_alone,
    run,
    submit,
    versions_of,
)
from worker.jobs import measuring
from worker.jobs.classifiers import FEATURE_NETWORKS, JUDGES
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.learning.datasets import load
from worker.learning.judging.training_batches import Training

pytestmark = on_sqlite_alone

LABELS = ("ring", "bar", "line")


@pytest.fixture
def deployment(worker_context: WorkerContext, tmp_path: Path) -> Settings:
    """The deployment of the worker, which its sweeper runs with."""
    url = worker_context.database.engine.url.render_as_string(hide_password=False)
    return Settings(home=tmp_path, database_url=url)


@pytest.fixture
def learned(worker_context: WorkerContext, model: ModelRow) -> ModelRow:
    """A model that learned three labels of an upload which is too small for a judge."""
    return learn(worker_context, model, each=20)


@pytest.fixture
def judged(worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch) -> ModelRow:
    """A model that learned three labels of an upload whose judge was trained."""
    monkeypatch.setattr(measuring, "JUDGES", replace(JUDGES, training=Training(steps=40)))
    monkeypatch.setattr(measuring, "FEATURE_NETWORKS", replace(FEATURE_NETWORKS, training=Training(steps=10)))
    return learn(worker_context, model, each=100)


def learn(worker_context: WorkerContext, model: ModelRow, *, each: int) -> ModelRow:
    bundled = load("digits", worker_context.data).train
    images = {label: bundled[str(index)][:each] for index, label in enumerate(LABELS)}
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(b"".join(one.numpy().tobytes() for one in images.values()))
        uploads.put(session, "doodles", images=dict.fromkeys(images, each), sha256=sha256)
    run(worker_context, model, "learn", *LABELS, dataset="doodles")
    return model


def delete(worker_context: WorkerContext, label: str) -> None:
    with worker_context.database.transaction() as session:
        dataset_deletions.delete_label(session, "doodles", label, project=DEFAULT_PROJECT)


def judged_labels(judges: Path) -> list[str]:
    """Return the labels that the trained classifiers know."""
    return [label for path in judges.glob("*/*.json") for label in json.loads(path.read_text())["labels"]]


def forgotten_figure(worker_context: WorkerContext, model: ModelRow, label: str) -> dict[str, Any]:
    return dict(versions_of(worker_context, model)[-1].report["forgotten"]["labels"][label])


def test_a_model_goes_on_after_the_images_of_a_forgotten_label_are_deleted(
    worker_context: WorkerContext, judged: ModelRow, deployment: Settings
) -> None:
    """Its bound for the label cannot be measured any more, and rejects nothing."""
    bound = {"forgotten_accuracy_max": 1.0}
    run(worker_context, judged, "forget", "ring", erase_images=True, acceptance=bound)
    assert forgotten_figure(worker_context, judged, "ring")["value"] is not None
    assert "ring" in judged_labels(judges_folder(worker_context))
    sweeper.sweep(worker_context.database, deployment)
    assert list(judges_folder(worker_context).glob("*/*")) == [], "the judge was trained on these images"
    job = run(worker_context, judged, "resize", acceptance=bound)
    assert (job.state, job.acceptance["relapse_accuracy_max"]) == ("succeeded", {"ring": 1.0})
    figure = forgotten_figure(worker_context, judged, "ring")
    assert figure["value"] is None
    assert "has no images of 'ring'" in figure["reason"]
    assert versions_of(worker_context, judged)[-1].report["retained"]["value"] is not None
    assert sorted(judged_labels(judges_folder(worker_context))) == ["bar", "line"]


def test_a_forget_whose_own_label_cannot_be_measured_is_rejected(
    worker_context: WorkerContext, judged: ModelRow
) -> None:
    delete(worker_context, "ring")
    job = run(worker_context, judged, "forget", "ring", acceptance={"forgotten_accuracy_max": 0.5})
    assert job.state == "rejected"
    assert job.error is not None
    assert "could not be measured" in job.error["message"]
    assert run(worker_context, judged, "forget", "ring").state == "succeeded"


def test_what_needs_deleted_images_fails_with_the_reason(
    worker_context: WorkerContext, learned: ModelRow
) -> None:
    delete(worker_context, "ring")
    job = run(worker_context, learned, "forget", "bar", strategy="retrain")  # learns ring again, from images
    assert (job.state, job.error and job.error["code"]) == ("failed", "source_unavailable")
    assert job.error is not None
    assert "no images of 'ring'" in job.error["message"]
    with worker_context.database.transaction() as session:
        dataset_deletions.delete_dataset(session, "doodles", project=DEFAULT_PROJECT)
    job = run(worker_context, learned, "forget", "bar", strategy="retrain")
    assert job.error is not None
    assert "'doodles' was deleted" in job.error["message"]


def test_a_full_report_has_reasons_for_what_needs_deleted_images(
    worker_context: WorkerContext, judged: ModelRow, deployment: Settings
) -> None:
    run(worker_context, judged, "forget", "ring", erase_images=True)
    sweeper.sweep(worker_context.database, deployment)
    job = run(worker_context, judged, "evaluate")
    assert job.state == "succeeded", job.error
    with worker_context.database.reading() as session:
        report = reports.find_for_job(session, job).report
    assert isinstance(report, FullReport)
    assert report.reference.seeds == 3, "the images of the retained labels are there"
    audited = report.forgetting.labels["ring"]
    assert audited.accuracy.value is None
    assert "has no images of 'ring'" in (report.forgotten.labels["ring"].reason or "")
    assert report.retained.value is not None


def test_the_split_of_an_upload_is_kept_although_images_of_another_label_were_deleted(
    worker_context: WorkerContext, model: ModelRow, deployment: Settings
) -> None:
    bundled = load("digits", worker_context.data).train
    images = {label: bundled[str(index)][:20] for index, label in enumerate(LABELS)}
    facts = uploads.UploadFacts(held_out={"ring": 3, "bar": 7})
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(b"".join(one.numpy().tobytes() for one in images.values()))
        uploads.put(session, "doodles", images=dict.fromkeys(images, 20), sha256=sha256, facts=facts)
    delete(worker_context, "ring")
    sweeper.sweep(worker_context.database, deployment)
    run(worker_context, model, "learn", "bar", "line", dataset="doodles")
    with worker_context.database.reading() as session:
        row = session.get_one(DatasetRow, (DEFAULT_PROJECT, "doodles"))
    assert (row.held_out, row.sha256 != sha256) == ({"bar": 7}, True)
    [version] = versions_of(worker_context, model)
    assert version.report["examples"]["labels"] == {"bar": 13, "line": 16}, "of line, each fifth is held out"


class SlowArtifacts(FolderArtifacts):
    """Artifacts of which the first ones are read only after something else has happened."""

    def __init__(self, folder: Path, meanwhile: list[Callable[[], None]]) -> None:
        super().__init__(folder)
        self.meanwhile = meanwhile

    def read(self, sha256: str) -> bytes:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().read(sha256)


def test_a_job_reads_the_other_images_although_their_file_is_replaced_in_that_moment(
    worker_context: WorkerContext, learned: ModelRow, deployment: Settings
) -> None:
    delete(worker_context, "ring")
    job_id = submit(worker_context, learned, "learn", "y", dataset="doodles", renamed={"y": "bar"})
    sweep = partial(sweeper.sweep, worker_context.database, deployment)
    artifacts = SlowArtifacts(folder_artifacts(worker_context).folder, [sweep, lambda: None])
    execute(job_id, replace(worker_context, artifacts=artifacts))
    assert not artifacts.meanwhile
    job = find_job(worker_context, job_id)
    assert job.state == "succeeded", job.error


def test_uploaded_images_are_in_the_memory_of_no_worker_once_its_job_has_ended(
    worker_context: WorkerContext, learned: ModelRow
) -> None:
    with worker_context.database.reading() as session:
        row = session.get_one(DatasetRow, (DEFAULT_PROJECT, "doodles"))
    folder_artifacts(worker_context).path(row.sha256).write_bytes(b"damaged")
    job = run(worker_context, learned, "learn", "y", dataset="doodles", renamed={"y": "bar"})
    assert job.error is not None
    assert job.error["code"] == "artifact_corrupt"
