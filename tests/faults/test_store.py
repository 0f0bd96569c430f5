"""A database and files that are damaged, or do not belong together, are noticed at the start or soon."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.registry import store_identity
from service.registry.artifacts import FolderArtifacts
from service.registry.tables import VersionRow
from service.settings import Settings
from service.urls import sqlite_file
from tests.faults.test_start import refusal
from tests.instance import Instance, instance_of, stop, wait_for
from tests.process.test_collector import TWO_HOURS, grow_old


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of an instance that has published a version, and was stopped."""
    folder = tmp_path_factory.mktemp("published")
    with instance_of(Settings(home=folder / "home", port=0), folder) as instance:
        supervisor = instance.up()
        instance.create()
        instance.succeeded(instance.submit("learn", labels=["0", "1"]))
        assert stop(supervisor) == 0
    return folder / "home"


@pytest.fixture
def used(home: Path, tmp_path: Path) -> Iterator[Instance]:
    """An instance on a copy of that home, without processes yet."""
    shutil.copytree(home, tmp_path / "home")
    with instance_of(Settings(home=tmp_path / "home", port=0), tmp_path) as instance:
        yield instance


def database_of(deployment: Settings) -> Path:
    file = sqlite_file(deployment.database_url)
    assert file is not None
    return file


def garbage(deployment: Settings) -> None:
    database_of(deployment).write_bytes(b"garbage" * 1000)


def truncated(deployment: Settings) -> None:
    file = database_of(deployment)
    file.write_bytes(file.read_bytes()[:50_000])


def zero_bytes(deployment: Settings) -> None:
    database_of(deployment).write_bytes(b"")


def no_database(deployment: Settings) -> None:
    database_of(deployment).unlink()


def no_artifacts(deployment: Settings) -> None:
    shutil.rmtree(deployment.artifacts)


def emptied_artifacts(deployment: Settings) -> None:
    shutil.rmtree(deployment.artifacts)
    deployment.artifacts.mkdir()


def a_file_in_place_of_the_artifacts(deployment: Settings) -> None:
    shutil.rmtree(deployment.artifacts)
    deployment.artifacts.write_text("in the way")


def artifacts_of_another(deployment: Settings) -> None:
    (deployment.artifacts / store_identity.MARKER).write_text("0" * 32 + "\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (garbage, "is not an SQLite database"),
        (truncated, "is damaged"),
        (zero_bytes, "the database is empty"),
        (no_database, "the database is empty"),
        (no_artifacts, "is not this database's, or was emptied"),
        (emptied_artifacts, "is not this database's, or was emptied"),
        (a_file_in_place_of_the_artifacts, "is not a folder"),
        (artifacts_of_another, "is another database's"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_start_with_a_damaged_or_foreign_store_is_refused_in_one_line(
    used: Instance, spoil: Callable[[Settings], None], said: str
) -> None:
    spoil(used.deployment)
    assert said in refusal(used.deployment, "up")


def test_a_worker_with_another_folder_does_not_start(used: Instance, tmp_path: Path) -> None:
    line = refusal(used.deployment, "worker", PALIMPSEST_HOME=str(tmp_path / "elsewhere"))
    assert "is not the one that the API of this database uses" in line


def doctor(deployment: Settings, *options: str) -> tuple[int, str]:
    """Run `palimpsest doctor`; return its exit code and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "commands", "doctor", *options],
        env={**os.environ, **deployment.as_environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def test_a_flipped_byte_is_noticed_although_nobody_draws_and_is_never_drawn(used: Instance) -> None:
    artifacts = FolderArtifacts(used.deployment.artifacts)
    with used.database.reading() as session:
        [version] = session.query(VersionRow).all()
    decoder = artifacts.path(version.files["decoder.onnx"]["sha256"])
    whole = decoder.read_bytes()
    assert doctor(used.deployment)[0] == 0
    decoder.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    used.up()

    def ready() -> dict[str, Any]:
        answer: dict[str, Any] = httpx2.get(f"{used.url}/readyz").json()
        return answer

    wait_for("the fault is noticed", lambda: ready()["checks"]["files"] != "ok")
    assert ready()["status"] == "degraded"
    drawn = httpx2.post(f"{used.url}/v1/models/m/samples", json={"labels": ["0"]})
    assert (drawn.status_code, drawn.json()["code"]) == (503, "artifact_corrupt")
    code, printed = doctor(used.deployment, "--json")
    found = {finding["check"]: finding for finding in json.loads(printed)["findings"]}
    assert (code, found["artifacts"]["status"]) == (1, "problem")
    [damaged] = found["artifacts"]["details"]
    assert (damaged["artifact"], damaged["fault"]) == (decoder.name, "corrupt")
    assert "model m version 1 decoder.onnx" in damaged["used by"]


def test_garbage_is_collected_without_being_asked(used: Instance) -> None:
    artifacts = FolderArtifacts(used.deployment.artifacts)
    orphan = grow_old(artifacts.path(artifacts.put(b"of a job that was killed")), TWO_HOURS)
    used.up()
    wait_for("the garbage is deleted", lambda: not orphan.exists())
    drawn = httpx2.post(f"{used.url}/v1/models/m/samples", json={"labels": ["0"]})
    assert drawn.status_code == 200


def test_doctor_changes_nothing_and_names_what_is_missing(tmp_path: Path) -> None:
    code, printed = doctor(Settings(home=tmp_path / "home"))
    assert code == 1
    assert "does not exist; `palimpsest up` makes it" in printed
    assert list(tmp_path.iterdir()) == []
