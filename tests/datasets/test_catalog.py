"""Every module of worker/learning/datasets is a dataset, and is what its catalog entry says."""

from pathlib import Path

import pytest
import torch

from tests.datasets.idx_files import COLLECTIONS, write
from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import DatasetUnavailable, catalog, load
from worker.learning.datasets.dataset import DatasetInfo


def test_the_catalog_names_every_dataset_without_reading_an_image() -> None:
    assert [(info.name, info.bundled) for info in catalog()] == [
        ("digits", True),
        ("emnist", False),
        ("emnist_letters", False),
        ("fashion_mnist", False),
        ("kmnist", False),
        ("mnist", False),
    ]


def test_an_unknown_dataset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        DatasetUnavailable, match=r"no dataset 'cifar'; choose one of: digits, emnist, .*, mnist"
    ):
        load("cifar", Path())


@pytest.mark.parametrize("info", catalog(), ids=lambda info: info.name)
def test_every_dataset_is_what_its_catalog_entry_says(info: DatasetInfo, tmp_path: Path) -> None:
    if info.name in COLLECTIONS:
        write(COLLECTIONS[info.name], tmp_path)
    data = real_mnist() if info.name == "mnist" else load(info.name, tmp_path)
    pixels = info.image_shape[0] * info.image_shape[1]
    assert (data.name, data.labels, data.image_shape) == (info.name, info.labels, info.image_shape)
    for split in (data.train, data.test):
        assert tuple(split) == info.labels
        for images in split.values():
            assert images.dtype == torch.uint8
            assert images.shape[1] == pixels
            assert images.is_contiguous()
            assert len(images) > 0
