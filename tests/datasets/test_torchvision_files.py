"""Fashion-MNIST, KMNIST and EMNIST are read from torchvision's files, or an error says what to do."""

from pathlib import Path

import pytest
import torch
import torchvision

from tests.datasets.idx_files import COLLECTIONS, RAMP, idx, small, write
from worker.learning.datasets import DatasetUnavailable, find, load
from worker.learning.datasets.torchvision_files import read

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


@pytest.fixture(params=COLLECTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for collection in COLLECTIONS.values():
        kind = getattr(torchvision.datasets, collection.name)
        monkeypatch.setattr(kind, "mirrors", [NOWHERE])
        monkeypatch.setattr(kind, "url", NOWHERE + "gzip.zip", raising=False)


def test_every_image_has_the_label_its_target_stands_for(name: str, tmp_path: Path) -> None:
    collection = small(COLLECTIONS[name])
    write(collection, tmp_path)
    train, test = read(collection, tmp_path)
    for split, each in ((train, 2), (test, 1)):
        assert tuple(split) == collection.labels
        for position, images in enumerate(split.values(), start=collection.first_target):
            assert images[:, 0].tolist() == [position] * each


def test_images_stand_upright(name: str, tmp_path: Path) -> None:
    collection = small(COLLECTIONS[name])
    write(collection, tmp_path)
    image = read(collection, tmp_path)[0][collection.labels[0]][0].view(28, 28)
    stored_transposed = name.startswith("emnist")
    assert torch.equal(image.flatten()[1:], (RAMP.T if stored_transposed else RAMP).flatten()[1:])


def test_the_whole_collection_is_read_by_its_name(name: str, tmp_path: Path) -> None:
    write(COLLECTIONS[name], tmp_path)
    data = load(name, tmp_path)
    sizes = [sum(len(images) for images in split.values()) for split in (data.train, data.test)]
    assert sizes == [COLLECTIONS[name].train, COLLECTIONS[name].test]


def test_labels_are_torchvisions_classes_in_their_order(name: str) -> None:
    collection = COLLECTIONS[name]
    kind = getattr(torchvision.datasets, collection.name)
    classes = kind.classes_split_dict[collection.split] if collection.split else kind.classes
    theirs = [one.lower().removesuffix("/top") if name == "fashion_mnist" else one for one in classes]
    assert list(find(name)[0].labels) == theirs[collection.first_target :]


def test_half_a_collection_is_refused(name: str, tmp_path: Path) -> None:
    write(small(COLLECTIONS[name]), tmp_path)
    with pytest.raises(DatasetUnavailable, match=f"expected {COLLECTIONS[name].train} images"):
        load(name, tmp_path)


@pytest.mark.usefixtures("offline")
def test_missing_files_are_named_with_the_folder_they_belong_in(name: str, tmp_path: Path) -> None:
    collection = COLLECTIONS[name]
    with pytest.raises(DatasetUnavailable) as refused:
        load(name, tmp_path)
    files = f"emnist-{collection.split}-train-images-idx3-ubyte" if collection.split else "t10k-images-idx3"
    for hint in (str(tmp_path / collection.name / "raw"), "PALIMPSEST_DATA", files, "'digits'"):
        assert hint in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused_with_a_remedy(name: str, tmp_path: Path) -> None:
    collection = small(COLLECTIONS[name])
    write(collection, tmp_path)
    for file in (tmp_path / collection.name / "raw").glob("*labels*"):
        file.write_bytes(idx(torch.zeros(3, dtype=torch.uint8)))
    with pytest.raises(DatasetUnavailable, match="Delete that folder"):
        read(collection, tmp_path)
