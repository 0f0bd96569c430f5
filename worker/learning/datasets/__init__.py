"""Datasets to learn from. Every module in this folder is imported, so that its datasets are registered."""

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import torch

from worker.learning.datasets.dataset import (
    Dataset,
    DatasetInfo,
    DatasetUnavailable,
    Reader,
    Split,
    WrongFiles,
    add,
    declared,
    find,
    registered,
)
from worker.learning.datasets.uploaded import uploaded
from worker.learning.package import Package

__all__ = [
    "Dataset",
    "DatasetInfo",
    "DatasetUnavailable",
    "Reader",
    "Split",
    "WrongFiles",
    "add",
    "catalog",
    "declared",
    "find",
    "load",
    "uploaded",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
for _read, _info in declared().items():
    add(_info, _read)


def load(name: str, folder: Path) -> Dataset:
    """Read a dataset of the catalog. folder: holds the downloaded datasets; bundled ones ignore it.

    Raises DatasetUnavailable if there is no such dataset, or if its images cannot be read or downloaded,
    and WrongFiles, which is one, if there are files that are damaged, those of another dataset, or not
    readable for this process.
    """
    info, read = find(name)
    train, test = read(folder)
    if info.package is not None:
        for split in (train, test):
            _check_split(split, info, info.package)
    remark = None if info.remark is None else info.remark(folder)
    return Dataset(info.name, info.labels, info.image_shape, train, test, remark)


def catalog() -> list[DatasetInfo]:
    """List every dataset by name, those of other packages included. Reads no image."""
    return registered()


def comes_with_the_code(name: str) -> bool:
    """Return whether a dataset of that name is built in. An uploaded one never has such a name."""
    return any(one.name == name and one.package is None for one in catalog())


def _check_split(split: Mapping[str, torch.Tensor], info: DatasetInfo, package: Package) -> None:
    """Raise DatasetUnavailable if a package's images are not as the rest of the code expects them."""
    pixels = math.prod(info.image_shape)
    for label in info.labels:
        images = split.get(label)
        if not isinstance(images, torch.Tensor):
            found = "none"
        elif images.dtype != torch.uint8 or images.dim() != 2 or images.shape[1] != pixels or not len(images):
            found = f"{images.dtype} {list(images.shape)}"
        else:
            continue
        raise DatasetUnavailable(
            f"the dataset {info.name!r} of the package {package.name} {package.version} should give "
            f"torch.uint8 [n, {pixels}] for the label {label!r} n at least 1; it gives {found}"
        )
