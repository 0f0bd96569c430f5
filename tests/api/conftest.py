"""One running server for each test module, on SQLite and on PostgreSQL. Every test uses its own models."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.api.serving import Served, serving
from tests.conftest import DATABASES, own_migrated_database


@pytest.fixture(scope="module", params=DATABASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home: Path = tmp_path_factory.mktemp("home")
    with (
        own_migrated_database(request.param, home, request) as url,
        serving(Settings(home=home, database_url=url)) as served,
    ):
        yield served


@pytest.fixture
def name(request: pytest.FixtureRequest, served: Served) -> str:
    """A model name that no other test uses."""
    served.http.headers.clear()
    return f"m{abs(hash(request.node.nodeid)) % 10**12}"
