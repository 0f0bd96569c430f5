"""The demo, run as users run it: in a process of its own, with a real server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
UP = re.compile(r"Palimpsest is up at (http://\S+)")


def start_demo(folder: Path, data: Path, *options: str) -> subprocess.Popen[str]:
    """Run what `make demo` runs, writing into `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "palimpsest.demo", *options],
        cwd=folder,
        env={**os.environ, "PALIMPSEST_DATA": str(data), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_do_not_ignore_interrupts,
    )


def _do_not_ignore_interrupts() -> None:
    """Undo what a shell does to processes in the background, to these tests for one: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def without_mnist(folder: Path) -> Path:
    """Make a data folder whose MNIST files are damaged: MNIST is unavailable, and nothing is downloaded."""
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(b"scraped")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(b"clean")
    return folder / "data"


def server_address(demo: subprocess.Popen[str]) -> tuple[str, int]:
    """Wait until the demo prints the address of its server."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if found := UP.search(line):
            url = urlsplit(found.group(1))
            return url.hostname or "", url.port or 0
    pytest.fail("the demo ended without a server")


def closes_within(address: tuple[str, int], seconds: float) -> bool:
    """Wait until nothing listens there any more; whether that was in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_without_mnist_it_says_so_and_runs_every_job_on_the_bundled_digits(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, without_mnist(tmp_path), "--quick")
    output, _ = demo.communicate(timeout=240)
    assert demo.returncode == 0, output
    assert "bundled digits" in output

    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["dataset"] == "digits"
    assert report["train_images"] > 1000
    assert [(job["operation"], job["version"]) for job in report["jobs"]] == [
        ("learn", 1),
        ("learn", 2),
        ("forget", 3),
        ("resize", 4),
        ("resize", 5),
    ]
    assert report["seconds_total"] >= sum(job["seconds"] for job in report["jobs"]) > 0
    sizes = report["parameters_by_version"]
    assert sizes["4"] < sizes["3"] < sizes["2"]
    assert sizes["5"] > sizes["4"]
    for name in ("before.png", "after.png"):
        with Image.open(tmp_path / "demo" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 400
    [verify] = re.findall(r"palimpsest (verify demo/\S+ --key demo/\S+)", output)
    command = [sys.executable, "-m", "commands", *verify.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    verified = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr
    assert "forgotten" in verified.stdout
    assert "3, 6 of model digits" in verified.stdout


@pytest.mark.parametrize(("signal_sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_it_stops_its_server_too(
    tmp_path: Path, signal_sent: signal.Signals, status: int
) -> None:
    demo = start_demo(tmp_path, without_mnist(tmp_path))
    address = server_address(demo)
    demo.send_signal(signal_sent)
    demo.communicate(timeout=120)
    assert demo.returncode == status
    assert closes_within(address, 5)


def test_a_server_that_cannot_start_is_one_clear_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PALIMPSEST_LEASE_SECONDS": "never"}
    demo = subprocess.run(
        [sys.executable, "-m", "palimpsest.demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert demo.returncode == 1
    assert demo.stdout.startswith(
        "demo: the server ended with status 1: palimpsest: PALIMPSEST_LEASE_SECONDS"
    )
    assert len(demo.stdout.splitlines()) == 1


@pytest.mark.slow
def test_on_mnist_kept_labels_are_drawn_and_forgotten_ones_are_not(tmp_path: Path) -> None:
    demo = start_demo(
        tmp_path, Path(os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets")).expanduser()
    )
    output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["dataset"] == "mnist"
    assert report["retained_accuracy"] >= 0.93
    assert report["forgotten_accuracy"] <= 0.05
