"""The code that a manifest names is one state of the worker's source files and no other."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.jobs.code_version import CODE, sources_sha256

ROOT = Path(__file__).resolve().parents[2]
RECEIPT = (ROOT / "docs/forget-receipt.md").read_text()


def test_the_command_in_the_documentation_prints_the_hash_of_this_code() -> None:
    [command] = re.findall(r"^find reports worker .*$", RECEIPT, flags=re.MULTILINE)
    printed = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"palimpsest .+, worker sha256:{printed.stdout.split()[0]}", CODE)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "worker"
    (package / "learning").mkdir(parents=True)
    (package / "gate.py").write_text("BOUND = 1\n")
    (package / "learning/fisher.py").write_text("")
    return package


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte": lambda package: (package / "gate.py").write_text("BOUND = 2\n"),
    "a name": lambda package: (package / "gate.py").rename(package / "gates.py"),
    "a folder": lambda package: (package / "gate.py").rename(package / "learning/gate.py"),
    "a new empty file": lambda package: (package / "learning/ewc.py").write_text(""),
    "a deleted file": lambda package: (package / "learning/fisher.py").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_source_file_changes_the_hash(package: Path, change: str) -> None:
    before = sources_sha256(package)
    CHANGES[change](package)
    assert sources_sha256(package) != before


def test_the_hash_depends_on_the_source_files_alone_and_not_on_their_folder(
    package: Path, tmp_path: Path
) -> None:
    before = sources_sha256(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__/gate.cpython-311.pyc").write_bytes(b"\0")
    (tmp_path / "elsewhere").mkdir()
    assert sources_sha256(package.rename(tmp_path / "elsewhere/worker")) == before
