"""A full disk refuses what is new with 507, and ends nothing: reading, drawing and forgetting go on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from service.registry.space import measure_free_bytes
from service.settings import Settings
from tests import invariants
from tests.faults.servers import free_port
from tests.instance import Instance, instance_of, stop, wait_for

MEBIBYTE = 1 << 20
RESERVE_BYTES = 8 * MEBIBYTE
LEARN = {"labels": ["2"], "params": {"schedule": {"steps": 5, "batch_size": 16}, "fisher_examples": 50}}


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """Make the folder a file system of 48 MiB. Only root may mount one."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A home folder with little space."""
    with mounted(tmp_path / "home") as home:
        yield home


@pytest.fixture
def instance(small_disk: Path, tmp_path: Path) -> Iterator[Instance]:
    deployment = Settings(home=small_disk, port=0, reserve_bytes=RESERVE_BYTES)
    with instance_of(deployment, tmp_path) as instance:
        yield instance


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk of the folder until so many bytes are free; return the file that does."""
    filler = folder / "artifacts" / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while (left := measure_free_bytes(folder) - leave) > 0:
            file.write(b"\0" * min(left, MEBIBYTE))
    return filler


def test_below_the_reserve_new_work_is_refused_and_everything_works_again_with_space(
    instance: Instance, small_disk: Path
) -> None:
    instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    with httpx2.Client(base_url=instance.url, timeout=30) as http:
        filler = fill(small_disk, RESERVE_BYTES // 2)
        refused = [
            http.post("/v1/models/m/learn", json=LEARN),
            http.post("/v1/models", json={"name": "other", "dataset": "digits"}),
            http.put("/v1/datasets/doodles", content=b"x", headers={"Content-Type": "application/zip"}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
            (507, "storage_full")
        ] * 3
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "less than the reserve of 8 MiB" in ready.json()["checks"]["space"]
        draw_and_read(http)
        forgotten = instance.submit("forget", labels=["1"])
        assert instance.succeeded(forgotten).attempt == 1

        fill(small_disk, 0)
        draw_and_read(http)
        assert http.get("/livez").status_code == 200
        assert http.post("/v1/models/m/learn", json=LEARN).status_code == 507
        assert http.post("/v1/models/m/forget", json={"labels": ["0"]}).status_code in (202, 409, 507)

        filler.unlink()
        wait_for("ready again", lambda: http.get("/readyz").json()["checks"]["space"] == "ok")
        instance.succeeded(instance.submit("learn", labels=["2"]))
        drawn = http.post("/v1/models/m/samples", json={"labels": ["2"]})
        assert (drawn.status_code, "X-Sample-Id" in drawn.headers) == (200, True)
    with instance.database.reading() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    invariants.check(instance.deployment, instance.database)


def test_a_job_that_finds_no_space_for_its_version_says_so_and_can_be_repeated(tmp_path: Path) -> None:
    """The artifacts have a disk of their own, which stays full for longer than the worker waits."""
    home = tmp_path / "home"
    with mounted(home / "artifacts"), instance_of(Settings(home=home, port=0), tmp_path) as instance:
        instance.up(PALIMPSEST_RESERVE_BYTES="0")
        instance.create()
        job_id = instance.submit("learn", labels=["0", "1"])
        instance.wait_until(job_id, lambda job: job.state != "queued")
        filler = fill(home, 0)
        job = instance.wait_until_done(job_id)
        assert job.error is not None
        assert (job.state, job.error["code"], job.error["retryable"]) == ("failed", "storage_full", True)
        assert instance.versions(job.model_id) == []
        filler.unlink()
        instance.succeeded(instance.submit("learn", labels=["0", "1"]))
        invariants.check(instance.deployment, instance.database)


def draw_and_read(http: httpx2.Client) -> None:
    """Draw a sample, which cannot be recorded, and an image; read the model."""
    drawn = http.post("/v1/models/m/samples", json={"labels": ["0"], "seed": 1, "format": "b64_json"})
    assert (drawn.status_code, drawn.headers.get("X-Sample-Recorded")) == (200, "false"), drawn.text
    assert "X-Sample-Id" not in drawn.headers
    assert drawn.json()["id"] is None
    assert http.get("/v1/models/m").json()["name"] == "m"


def test_a_full_disk_of_the_log_ends_nothing(tmp_path: Path) -> None:
    port = free_port()
    deployment = Settings(home=tmp_path / "home", port=port)
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "commands", "up"],
            env={**os.environ, **deployment.as_environment()},
            stdout=full,
            stderr=full,
        )
        try:

            def is_ready() -> bool:
                with suppress(httpx2.TransportError):
                    return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
                return False

            wait_for("the service answers", is_ready)
            assert process.poll() is None
            assert stop(process) == 0
        finally:
            process.kill()
            process.wait()


def test_only_the_owner_can_read_the_home_of_an_instance(tmp_path: Path) -> None:
    """The home and a file in it were made by an earlier release."""
    home = tmp_path / "home"
    (home / "artifacts").mkdir(parents=True)
    (home / "lock").write_text("")
    home.chmod(0o755)
    with instance_of(Settings(home=home, port=0), tmp_path) as instance:
        instance.up()
        instance.create()
        instance.succeeded(instance.submit("learn", labels=["0"]))
        modes = {path: path.stat().st_mode & 0o077 for path in (home, *home.rglob("*"))}
    assert {path for path, mode in modes.items() if mode} == set()
    assert len(modes) > 10
