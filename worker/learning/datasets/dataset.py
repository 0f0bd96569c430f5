"""The types of a dataset, the decorator that registers a reader, and helpers that readers share."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worker.learning.package import NameTaken, Package

Split = dict[str, Tensor]  # label -> images, uint8 [n, pixels], bright ink on a dark ground
Reader = Callable[[Path], tuple[Split, Split]]  # data folder -> (train, test)
Remark = Callable[[Path], str | None]
"""Data folder -> what a person should know of the files that were read, without a path; None for nothing."""


class DatasetUnavailable(Exception):
    """The images cannot be read; the message says where they were expected and what to do."""


class WrongFiles(DatasetUnavailable):
    """There are files of the dataset, but damaged, of another dataset, or not readable for this process."""


@dataclass(frozen=True)
class TrainFiles:
    """Where the train images of a downloaded dataset lie in the data folder, for who shows them."""

    images: str
    targets: str
    first_target: int
    transposed: bool


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a dataset, which is known without reading any image."""

    name: str
    title: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    bundled: bool  # part of an installed package, so it needs neither a folder nor a download
    files: TrainFiles | None = None
    remark: Remark | None = None
    package: Package | None = None  # the package that brings it; None if it is built in


@dataclass(frozen=True)
class Dataset:
    """Labelled images in a fixed split: reading a dataset twice gives the same bytes."""

    name: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    train: Mapping[str, Tensor]  # label -> uint8 [n, pixels]
    test: Mapping[str, Tensor]  # label -> uint8 [n, pixels]; only to evaluate, never to learn from
    remark: str | None = None  # what a person should know of the files

    def images(self, split: Literal["train", "test"], label: str) -> Tensor:
        """Return the images of a label in that split. Raises DatasetUnavailable if the label has none."""
        images = (self.train if split == "train" else self.test).get(label)
        if images is None or not len(images):
            raise DatasetUnavailable(
                f"the dataset {self.name!r} has no images of {label!r}, or has them no longer"
            )
        return images

    def only(self, labels: Collection[str]) -> "Dataset":
        """Return the dataset with these of its labels, in their order."""
        return replace(
            self,
            labels=tuple(label for label in self.labels if label in labels),
            train={label: images for label, images in self.train.items() if label in labels},
            test={label: images for label, images in self.test.items() if label in labels},
        )

    def sha256(self) -> str:
        """Hash every image of both splits, in label order; returns a hex SHA-256."""
        digest = hashlib.sha256(f"{self.name} {self.image_shape}".encode())
        for split in (self.train, self.test):
            for label in self.labels:
                digest.update(f"{label} {len(split[label])}\n".encode())
                digest.update(split[label].numpy().tobytes())
        return digest.hexdigest()


_declared: dict[Reader, DatasetInfo] = {}
_readers: dict[str, tuple[DatasetInfo, Reader]] = {}


def dataset(
    name: str,
    *,
    title: str,
    labels: tuple[str, ...],
    image_shape: tuple[int, int],
    bundled: bool,
    files: TrainFiles | None = None,
    remark: Remark | None = None,
) -> Callable[[Reader], Reader]:
    """Declare the decorated function as the reader of the dataset `name`."""

    def declare(read: Reader) -> Reader:
        _declared[read] = DatasetInfo(name, title, labels, image_shape, bundled, files, remark)
        return read

    return declare


def declared() -> dict[Reader, DatasetInfo]:
    """Return every reader that was decorated, with what it declares."""
    return dict(_declared)


def add(info: DatasetInfo, read: Reader) -> None:
    """Add a dataset. Raises NameTaken."""
    if info.name in _readers:
        taken = _readers[info.name][0].package
        by = "is built in" if taken is None else f"comes from the package {taken.name}"
        raise NameTaken(f"another dataset called {info.name!r} {by}")
    _readers[info.name] = info, read


def find(name: str) -> tuple[DatasetInfo, Reader]:
    """Return a registered dataset and its reader. Raises DatasetUnavailable, which lists all names."""
    if name not in _readers:
        raise DatasetUnavailable(
            f"there is no dataset {name!r}; choose one of: {', '.join(sorted(_readers))}"
        )
    return _readers[name]


def registered() -> list[DatasetInfo]:
    """List every registered dataset, by name."""
    return [_readers[name][0] for name in sorted(_readers)]


def by_label(images: Tensor, targets: Tensor, labels: tuple[str, ...]) -> Split:
    """Sort uint8 images [n, height, width] by label. targets: [n], indices in `labels`."""
    return {label: images[targets == index].flatten(1).contiguous() for index, label in enumerate(labels)}


def split_every_fifth(every: Split) -> tuple[Split, Split]:
    """Split into (train, test): every fifth image of each label, in the given order, is a test image."""
    is_test = {label: torch.arange(len(images)) % 5 == 4 for label, images in every.items()}
    train = {label: images[~is_test[label]] for label, images in every.items()}
    test = {label: images[is_test[label]] for label, images in every.items()}
    return train, test
