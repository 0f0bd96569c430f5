"""What a dataset is, and the decorator that makes one file in this folder a dataset."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Split = dict[str, Tensor]  # label -> images, uint8 [n, pixels], ink is bright
Reader = Callable[[Path], tuple[Split, Split]]  # data folder -> (train, test)


class DatasetUnavailable(Exception):
    """The images cannot be had; the message says where they were looked for and what to do."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a request may know about a dataset before any image is read."""

    name: str
    title: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    bundled: bool  # comes with an installed package: needs neither folder nor network


@dataclass(frozen=True)
class Dataset:
    """Labelled images, split once and for all: reading twice gives the same bytes."""

    name: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    train: Mapping[str, Tensor]  # label -> uint8 [n, pixels]
    test: Mapping[str, Tensor]  # likewise; never shown to a learner

    def sha256(self) -> str:
        """Hex sha256 over every image of both splits, in label order."""
        digest = hashlib.sha256(f"{self.name} {self.image_shape}".encode())
        for split in (self.train, self.test):
            for label in self.labels:
                digest.update(f"{label} {len(split[label])}\n".encode())
                digest.update(split[label].numpy().tobytes())
        return digest.hexdigest()


_readers: dict[str, tuple[DatasetInfo, Reader]] = {}


def dataset(
    name: str, *, title: str, labels: tuple[str, ...], image_shape: tuple[int, int], bundled: bool
) -> Callable[[Reader], Reader]:
    """Register the decorated reader as the dataset `name`."""

    def remember(read: Reader) -> Reader:
        _readers[name] = (DatasetInfo(name, title, labels, image_shape, bundled), read)
        return read

    return remember


def find(name: str) -> tuple[DatasetInfo, Reader]:
    """The registered dataset of that name. Raises DatasetUnavailable, naming those there are."""
    if name not in _readers:
        raise DatasetUnavailable(
            f"there is no dataset {name!r}; choose one of: {', '.join(sorted(_readers))}"
        )
    return _readers[name]


def registered() -> list[DatasetInfo]:
    """Every registered dataset, by name."""
    return [_readers[name][0] for name in sorted(_readers)]


def by_label(images: Tensor, targets: Tensor, labels: tuple[str, ...]) -> Split:
    """Split uint8 images [n, height, width] with targets [n] (an index into labels) by label."""
    return {label: images[targets == index].flatten(1).contiguous() for index, label in enumerate(labels)}


def each_fifth_for_testing(every: Split) -> tuple[Split, Split]:
    """(train, test): of each label, in the order its images have, each fifth is a test image."""
    is_test = {label: torch.arange(len(images)) % 5 == 4 for label, images in every.items()}
    train = {label: images[~is_test[label]] for label, images in every.items()}
    test = {label: images[is_test[label]] for label, images in every.items()}
    return train, test
