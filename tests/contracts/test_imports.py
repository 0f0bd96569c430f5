"""Who may import whom, held by import-linter and by looking at what an import really loads."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
HEAVY = ("torch", "torchvision", "safetensors", "onnx", "sklearn", "worker")


def test_every_import_contract_holds() -> None:
    lint = subprocess.run([LINT_IMPORTS, "--no-logo"], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout


def test_no_module_of_the_learner_but_the_judging_is_left_out_of_the_contract_on_judges() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = (
        one for one in contracts if one["name"] == "nothing that trains knows what it will be judged by"
    )
    folder = ROOT / "worker" / "learning"
    modules = {path.stem for path in folder.glob("[!_]*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert {name.rpartition(".")[2] for name in held["source_modules"]} == modules - {"judging"}


def test_the_http_face_loads_nothing_of_the_learner() -> None:
    probe = f"import service.api.app, commands.main, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_client_loads_neither_the_service_nor_the_learner() -> None:
    probe = f"import palimpsest.demo, sys; print([m for m in {(*HEAVY, 'service')!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
