from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.registry.artifacts import FolderArtifacts
from service.registry.classifier_files import ClassifierFolder
from service.registry.database import Database
from service.registry.tables import ModelRow
from service.settings import Settings
from tests.computing import settings_given_back
from tests.conftest import BACKINGS, own_broker, own_database
from tests.instance import Instance, instance_of
from tests.jobs.worker_contexts import new_model
from worker.jobs.inputs import WorkerContext
from worker.process.devices import compute_reproducibly


@pytest.fixture(params=BACKINGS, scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """`palimpsest up` on each backing in turn, shared by the tests of a file, each with a model of its own.

    It sweeps once, at its start: what happens later needs no sweep.
    """
    folder = tmp_path_factory.mktemp("running")
    database, broker = request.param.split("+")
    with own_database(database, folder, request) as url, own_broker(broker, folder) as broker_url:
        deployment = Settings(
            home=folder / "home", database_url=url, broker_url=broker_url, port=0, sweep_seconds=3600
        )
        with instance_of(deployment, folder) as instance:
            instance.up()
            yield instance


@pytest.fixture(autouse=True, scope="module")
def _reproducible() -> Iterator[None]:
    """Compute as a worker does; give the process back as it was."""
    with settings_given_back():
        compute_reproducibly(0)
        yield


@pytest.fixture
def worker_context(database: Database, tmp_path: Path) -> WorkerContext:
    """What a worker named here:1 would run jobs with, in the process of the test."""
    return WorkerContext(
        database=database,
        artifacts=FolderArtifacts(tmp_path / "artifacts"),
        data=tmp_path / "datasets",
        judges=ClassifierFolder(tmp_path / "judges"),
        device=torch.device("cpu"),
        worker="here:1",
        lease_seconds=60.0,
        shutting_down=lambda: False,
    )


@pytest.fixture
def model(database: Database) -> ModelRow:
    return new_model(database, "m")
