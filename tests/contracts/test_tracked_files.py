"""What the repository may not hold: package servers' addresses, lock files, one machine's paths, pickles."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("git")

ROOT = Path(__file__).resolve().parents[2]
SERVERS = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "download.pytorch" + ".org",
    "index" + "-url",
    "find" + "-links",
)
LOCKS = re.compile(r"(^|/)(.*\.lock|pylock.*\.toml|package-lock\.json|yarn\.lock)$")
ONE_MACHINE = re.compile(r"(?<![\w.])/(work|root|home/\w+)/" + r"|\.\./" + "shared")
DATA_OF_CI = '"${PALIMPSEST_DATA:-$(realpath -m ../' + 'shared/data)}"'


def tracked() -> dict[str, bytes]:
    """Every tracked file that is there, by its path."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [path for path in listed.decode().split("\0") if path and (ROOT / path).is_file()]
    return {path: (ROOT / path).read_bytes() for path in paths}


def texts() -> dict[str, str]:
    """The tracked files that are text."""
    decoded = {}
    for path, data in tracked().items():
        if b"\0" not in data:
            decoded[path] = data.decode()
    return decoded


def test_no_address_of_a_package_server_is_committed() -> None:
    assert [(path, server) for path, text in texts().items() for server in SERVERS if server in text] == []


def test_no_lock_file_is_committed() -> None:
    assert [path for path in tracked() if LOCKS.search(path)] == []


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+-]+", line)] == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """.ci/run alone may name a folder beside the checkout, as a default."""
    found = [
        (path, line)
        for path, text in texts().items()
        for line in text.splitlines()
        if ONE_MACHINE.search(line) and not (path == ".ci/run" and DATA_OF_CI in line)
    ]
    assert found == []


def test_weights_are_never_pickled() -> None:
    assert [path for path in tracked() if path.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt"))] == []


def test_the_committed_catalog_is_what_the_learner_declares() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "worker.catalog", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
