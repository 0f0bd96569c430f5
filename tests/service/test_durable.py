"""A file appears under its name whole or not at all, and nothing else is left in its folder."""

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


def test_other_users_can_read_what_is_written(tmp_path: Path) -> None:
    durable.write(tmp_path / "file", b"")
    durable.write_atomically(tmp_path / "message", b"")
    durable.create_folder(tmp_path / "folder", {})
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o644, "message": 0o644, "folder": 0o755}


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
