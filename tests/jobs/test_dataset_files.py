"""The files of a dataset come from the bucket to a worker that lacks them."""

from pathlib import Path

import pytest

from service.registry.opening import open_artifacts
from service.settings import Settings
from tests.datasets.idx_files import COLLECTIONS, small, write
from worker.jobs import dataset_files
from worker.learning.datasets.torchvision_files import read


def test_missing_files_are_copied_and_those_that_are_there_stay(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_artifacts(Settings(home=tmp_path, artifacts_url=bucket_url)).store
    collection, there, here = small(COLLECTIONS["kmnist"]), tmp_path / "there", tmp_path / "here"
    write(collection, there)
    for path in there.rglob("*-ubyte"):
        store.write(f"datasets/{path.relative_to(there)}", path.read_bytes())
    store.write("datasets/MNIST/raw/train-images-idx3-ubyte", b"of another dataset")
    dataset_files.fetch(store, here, collection.name)
    assert [path.name for path in here.iterdir()] == [collection.name]
    found, expected = read(collection, here), read(collection, there)
    assert all(
        (found[split][label] == expected[split][label]).all() for split in (0, 1) for label in found[0]
    )
    monkeypatch.setattr(store, "read", lambda *_: pytest.fail("it was copied again"))
    dataset_files.fetch(store, here, collection.name)
