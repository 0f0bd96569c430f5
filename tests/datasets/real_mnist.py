"""The real MNIST in the folder PALIMPSEST_DATA, for the tests that need it."""

import os
from functools import lru_cache
from pathlib import Path

import pytest

from worker.learning.datasets import Dataset, DatasetUnavailable, load


def real_mnist() -> Dataset:
    """Return MNIST. Without its files the calling test is skipped with the reason; with CI=true it fails."""
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
