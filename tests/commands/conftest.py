"""One real server with a stand-in for its worker for the tests of a module."""

from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.api.serving import Served, serving
from tests.commands.calls import Calls


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        yield served


@pytest.fixture
def name(request: pytest.FixtureRequest, served: Served) -> str:
    """A model that holds the labels 0 and 1, and that no other test uses."""
    name = f"m{abs(hash(request.node.nodeid)) % 10**12}"
    served.model(name)
    served.done(name, "learn", labels=["0", "1"])
    return name


@pytest.fixture
def call(served: Served) -> Calls:
    return Calls(served)
