"""`pip install palimpsest` without extras gives the client and the command line, and needs nothing else."""

import subprocess
from pathlib import Path

import pytest

from service.receipts.signing import load_signing_key
from service.receipts.statement import PAYLOAD_TYPE, encode_receipt
from tests.contracts.environment import ROOT, environment
from tests.receipts.conftest import statement

ABSENT = ("alembic", "celery", "fastapi", "numpy", "onnxruntime", "sqlalchemy", "torch", "uvicorn")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the plain dependencies alone."""
    return environment(tmp_path_factory.mktemp("plain"))


def run(python: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python there; our own packages are all importable, as an installed wheel holds them all."""
    return subprocess.run(
        [str(python), *map(str, arguments)],
        env={"PYTHONPATH": str(ROOT), **variables},
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ABSENT)
def test_what_only_the_service_or_the_worker_needs_is_not_there(python: Path, package: str) -> None:
    assert "ModuleNotFoundError" in run(python, "-c", f"import {package}").stderr


def test_the_client_and_every_name_it_exports_can_be_imported(python: Path) -> None:
    ended = run(python, "-c", "from palimpsest import *; print(Palimpsest('http://127.0.0.1').close())")
    assert (ended.stdout, ended.stderr) == ("None\n", "")


def test_the_command_line_prints_its_help_and_its_version(python: Path) -> None:
    assert "verify" in run(python, "-m", "commands", "--help").stdout
    assert run(python, "-m", "commands", "--version").stdout.startswith("palimpsest ")


def test_a_receipt_is_verified(python: Path, tmp_path: Path) -> None:
    key = load_signing_key(tmp_path / "keys")
    receipt = tmp_path / "receipt.json"
    receipt.write_bytes(encode_receipt(key.sign(statement().to_payload(), PAYLOAD_TYPE)))
    verify = ("-m", "commands", "verify", receipt)
    genuine = run(python, *verify, PALIMPSEST_HOME=str(tmp_path))
    assert genuine.returncode == 0, genuine.stderr
    assert "is genuine" in genuine.stdout
    receipt.write_bytes(receipt.read_bytes().replace(b"a", b"b", 1))
    altered = run(python, *verify, "--key", tmp_path / "keys" / "signing.pub.pem")
    assert altered.returncode == 1
    assert "is NOT genuine" in altered.stderr


@pytest.mark.parametrize("command", ["serve", "sweep", "collect", "migrate"])
def test_a_command_of_the_service_says_what_to_install(python: Path, command: str) -> None:
    ended = run(python, "-m", "commands", command)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"palimpsest: `palimpsest {command}` needs the service: pip install 'palimpsest[service]'\n"
    )


@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_command_that_learns_says_what_to_install(python: Path, command: str) -> None:
    ended = run(python, "-m", "commands", command)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"palimpsest: `palimpsest {command}` needs the service and PyTorch: "
        "pip install 'palimpsest[worker]'\n"
    )


def test_with_the_service_alone_learning_says_what_to_install(tmp_path: Path) -> None:
    ended = run(environment(tmp_path, "service"), "-m", "commands", "up")
    assert ended.returncode == 1
    assert ended.stderr == (
        "palimpsest: `palimpsest up` needs PyTorch: pip install 'palimpsest[worker]', "
        "or run the API alone: palimpsest serve\n"
    )
