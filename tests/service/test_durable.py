"""A file appears under its name whole or not at all, and nothing else is left in its folder."""

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from sys import executable

import pytest

from service import durable


def test_write_replaces_the_file_and_creates_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    durable.write(path, b"first")
    durable.write(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_create_leaves_a_file_of_that_name_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    durable.create(path, b"first", mode=0o600)
    durable.create(path, b"second")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_create_folder_leaves_a_folder_with_files_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    durable.create_folder(folder, {"a": b"first", "b": b"too"})
    durable.create_folder(folder, {"a": b"second"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"first", "b": b"too"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("umask", "expected"), [(0o077, (0o600, 0o700)), (0o007, (0o660, 0o770)), (0o022, (0o644, 0o755))]
)
def test_the_umask_decides_who_can_read_what_is_written(
    umask: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        durable.write(tmp_path / "file", b"")
        durable.create(tmp_path / "created", b"")
        durable.create(tmp_path / "key", b"", mode=0o600)
        durable.write_atomically(tmp_path / "message", b"")
        durable.create_folder(tmp_path / "folder", {"a": b""})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    file, folder = expected
    assert modes == {
        "file": file,
        "created": file,
        "key": 0o600,
        "message": file,
        "folder": folder,
        "a": file,
    }


@pytest.mark.parametrize(
    "write",
    [
        lambda path: durable.write(path, b"second"),
        lambda path: durable.create(path.with_name("other"), b"second"),
        lambda path: durable.create_folder(path.with_name("other"), {"a": b"second"}),
    ],
    ids=["write", "create", "create_folder"],
)
def test_a_write_to_a_full_disk_fails_and_leaves_what_was_there(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


KILLED_BEFORE_THE_NAME_CHANGES = """
import os, signal, sys
from pathlib import Path
from service import durable
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
durable.write(Path(sys.argv[1]), b"second")
"""


def test_a_process_killed_while_it_writes_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    assert run([executable, "-c", KILLED_BEFORE_THE_NAME_CHANGES, str(path)]).returncode == -9
    assert path.read_bytes() == b"first"
