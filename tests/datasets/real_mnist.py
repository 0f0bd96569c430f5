"""The real MNIST at PALIMPSEST_DATA, for tests whose claim is about it."""

import os
from functools import lru_cache
from pathlib import Path

import pytest

from worker.learning.datasets import Dataset, DatasetUnavailable, load


def real_mnist() -> Dataset:
    """Skips the calling test, loudly, where the data cannot be had; with CI=true that is a failure."""
    folder = os.environ.get("PALIMPSEST_DATA")
    try:
        return _read(folder)
    except DatasetUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true requires the real MNIST: {error}")
        pytest.skip(f"NOT MEASURED, the real MNIST is missing: {error}")


@lru_cache
def _read(folder: str | None) -> Dataset:
    if folder is None:
        raise DatasetUnavailable("set PALIMPSEST_DATA to the folder that holds MNIST/raw")
    return load("mnist", Path(folder))
