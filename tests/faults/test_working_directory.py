"""An instance runs no Python file of its working directory, even if it has the name of an import."""

import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from service.settings import Settings
from tests.instance import Instance, instance_of, stop

ROOT = Path(__file__).resolve().parents[2]
CONSOLE_SCRIPT = Path(sys.executable).with_name("palimpsest")
OURS = {"commands", "migrations", "palimpsest", "reports", "service", "worker"}


def write_modules(folder: Path, marks: Path) -> None:
    """Write a module for every importable name, which leaves a mark if it is run, and then fails."""
    folder.mkdir()
    marks.mkdir()
    installed = {name for name in packages_distributions() if name.isidentifier()}
    for name in {*sys.stdlib_module_names, *installed, "sitecustomize", "usercustomize"} - OURS:
        (folder / f"{name}.py").write_text(source_that_marks(marks / name))
    for name in OURS:
        (folder / name).mkdir()
        for part in ("__init__", "__main__"):
            (folder / name / f"{part}.py").write_text(source_that_marks(marks / f"{name}.{part}"))


def source_that_marks(mark: Path) -> str:
    return (
        f"open({str(mark)!r}, 'w').close()\nraise RuntimeError('a file of the working directory was run')\n"
    )


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


@pytest.fixture
def instance(tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    """An instance that is started by the console script, in a folder of modules that shadow every import."""
    write_modules(tmp_path / "folder", marks)
    # The console script may have been installed from another checkout.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with instance_of(Settings(home=tmp_path / "home", port=0), tmp_path) as instance:
        instance.program, instance.folder = (CONSOLE_SCRIPT,), tmp_path / "folder"
        yield instance


def test_up_runs_no_module_of_the_working_directory(instance: Instance, marks: Path) -> None:
    supervisor = instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    instance.succeeded(instance.submit("forget", labels=["1"]))
    assert stop(supervisor) == 0
    assert list(marks.iterdir()) == []


def test_a_worker_started_by_hand_runs_no_module_of_the_working_directory(
    instance: Instance, marks: Path
) -> None:
    instance.up("serve")
    worker = instance.run("worker")
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0"]))
    assert stop(worker) == 0
    assert list(marks.iterdir()) == []
