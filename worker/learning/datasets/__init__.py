"""What can be learnt: a new file in this folder is in the catalog at once."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from worker.learning.datasets.dataset import Dataset, DatasetInfo, DatasetUnavailable, find, registered
from worker.learning.datasets.uploaded import uploaded

__all__ = ["Dataset", "DatasetInfo", "DatasetUnavailable", "catalog", "find", "load", "uploaded"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def load(name: str, folder: Path) -> Dataset:
    """Read a dataset; `folder` is where downloaded datasets live (bundled ones ignore it).

    Raises DatasetUnavailable when there is no such dataset or its images cannot be had.
    """
    info, read = find(name)
    train, test = read(folder)
    return Dataset(info.name, info.labels, info.image_shape, train, test)


def catalog() -> list[DatasetInfo]:
    """Every dataset there is, by name. Reads no image."""
    return registered()


def comes_with_the_code(name: str) -> bool:
    """Whether a dataset of that name is in the catalog; an upload may bear any other."""
    return any(one.name == name for one in catalog())
