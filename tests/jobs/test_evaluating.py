"""What the worker measures: full reports, reports of rejected candidates, pictures and costs."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reports import FullReport
from service.drawing.decoders import noise
from service.registry import jobs, reports
from service.registry.artifacts import Content, FileContent, FolderArtifacts
from service.registry.tables import JobRow, ModelRow
from service.registry.version_files import forgotten_file
from service.reporting import page as report_page
from tests.jobs.worker_contexts import (
    BRIEF_EVALUATION,
    TEMPORARY,
    error_code,
    executing,
    find_job,
    folder_artifacts,
    new_model,
    on_sqlite_alone,
    read_checkpoint,
    read_file,
    read_manifest,
    run,
    submit,
    versions_of,
)
from worker.jobs import measuring
from worker.jobs.classifiers import FEATURE_NETWORKS
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.learning import drawing
from worker.learning.datasets import Dataset
from worker.learning.judging.feature_network import train_feature_network
from worker.learning.judging.quality_gate import QualityGate
from worker.learning.judging.training_batches import Training
from worker.learning.networks import frozen
from worker.learning.strategy import TrainingContext

pytestmark = on_sqlite_alone

QUICK = replace(FEATURE_NETWORKS, training=Training(steps=3), gate=QualityGate(test_accuracy=0.0))
"""The digits have no committed feature network; one trained for three steps is good enough here."""


@pytest.fixture(autouse=True)
def _quick_feature_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FEATURE_NETWORKS", QUICK)


def evidence(worker_context: WorkerContext, row: JobRow) -> reports.StoredReport:
    """Return the report that the job left."""
    with worker_context.database.reading() as session:
        return reports.find_for_job(session, row)


def learn_two_forget_one(worker_context: WorkerContext, model: ModelRow) -> None:
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")


def test_a_full_report_is_bound_to_its_version_and_its_bytes_are_kept(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    learn_two_forget_one(worker_context, model)
    row = run(worker_context, model, "evaluate")
    assert (row.state, row.evaluated_version, row.error) == ("succeeded", 2, None)
    _, version = versions_of(worker_context, model)
    found = evidence(worker_context, row)
    report = found.report
    assert isinstance(report, FullReport)
    assert report.level == found.level == "full"
    assert report.reference.seeds == 3, "the references that it was measured beside"
    assert report.evaluated is not None
    assert report.evaluated.version == 2
    assert report.evaluated.manifest_sha256 == version.files["manifest.json"]["sha256"]
    assert set(version.report) < set(found.document), "a full report has all that a quick one has"
    assert json.loads(worker_context.artifacts.read(found.sha256)) == found.document
    assert row.cost is not None
    assert row.cost["seconds"] > 0
    assert "seconds" not in found.document


def test_evaluating_again_gives_the_same_bytes_and_changes_no_version(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    learn_two_forget_one(worker_context, model)
    before = [(version.files, version.report) for version in versions_of(worker_context, model)]
    shas = []
    for _ in range(2):
        shas.append(evidence(worker_context, run(worker_context, model, "evaluate")).sha256)
    assert shas[0] == shas[1]
    assert [(version.files, version.report) for version in versions_of(worker_context, model)] == before


def test_a_feature_network_is_trained_for_the_first_full_report_and_kept(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[str] = []

    def counted(dataset: Dataset, training: Training, context: TrainingContext) -> dict[str, bytes]:
        trainings.append(dataset.name)
        return train_feature_network(dataset, training, context)

    monkeypatch.setattr(measuring, "FEATURE_NETWORKS", replace(QUICK, train=counted))
    learn_two_forget_one(worker_context, model)
    run(worker_context, model, "evaluate")
    assert trainings == ["digits"]
    run(worker_context, model, "learn", "2")
    report = evidence(worker_context, run(worker_context, model, "evaluate")).report
    assert isinstance(report, FullReport)
    assert report.quality["digits"].coverage.value is not None
    assert trainings == ["digits"], "it serves every version and model of its dataset"


def test_an_earlier_version_can_be_evaluated_while_the_model_learns_more(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    evaluating = submit(worker_context, model, "evaluate", evaluated_version=1)
    run(worker_context, model, "learn", "1")
    assert len(versions_of(worker_context, model)) == 2, "it did not wait for the evaluation"
    execute(evaluating, worker_context)
    report = evidence(worker_context, find_job(worker_context, evaluating)).report
    assert sorted(report.retained.labels) == ["0"]


def test_a_version_revoked_before_its_evaluation_is_not_measured(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0", "1")
    evaluating = submit(worker_context, model, "evaluate")
    run(worker_context, model, "forget", "1")
    execute(evaluating, worker_context)
    assert error_code(worker_context, evaluating) == "version_revoked"


def test_a_version_revoked_while_it_is_measured_gets_no_report(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label is forgotten after the report was stored: the last transaction notices."""
    run(worker_context, model, "learn", "0", "1")
    evaluating, forgetting = (
        submit(worker_context, model, "evaluate"),
        submit(worker_context, model, "forget", "1"),
    )
    put = FolderArtifacts.put

    def put_then_forget(artifacts: FolderArtifacts, data: bytes | Content) -> str:
        monkeypatch.undo()
        execute(forgetting, worker_context)
        return put(artifacts, data)

    monkeypatch.setattr(FolderArtifacts, "put", put_then_forget)
    execute(evaluating, worker_context)
    row = find_job(worker_context, evaluating)
    assert len(versions_of(worker_context, model)) == 2
    assert (row.state, (row.error or {})["code"]) == ("failed", "version_revoked")


def test_a_cancel_stops_an_evaluation(worker_context: WorkerContext, model: ModelRow) -> None:
    learn_two_forget_one(worker_context, model)
    endless = {**BRIEF_EVALUATION, "reference": {"steps": 100_000, "batch_size": 16}}
    evaluating = submit(worker_context, model, "evaluate", params=endless)
    with executing(worker_context, evaluating), worker_context.database.transaction() as session:
        jobs.cancel(session, evaluating)
    assert find_job(worker_context, evaluating).state == "cancelled"


def test_every_version_after_a_forget_has_a_picture_of_what_it_still_draws_for_the_label(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    learn_two_forget_one(worker_context, model)
    run(worker_context, model, "resize")
    first, *later = versions_of(worker_context, model)
    name = forgotten_file("1")
    assert name not in first.files
    for version in later:
        data = read_file(worker_context, version, name)
        assert version.files[name] == {"sha256": version.files[name]["sha256"], "bytes": len(data)} | {
            "media_type": "image/png"
        }
        assert len(data) < 20_000
        manifest = read_manifest(worker_context, version)
        assert manifest["files"][name] == version.files[name]
        checkpoint = read_checkpoint(worker_context, version)
        drawn = drawing.draw(checkpoint, "1", 16, 0).mul(255).round().reshape(16, 28, 28).numpy()
        picture = np.asarray(Image.open(io.BytesIO(data)))
        assert picture.shape == (56, 224)
        assert np.array_equal(picture[28:, 28:56], drawn[9])


def test_a_version_that_forgot_has_pictures_of_what_its_parent_drew_for_the_other_labels(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """They have the pixels of the API; nobody may draw from the parent any more."""
    learn_two_forget_one(worker_context, model)
    before, after = versions_of(worker_context, model)
    assert [name for name in sorted(after.files) if name.startswith("before-")] == [
        "before-0.png",
        "before-1.png",
    ]
    picture = np.asarray(Image.open(io.BytesIO(read_file(worker_context, after, "before-0.png"))))
    assert picture.shape == (28, 224)
    checkpoint = read_checkpoint(worker_context, before)
    network, slot = frozen(checkpoint, torch.device("cpu")), torch.tensor([checkpoint.retained["0"]])
    own = torch.tensor(noise("0", 3, network.noise_size))[None]
    with torch.no_grad():
        image = network.decode(network.sample_prior(own, slot), slot).sigmoid().mul(255).reshape(28, 28)
    assert np.abs(picture[:, 84:112] - image.numpy()).max() <= 1


def test_a_version_that_forgot_has_a_picture_of_what_its_parent_drew_for_the_label(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Of the same noise as the picture of what is drawn for the label now, so that they can be compared."""
    learn_two_forget_one(worker_context, model)
    before, after = versions_of(worker_context, model)
    checkpoint = read_checkpoint(worker_context, before)
    drawn = drawing.draw(checkpoint, "1", 16, 0).mul(255).round().reshape(16, 28, 28).numpy()
    picture = np.asarray(Image.open(io.BytesIO(read_file(worker_context, after, "before-1.png"))))
    assert picture.shape == (56, 224)
    assert np.array_equal(picture[28:, 28:56], drawn[9])


def test_a_version_without_weights_that_saw_the_label_has_no_pictures_of_its_parents(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """After exact forgetting, and after a temporary label was dropped."""
    run(worker_context, model, "learn", "0")
    run(worker_context, model, "learn", "1")
    run(worker_context, model, "forget", "1", strategy="retrain")
    run(worker_context, model, "learn", "1", **TEMPORARY)
    run(worker_context, model, "forget", "1", strategy="drop", params={})
    versions = versions_of(worker_context, model)
    assert len(versions) == 5
    assert not [name for version in versions for name in version.files if name.startswith("before-")]


def test_a_rejected_candidate_leaves_its_report_and_no_version(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    row = run(worker_context, model, "learn", "1", acceptance={"worst_retained_accuracy_min": 1.0})
    assert (row.state, row.output_version) == ("rejected", None)
    assert row.error is not None
    assert {one["label"] for one in row.error["reasons"]} <= {"0", "1"}
    found = evidence(worker_context, row)
    measured = {one.label: one.value for one in found.report.criteria}
    assert set(measured) == {"0", "1"}
    assert all(one["value"] == measured[one["label"]] for one in row.error["reasons"])
    assert json.loads(worker_context.artifacts.read(found.sha256)) == found.document
    assert row.cost is not None
    assert len(versions_of(worker_context, model)) == 1


def test_a_version_without_labels_is_evaluated(worker_context: WorkerContext, model: ModelRow) -> None:
    """Everything was forgotten. What is left of it is measured; for the rest the report gives the reason."""
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "0", "1")
    parent, version = versions_of(worker_context, model)
    assert version.labels == {}
    row = run(worker_context, model, "evaluate")
    assert (row.state, row.error) == ("succeeded", None)
    stored = evidence(worker_context, row)
    report = stored.report
    assert isinstance(report, FullReport)
    assert {name: figure.n for name, figure in report.forgotten.labels.items()} == {"0": 100, "1": 100}
    assert report.retained.reason == "there is no such label"
    assert report.reference.reason == "the version holds no label, so there is nothing to retrain on"
    forget = find_job(worker_context, version.job_id)
    page = report_page.render(report_page.Subject(model, version, parent, forget, False, stored, [], {}))
    assert "nothing to retrain on" in page


class DeletedOnce(FolderArtifacts):
    """Artifacts of which the first one is deleted as soon as it is stored, as a purge of its bytes does."""

    deleted = ""

    def put(self, data: bytes | Content | FileContent) -> str:
        name = super().put(data)
        if not self.deleted:
            self.deleted = name
            self.delete(name)
        return name


def test_a_report_deleted_before_a_row_refers_to_it_is_stored_again(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    artifacts = DeletedOnce(folder_artifacts(worker_context).folder)
    context = replace(worker_context, artifacts=artifacts)
    row = run(context, model, "learn", "0", acceptance={"worst_retained_accuracy_min": 1.0})
    assert row.state == "rejected"
    found = evidence(context, row)
    assert found.sha256 == artifacts.deleted
    assert json.loads(artifacts.read(found.sha256)) == found.document


def test_a_later_job_with_a_relapse_above_the_bound_of_the_forget_is_rejected(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """The bound is lowered below any accuracy here: how often a tiny network relapses is not certain."""
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1", acceptance={"forgotten_accuracy_max": 1.0})
    resizing = submit(worker_context, model, "resize")
    row = find_job(worker_context, resizing)
    assert row.acceptance == {"relapse_accuracy_max": {"1": 1.0}}
    with worker_context.database.transaction() as session:
        session.get_one(JobRow, row.sequence).acceptance = {"relapse_accuracy_max": {"1": -1.0}}
    execute(resizing, worker_context)
    row = find_job(worker_context, resizing)
    assert row.state == "rejected"
    [reason] = (row.error or {})["reasons"]
    assert (reason["criterion"], reason["label"]) == ("relapse_accuracy_max", "1")


def test_a_cost_counts_the_real_images_of_the_report_and_every_second_once(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    cost = run(worker_context, model, "learn", "0").cost
    [version] = versions_of(worker_context, model)
    assert cost is not None
    assert cost["examples"] == version.report["examples"]["labels"]["0"] > 0
    assert {"judging"} < set(cost["phases"])
    assert sum(cost["phases"].values()) == pytest.approx(cost["seconds"], abs=0.01)


def test_the_criteria_of_a_model_hold_for_jobs_that_have_none_of_their_own(
    worker_context: WorkerContext,
) -> None:
    model = new_model(worker_context.database, "strict", acceptance={"retained_accuracy_min": 1.0})
    assert run(worker_context, model, "learn", "0").state == "rejected"
    lenient = {"acceptance": {"retained_accuracy_min": 0.0}}
    assert run(worker_context, model, "learn", "0", **lenient).state == "succeeded"
