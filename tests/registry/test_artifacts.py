"""An artifact is complete or missing, and its name is the hash of its bytes."""

import hashlib
import os
from pathlib import Path
from subprocess import run
from sys import executable

import pytest

from service.registry.artifacts import FolderArtifacts
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable

DATA = b"a page, written again" * 1000


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


def test_a_stored_artifact_is_read_by_its_sha256(artifacts: FolderArtifacts) -> None:
    name = artifacts.put(DATA)
    assert name == hashlib.sha256(DATA).hexdigest()
    assert artifacts.read(name) == DATA
    assert artifacts.put(DATA) == name


def test_reading_a_missing_artifact_fails(artifacts: FolderArtifacts) -> None:
    with pytest.raises(ArtifactMissing):
        artifacts.read("0" * 64)


def test_an_unreadable_artifact_is_reported_with_the_reason(artifacts: FolderArtifacts) -> None:
    artifacts.path("0" * 64).mkdir(parents=True)
    with pytest.raises(ArtifactUnreadable, match="directory"):
        artifacts.read("0" * 64)


def test_a_named_pipe_in_place_of_an_artifact_is_refused_and_replaced(artifacts: FolderArtifacts) -> None:
    """Opening it would wait for ever for somebody to write to it."""
    path = artifacts.path(artifacts.put(DATA))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactUnreadable, match="not a regular file"):
        artifacts.read(path.name)
    artifacts.put(DATA)
    assert artifacts.read(path.name) == DATA


def test_an_artifact_that_is_deleted_while_it_is_put_again_is_stored(
    artifacts: FolderArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of unused files deletes it between the look at its bytes and the renewal of its time."""
    name, utime = artifacts.put(DATA), os.utime

    def after_a_collection(path: Path) -> None:
        artifacts.delete(name)
        utime(path)

    monkeypatch.setattr(os, "utime", after_a_collection)
    assert artifacts.put(DATA) == name
    assert artifacts.read(name) == DATA


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_corrupt_artifact_is_not_read_and_the_next_put_repairs_it(
    artifacts: FolderArtifacts, damage: str
) -> None:
    name = artifacts.put(DATA)
    changed = {"flip": bytes([DATA[0] ^ 1]) + DATA[1:], "truncate": DATA[:-1], "empty": b""}[damage]
    artifacts.path(name).write_bytes(changed)
    with pytest.raises(ArtifactCorrupt, match=name):
        artifacts.read(name)
    artifacts.put(DATA)
    assert artifacts.read(name) == DATA


def test_a_put_that_fails_leaves_nothing(artifacts: FolderArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        artifacts.put(DATA)
    assert [path for path in artifacts.folder.rglob("*") if path.is_file()] == []


def test_a_process_killed_while_putting_leaves_no_artifact(artifacts: FolderArtifacts) -> None:
    """The process is killed after the bytes are written, before the file is renamed."""
    script = f"""
import os, signal
from pathlib import Path
from service.registry.artifacts import FolderArtifacts
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
FolderArtifacts(Path({str(artifacts.folder)!r})).put({DATA[:100]!r})
"""
    assert run([executable, "-c", script]).returncode == -9
    with pytest.raises(ArtifactMissing):
        artifacts.read(hashlib.sha256(DATA[:100]).hexdigest())
