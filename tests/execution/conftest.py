from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.conftest import BACKINGS, own_broker, own_database
from tests.instance import Instance, instance_of


@pytest.fixture(params=BACKINGS, scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """`palimpsest up` on each backing in turn, shared by a file's tests, each with a model of its own."""
    folder = tmp_path_factory.mktemp("running")
    database, broker = request.param.split("+")
    with own_database(database, folder, request) as url, own_broker(broker, folder) as broker_url:
        deployment = Settings(home=folder / "home", database_url=url, broker_url=broker_url, port=0)
        with instance_of(deployment, folder) as instance:
            instance.up()
            yield instance
