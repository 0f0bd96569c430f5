from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.instance import Instance, instance_of


@pytest.fixture
def instance(deployment: Settings, tmp_path: Path) -> Iterator[Instance]:
    """An instance on each database and broker in turn, without processes yet."""
    with instance_of(deployment, tmp_path) as instance:
        yield instance
