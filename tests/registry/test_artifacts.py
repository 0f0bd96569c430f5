"""An artifact is complete or missing, and its name is the hash of its bytes."""

import hashlib
import os
from pathlib import Path
from subprocess import run
from sys import executable
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import pytest

from service.registry.artifacts import Artifacts, FileContent, FolderArtifacts, name_of
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable

DATA = b"a page, written again" * 1000


@pytest.fixture
def in_folder(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


def test_a_stored_artifact_is_read_by_its_sha256(artifacts: Artifacts) -> None:
    name = artifacts.put(DATA)
    assert name == hashlib.sha256(DATA).hexdigest()
    assert artifacts.read(name) == DATA
    assert artifacts.put(DATA) == name


def test_reading_a_missing_artifact_fails(artifacts: Artifacts) -> None:
    with pytest.raises(ArtifactMissing):
        artifacts.read("0" * 64)


def test_an_unreadable_artifact_is_reported_with_the_reason(in_folder: FolderArtifacts) -> None:
    in_folder.path("0" * 64).mkdir(parents=True)
    with pytest.raises(ArtifactUnreadable, match="directory"):
        in_folder.read("0" * 64)


def test_a_named_pipe_in_place_of_an_artifact_is_refused_and_replaced(in_folder: FolderArtifacts) -> None:
    """Opening it would wait for ever for somebody to write to it."""
    path = in_folder.path(in_folder.put(DATA))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactUnreadable, match="not a regular file"):
        in_folder.read(path.name)
    in_folder.put(DATA)
    assert in_folder.read(path.name) == DATA


def test_an_artifact_that_is_deleted_while_it_is_put_again_is_stored(
    in_folder: FolderArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of unused files deletes it between the look at its bytes and the renewal of its time."""
    name, utime = in_folder.put(DATA), os.utime

    def after_a_collection(path: Path) -> None:
        in_folder.delete(name)
        utime(path)

    monkeypatch.setattr(os, "utime", after_a_collection)
    assert in_folder.put(DATA) == name
    assert in_folder.read(name) == DATA


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_corrupt_artifact_is_not_read_and_the_next_put_repairs_it(
    artifacts: Artifacts, damage: str
) -> None:
    name = artifacts.put(DATA)
    changed = {"flip": bytes([DATA[0] ^ 1]) + DATA[1:], "truncate": DATA[:-1], "empty": b""}[damage]
    artifacts.store.write(name_of(name), changed)
    with pytest.raises(ArtifactCorrupt, match=name):
        artifacts.read(name)
    artifacts.put(DATA)
    assert artifacts.read(name) == DATA


def test_a_put_that_fails_leaves_nothing(in_folder: FolderArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        in_folder.put(DATA)
    assert [path for path in in_folder.folder.rglob("*") if path.is_file()] == []


def test_a_process_killed_while_putting_leaves_no_artifact(in_folder: FolderArtifacts) -> None:
    """The process is killed after the bytes are written, before the file is renamed."""
    script = f"""
import os, signal
from pathlib import Path
from service.registry.artifacts import FolderArtifacts
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
FolderArtifacts(Path({str(in_folder.folder)!r})).put({DATA[:100]!r})
"""
    assert run([executable, "-c", script]).returncode == -9
    with pytest.raises(ArtifactMissing):
        in_folder.read(hashlib.sha256(DATA[:100]).hexdigest())


def test_parts_of_an_artifact_are_read_and_copied(artifacts: Artifacts) -> None:
    name = artifacts.put(DATA)
    assert artifacts.read_part(name, 2, 4) == DATA[2:6]
    assert artifacts.read_part(name, len(DATA) - 3, 10) == DATA[-3:]
    assert artifacts.read_part(name, 5, 0) == b""
    with TemporaryFile() as file:
        copy = artifacts.copy_parts(name, [(2, 4), (10, 0), (20, 5)], cast(BinaryIO, file))
        assert artifacts.read(artifacts.put(copy)) == DATA[2:6] + DATA[20:25]


def test_a_file_that_is_longer_than_a_piece_is_stored_and_read_whole(artifacts: Artifacts) -> None:
    data = os.urandom(1 << 20) * 20
    with TemporaryFile() as file:
        file.write(data)
        name = artifacts.put(FileContent(cast(BinaryIO, file), hashlib.sha256(data).hexdigest()))
    assert artifacts.read(name) == data
    assert artifacts.read_part(name, 9 << 20, 5) == data[:5]


def test_a_deleted_artifact_is_gone_and_deleting_it_again_does_nothing(artifacts: Artifacts) -> None:
    name, other = artifacts.put(DATA), artifacts.put(b"other")
    assert {file.last_part for file in artifacts.files()} == {name, other}
    assert artifacts.delete(name, "0" * 64) == {}
    assert (artifacts.exists(name), artifacts.exists(other)) == (False, True)
    assert artifacts.delete(name) == {}
    with pytest.raises(ArtifactMissing):
        artifacts.read(name)


def test_a_store_with_other_files_lists_only_its_artifacts(artifacts: Artifacts) -> None:
    name = artifacts.put(DATA)
    artifacts.store.write("store-id", b"1")
    artifacts.store.write("released/job_1.2", b"")
    assert [(file.last_part, file.bytes) for file in artifacts.files(leftovers=True)] == [(name, len(DATA))]
    assert [file.name for file in artifacts.store.list("released")] == ["released/job_1.2"]


def test_a_file_that_exists_is_not_replaced_unless_it_may_be(artifacts: Artifacts) -> None:
    store = artifacts.store
    for data in (b"first", b"second"):
        store.write("store-id", data, replace=False)
    assert b"".join(store.read("store-id")) == b"first"
    store.write("store-id", b"third")
    assert b"".join(store.read("store-id")) == b"third"
