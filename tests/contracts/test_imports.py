"""Who may import whom: import-linter's contracts hold, and they refuse what they are there to refuse."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
HEAVY = ("torch", "torchvision", "safetensors", "onnx", "sklearn", "worker")

CONFIGURATION: dict[str, Any] = read_configuration(str(ROOT / "pyproject.toml"))
CONTRACTS: list[dict[str, Any]] = CONFIGURATION["contracts_options"]
ROOT_PACKAGES: list[str] = CONFIGURATION["session_options"]["root_packages"]
KINDS: dict[str, Callable[..., Any]] = {
    "layers": LayersContract,
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every module of the project and what it imports."""
    cache = str(ROOT / ".import_linter_cache")
    return grimp.build_graph(*ROOT_PACKAGES, include_external_packages=True, cache_dir=cache)


def broken(graph: grimp.ImportGraph) -> Iterator[str]:
    """Yield the names of the contracts that refuse the graph."""
    for options in CONTRACTS:
        contract = KINDS[options["type"]](options["name"], CONFIGURATION["session_options"], options)
        if not contract.check(deepcopy(graph), verbose=False).kept:
            yield options["name"]


def test_every_import_contract_holds() -> None:
    lint = subprocess.run([LINT_IMPORTS, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("worker.learning.drawing", "worker.jobs.cost"),
        ("worker.learning.drawing", "worker.learning.judging.judge"),
        ("worker.learning.judging.recovery", "worker.learning.judging.judge"),
        ("worker.learning.continual.finetune", "worker.learning.continual.retrain"),
        ("worker.learning.unlearning.distill", "worker.learning.resizing.auto"),
        ("worker.learning.rehearsal", "worker.learning.continual.finetune"),
        ("worker.learning.networks.mlp", "worker.learning.training"),
        ("worker.learning.strategy", "service.registry.tables"),
        ("worker.jobs.cost", "worker.process.celery_app"),
        ("worker.jobs.cost", "service.api.problems"),
        ("service.settings", "service.registry.tables"),
        ("service.registry.acceptance", "service.requests.uploads"),
        ("service.registry.tables", "migrations"),
        ("service.registry.tables", "fastapi"),
        ("service.requests.uploads", "service.requests.operations"),
        ("service.requests.uploads", "service.drawing.decoders"),
        ("service.requests.uploads", "service.api"),
        ("service.receipts.statement", "service.api.jobs"),
        ("service.api.problems", "service.api.route"),
        ("service.api.models", "service.api.jobs"),
        ("service.api.lookup", "service.api.jobs"),
        ("service.api.models", "service.process.supervisor"),
        ("service.api.models", "worker.catalog"),
        ("service.api.models", "torch"),
        ("reports", "service.settings"),
        ("palimpsest", "service"),
        ("migrations", "worker.catalog"),
    ],
)
def test_a_forbidden_import_is_refused(graph: grimp.ImportGraph, importer: str, imported: str) -> None:
    changed = deepcopy(graph)
    assert importer in changed.modules
    changed.add_import(importer=importer, imported=imported)
    assert list(broken(changed))


def test_an_import_from_a_lower_layer_is_allowed(graph: grimp.ImportGraph) -> None:
    """So the refusals above are for their imports, and not for whatever is added to the graph."""
    changed = deepcopy(graph)
    changed.add_import(importer="service.api.keys", imported="service.registry.claims")
    changed.add_import(importer="worker.jobs.cost", imported="worker.learning.drawing")
    assert list(broken(changed)) == []


@pytest.mark.parametrize(
    "package",
    [
        "service",
        "service.api",
        "service.queue",
        "service.registry",
        "service.requests",
        "worker",
        "worker.learning",
        "worker.learning.units",
    ],
)
def test_a_new_module_is_refused_until_it_has_a_layer(graph: grimp.ImportGraph, package: str) -> None:
    changed = deepcopy(graph)
    changed.add_module(f"{package}.brand_new")
    assert list(broken(changed))


def test_the_layers_of_every_package_are_exhaustive() -> None:
    assert [one["name"] for one in CONTRACTS if one.get("containers") and not one.get("exhaustive")] == []


def without_a_layer(root: Path) -> set[str]:
    """Return the top-level packages that no contract names; the tests may import everything."""
    (packages,) = (one for one in CONTRACTS if one["name"].startswith("packages:"))
    named = {name.strip() for layer in packages["layers"] for name in layer.replace(":", "|").split("|")}
    assert named == set(ROOT_PACKAGES)
    return {file.parent.name for file in root.glob("*/*.py")} - named - {"tests"}


def test_a_new_strategy_may_not_import_another_though_no_contract_names_it(graph: grimp.ImportGraph) -> None:
    changed = deepcopy(graph)
    changed.add_module("worker.learning.unlearning.brand_new")
    assert list(broken(changed)) == []
    changed.add_import(
        importer="worker.learning.unlearning.brand_new", imported="worker.learning.unlearning.surrogate"
    )
    assert list(broken(changed))


def test_every_top_level_package_has_a_layer(tmp_path: Path) -> None:
    assert without_a_layer(ROOT) == set()
    for name in (*ROOT_PACKAGES, "tests", "brand_new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").touch()
    assert without_a_layer(tmp_path) == {"brand_new"}


def loaded_by(imports: str, *packages: str) -> list[str]:
    """Return which of the packages a new interpreter has loaded after that import statement."""
    probe = f"import sys, {imports}; print(*(name for name in {packages!r} if name in sys.modules))"
    return subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_api_and_the_command_line_load_nothing_of_the_worker() -> None:
    assert loaded_by("service.api.app, commands.main", *HEAVY) == []


def test_the_client_loads_neither_the_service_nor_the_worker() -> None:
    assert loaded_by("palimpsest.demo", *HEAVY, "service") == []
