"""What installed packages bring is used; what is wrong with one is logged, and takes nothing else down."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.registry import workers
from service.registry.tables import ModelRow
from tests.instance import schedule
from tests.jobs.worker_contexts import find_job, on_sqlite_alone, read_manifest, run, submit, versions_of
from tests.learning.interrupting import Killed, Memory, killer
from tests.learning.tiny import CPU, TINY
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.learning import strategy
from worker.learning.datasets import dataset
from worker.learning.networks import ARCHITECTURES, blank
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, Strategy, TrainingContext
from worker.learning.transition import apply_strategy
from worker.packages import load_packages

START = with_slots(blank(TINY, seed=0, pixels=64), ["0", "1"], "none", "permanent")

Install = Callable[..., None]

STRATEGY = """
from pydantic import Field
from worker.learning.strategy import StrategyParams, strategy

class Params(StrategyParams):
    steps: int = Field(8, ge=1, le=100)

@strategy("forget", "{name}", Params, source="a test", {more})
def forget(checkpoint, examples, params, context):
    \"\"\"Forget nothing, step by step.\"\"\"
    state = context.generator("state")
    with context.loop("forgetting", range(params.steps), []) as steps:
        for step in steps:
            context.step("forgetting", step, params.steps)
    return checkpoint.with_status(examples.labels, "forgotten")
"""
DATASET = """
import torch
from worker.learning.datasets.dataset import dataset

@dataset("{name}", title="A test", labels=("a", "b"), image_shape=(28, 28), bundled=True)
def read(folder):
    images = {{"a": torch.zeros(8, 784, dtype=torch.uint8), "b": torch.zeros(8, 784, dtype={dtype})}}
    return images, images
"""
NETWORK = """
from pydantic import BaseModel
from torch.nn import functional
from worker.learning.networks import Architecture
from worker.learning.networks.mlp import Mlp, MlpParams

class Halved(Mlp):
    def decode(self, latents, slots, masks={{}}, calls=None):
        return super().decode(latents, slots, masks, calls) * {factor}

network = Architecture("{name}", {network}, MlpParams, "A test.")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module, as an installer leaves it. What it brings is removed afterwards."""
    monkeypatch.setattr(strategy, "_added", {})
    monkeypatch.setattr(dataset, "_readers", dict(dataset._readers))

    def install(name: str, program: str, target: str, *, version: str = "1.0") -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(program)
        metadata = tmp_path / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[palimpsest.{KINDS[target]}]\nit = {name}:{target}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in [name for name, one in ARCHITECTURES.items() if one.package is not None]:
        del ARCHITECTURES[name]


def names(offered: Any) -> dict[str, list[str]]:
    """{list of the catalog: the names in it}, without empty lists."""
    return {kind: [one["name"] for one in entries] for kind, entries in (offered or {}).items() if entries}


@on_sqlite_alone
def test_a_job_by_a_strategy_of_a_package_names_the_version_that_ran(
    worker_context: WorkerContext, model: ModelRow, install: Install
) -> None:
    install("patient", a_strategy("patient"), "forget", version="1.2")
    offered = load_packages()
    assert names(offered) == {"strategies": ["patient"]}
    run(worker_context, model, "learn", "0", "1")
    job = run(
        worker_context, model, "forget", "0", strategy="patient", params={}, packages={"strategy": "patient"}
    )
    assert job.state == "succeeded", job.error
    learned, forgotten = versions_of(worker_context, model)
    assert "packages" not in read_manifest(worker_context, learned)
    assert read_manifest(worker_context, forgotten)["packages"] == {
        "strategy": {"name": "patient", "version": "1.2"}
    }


def a_strategy(name: str = "x", *, more: str = "", params: str = "Params", field: str = "ge=1") -> str:
    program = STRATEGY.format(name=name, more=more).replace("ge=1, le=100", field)
    return program.replace(f'"{name}", Params', f'"{name}", {params}')


def a_dataset(name: str, dtype: str = "uint8") -> str:
    return DATASET.format(name=name, dtype=f"torch.{dtype}")


def a_network(name: str = "x", network: str = "Halved", factor: float = 1) -> str:
    return NETWORK.format(name=name, network=network, factor=factor)


BAD: dict[str, tuple[str, str]] = {
    "1 / 0": ("forget", "ZeroDivisionError"),
    "import sys; sys.exit(3)": ("forget", "SystemExit"),
    "def": ("forget", "SyntaxError"),
    "": ("forget", "AttributeError"),
    "def forget(): pass": ("forget", "decorator @strategy"),
    "forget = 3": ("forget", "decorator @strategy"),
    "forget = []": ("forget", "decorator @strategy"),
    a_strategy("surrogate"): ("forget", "is built in"),
    a_strategy(more="default=True"): ("forget", "may be a default"),
    a_strategy(field='json_schema_extra={"pattern": "a"}'): ("forget", "keyword 'pattern'"),
    a_strategy(params="dict"): ("forget", "subclass of StrategyParams"),
    "def read(folder): pass": ("read", "decorator @dataset"),
    a_dataset("digits"): ("read", "is built in"),
    a_network("mlp"): ("network", "is built in"),
    a_network(network="BaseModel"): ("network", "subclass of Network"),
    a_network(factor=0.5): ("network", "draws other images"),
}
"""{program of a package: (what its entry point names, why it is left out)}."""
KINDS = {"forget": "strategies", "read": "datasets", "network": "networks"}


def test_whatever_is_wrong_with_packages_is_logged_and_all_the_rest_is_offered(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number, (program, (target, _)) in enumerate(BAD.items()):
        install(f"bad{number}", program, target)
    install("sound", a_strategy("sound"), "forget")
    install("twin", a_strategy("sound"), "forget")
    install("images", a_dataset("images"), "read")
    install("net", a_network("net"), "network")
    offered = names(load_packages())
    assert offered == {"strategies": ["sound"], "datasets": ["images"], "architectures": ["net"]}
    for number, (program, (_, reason)) in enumerate(BAD.items()):
        text = f"package bad{number} is left out"
        lines = [logging.Formatter().format(one) for one in caplog.records if text in one.getMessage()]
        assert len(lines) == 1, program
        assert reason in lines[0], program
    assert "package twin is left out" in caplog.text
    assert "another forget strategy called 'sound' comes from the package sound" in caplog.text


@on_sqlite_alone
def test_images_that_are_not_as_they_should_be_fail_the_job_with_the_reason(
    worker_context: WorkerContext, model: ModelRow, install: Install
) -> None:
    install("images", a_dataset("images", "float32"), "read")
    load_packages()
    packages = {"dataset": "images"}
    job = run(worker_context, model, "learn", "a", dataset="images", packages=packages)
    assert job.error is not None
    assert job.error["code"] == "dataset_unavailable"
    assert "should give torch.uint8 [n, 784] for the label 'b'" in job.error["message"]


@on_sqlite_alone
@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "forget", "strategy": "patient", "packages": {"strategy": "patient"}},
        {"operation": "forget", "packages": {"strategy": "another"}},
        {"operation": "learn", "packages": {"dataset": "another"}},
        {"operation": "learn", "packages": {"network": "another"}},
        {"operation": "learn", "dataset": "images"},
    ],
)
def test_a_worker_leaves_a_job_alone_that_needs_what_it_has_not(
    worker_context: WorkerContext, model: ModelRow, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    offers = {"datasets": [{"name": "images", "package": {"name": "images", "version": "1"}}]}
    with worker_context.database.transaction() as session:
        workers.sign_in(session, "there:1", code="this", offers=offers)
    run(worker_context, model, "learn", "0")
    label = "0" if fields["operation"] == "forget" else "1"
    rest = {name: value for name, value in fields.items() if name != "operation"}
    job_id = submit(worker_context, model, fields["operation"], label, params=schedule(3), **rest)
    for _ in range(2):
        assert execute(job_id, worker_context) is None
    job = find_job(worker_context, job_id)
    assert (job.state, job.attempt, job.error) == ("queued", 0, None)
    assert caplog.text.count(f"job {job_id} stays queued: this worker has not") == 1


def test_another_version_of_a_package_does_not_go_on_from_a_snapshot(install: Install) -> None:
    install("patient", a_strategy("patient"), "forget")
    load_packages()
    found = strategy.find("forget", "patient")
    assert found.package is not None
    newer = Strategy(**{**vars(found), "package": type(found.package)("patient", "2.0")})
    assert _first_step_after_a_kill(found, found) > 0
    assert _first_step_after_a_kill(found, newer) == 0


def _first_step_after_a_kill(killed: Strategy, resumed: Strategy) -> int:
    memory, steps = Memory(), list[int]()
    with pytest.raises(Killed):
        _run(killed, memory, killer(7))
    assert memory.saved
    _run(resumed, memory, lambda progress: steps.append(progress.step))
    return steps[0]


def _run(chosen: Strategy, memory: Memory, on_progress: Any) -> None:
    context = TrainingContext(CPU, 0, snapshots=memory, on_progress=on_progress)
    apply_strategy(START, chosen, Examples(("0",), "none"), chosen.Params(), context)
