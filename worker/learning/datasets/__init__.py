"""Datasets to learn from. Every module in this folder is imported, so that its datasets are registered."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from worker.learning.datasets.dataset import Dataset, DatasetInfo, DatasetUnavailable, find, registered
from worker.learning.datasets.uploaded import uploaded

__all__ = ["Dataset", "DatasetInfo", "DatasetUnavailable", "catalog", "find", "load", "uploaded"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def load(name: str, folder: Path) -> Dataset:
    """Read a dataset of the catalog. folder: holds the downloaded datasets; bundled ones ignore it.

    Raises DatasetUnavailable if there is no such dataset, or if its images cannot be read or downloaded.
    """
    info, read = find(name)
    train, test = read(folder)
    return Dataset(info.name, info.labels, info.image_shape, train, test)


def catalog() -> list[DatasetInfo]:
    """List every dataset that comes with the code, by name. Reads no image."""
    return registered()


def comes_with_the_code(name: str) -> bool:
    """Return whether a dataset of that name is in the catalog. An uploaded one never has such a name."""
    return any(one.name == name for one in catalog())
