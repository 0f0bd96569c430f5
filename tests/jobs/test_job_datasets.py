"""Labels of several datasets in one model, some of them uploaded."""

from dataclasses import replace

import pytest

from service.registry import datasets as uploads
from service.registry.tables import ModelRow
from tests.datasets.idx_files import small, write
from tests.jobs.worker_contexts import (
    judges_folder,
    lines,
    on_sqlite_alone,
    read_checkpoint,
    read_manifest,
    run,
    versions_of,
)
from worker.jobs import measuring
from worker.jobs.classifiers import JUDGES
from worker.jobs.inputs import WorkerContext
from worker.learning.datasets import fashion_mnist, load
from worker.learning.datasets.fashion_mnist import FASHION_MNIST
from worker.learning.judging.training_batches import Training

pytestmark = on_sqlite_alone


def test_one_model_learns_labels_of_two_datasets_under_names_that_the_client_chose(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", small(FASHION_MNIST))
    write(fashion_mnist.FASHION_MNIST, worker_context.data)
    clothes = {"dataset": "fashion_mnist", "renamed": {"shoe": "sneaker", "0": "bag"}}
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "0")
    unpublished = run(worker_context, model, "learn", "shoe", "0", "coat", **clothes)
    run(worker_context, model, "learn", "2", strategy="retrain")  # from every label's images
    first, _, learned, last = versions_of(worker_context, model)
    remark = learned.report["findings"]["dataset_files"]
    assert remark.startswith("these files are not FashionMNIST as published, nor another known collection: ")
    assert f"warning: the dataset fashion_mnist: {remark}" in lines(worker_context, unpublished.id)
    assert "dataset_files" not in first.report["findings"]
    assert learned.report["examples"]["labels"] == {"shoe": 2, "0": 2, "coat": 2}
    assert "too small to train a classifier on" in learned.report["retained"]["labels"]["shoe"]["reason"]
    checkpoint = read_checkpoint(worker_context, last)
    assert {one.name: (one.dataset, one.source) for one in checkpoint.labels} == {
        "0": ("fashion_mnist", "bag"),
        "1": ("digits", "1"),
        "shoe": ("fashion_mnist", "sneaker"),
        "coat": ("fashion_mnist", "coat"),
        "2": ("digits", "2"),
    }
    manifest = read_manifest(worker_context, learned)
    assert manifest["job"]["renamed"] == {"shoe": "sneaker", "0": "bag"}
    assert [one["renamed_from"] for one in manifest["labels"]] == ["bag", None, "sneaker", None]


def test_an_uploaded_dataset_is_learned_and_judged_as_any_other(
    worker_context: WorkerContext, model: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its judge is trained in the first job, and serves the second."""
    monkeypatch.setattr(measuring, "JUDGES", replace(JUDGES, training=Training(steps=40)))
    bundled = load("digits", worker_context.data).train
    images = {"ring": bundled["0"][:100], "bar": bundled["1"][:100]}
    pixels = b"".join(one.numpy().tobytes() for one in images.values())
    with worker_context.database.transaction() as session:
        sha256 = worker_context.artifacts.put(pixels)
        uploads.put(session, "doodles", images=dict.fromkeys(images, 100), sha256=sha256)
    run(worker_context, model, "learn", "ring", "0", dataset="doodles", renamed={"0": "bar"})
    [kept] = judges_folder(worker_context).iterdir()
    trained_at = kept.stat().st_mtime_ns
    run(worker_context, model, "learn", "1")
    first, second = versions_of(worker_context, model)
    assert first.report["examples"]["labels"] == {"ring": 80, "0": 80}, "each fifth image is for testing"
    assert first.report["retained"]["n"] == 2000
    assert sorted(second.report["judge"]) == ["digits", "doodles"]
    assert first.report["judge"]["doodles"] == second.report["judge"]["doodles"]
    assert first.report["judge"]["doodles"]["test_accuracy"] > 0.9
    assert [one.stat().st_mtime_ns for one in judges_folder(worker_context).iterdir()] == [trained_at]
