"""Experiments in a single process compute in the process of the tests."""

from collections.abc import Iterator

import pytest

from tests.computing import settings_given_back


@pytest.fixture(autouse=True, scope="module")
def _settings_given_back() -> Iterator[None]:
    with settings_given_back():
        yield
