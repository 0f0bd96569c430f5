"""What the `service` image holds, its packages and its files and nothing else, is enough to serve."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palimpsest import Palimpsest
from palimpsest.local_server import local_server, wait_until_ready
from tests.contracts.dockerfile import ROOT, read_stages
from tests.contracts.environment import environment

LEARNER = ("torch", "torchvision", "safetensors", "onnx", "sklearn", "worker")
FEW_STEPS = {"schedule": {"steps": 20}, "fisher_examples": 50}


def image(folder: Path) -> tuple[Path, Path]:
    """Build the `service` image without a container: a Python with its packages, and the files it copies."""
    files = folder / "app"
    files.mkdir()
    for path in read_stages()["service"].copied:
        source = ROOT / path
        (shutil.copytree if source.is_dir() else shutil.copy)(source, files / path)
    return environment(folder / "environment", "service"), files


@contextmanager
def serving(python: Path, files: Path, home: Path) -> Iterator[str]:
    """Run `palimpsest serve` as the image does, on a free loopback port."""
    log = home / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [python, "-m", "commands", "serve", "--port", "0"],
            cwd=files,
            env={"PYTHONPATH": str(files), "PALIMPSEST_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield wait_until_ready(server, log)
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_an_install_without_the_worker_extra_serves_what_a_worker_published(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with local_server(home) as address, Palimpsest(address) as client:
        client.models.create("m", dataset="digits")
        job = client.jobs.wait(client.models.learn("m", ["0", "1"], params=FEW_STEPS), timeout=120)
        assert job.output_version == 1, job.error
        drawn_beside_a_worker = client.images.get("m", 1, "0", 7)

    python, files = image(tmp_path)
    for module in LEARNER:
        probe = subprocess.run(
            [python, "-c", f"import {module}"], cwd=files, env={}, capture_output=True, check=False
        )
        assert probe.returncode != 0, f"{module} is in the service's environment"
    with serving(python, files, home) as address, Palimpsest(address) as client:
        assert client.images.get("m", 1, "0", 7) == drawn_beside_a_worker
        queued = client.models.forget("m", ["1"])
        assert queued.state == "queued"
