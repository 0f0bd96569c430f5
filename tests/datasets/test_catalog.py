"""Every file of the folder is a dataset, and obeys the dataset laws."""

from pathlib import Path

import pytest
import torch

from tests.datasets.idx_files import COLLECTIONS, write
from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import DatasetUnavailable, catalog, load


def test_the_catalog_names_every_dataset_without_reading_an_image() -> None:
    assert [(info.name, info.bundled) for info in catalog()] == [
        ("digits", True),
        ("emnist", False),
        ("emnist_letters", False),
        ("fashion_mnist", False),
        ("kmnist", False),
        ("mnist", False),
    ]


def test_a_dataset_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        DatasetUnavailable, match=r"no dataset 'cifar'; choose one of: digits, emnist, .*, mnist"
    ):
        load("cifar", Path())


@pytest.mark.parametrize("info", catalog(), ids=lambda info: info.name)
def test_every_dataset_is_what_its_catalog_entry_says(info, tmp_path: Path) -> None:
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
