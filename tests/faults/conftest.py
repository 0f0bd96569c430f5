from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests import invariants
from tests.instance import Instance, instance_of


@pytest.fixture
def instance(deployment: Settings, tmp_path: Path) -> Iterator[Instance]:
    """An instance on each database and broker in turn, without processes yet.

    Whatever a test does to it, its rows and files must keep the rules of tests/invariants.py.
    """
    with instance_of(deployment, tmp_path) as instance:
        yield instance
        instance.kill_all()
        if deployment.home.exists():
            invariants.check(instance.deployment, instance.database)
