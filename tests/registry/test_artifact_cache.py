"""Copies of what was read from a bucket are bounded, checked, and leave nothing behind."""

import hashlib
import os
import signal
from pathlib import Path
from subprocess import run
from sys import executable

import pytest

from service.hanging import BoundedCalls
from service.registry.artifact_cache import MAX_FILES, ArtifactCache
from service.registry.artifacts import PromptArtifacts, name_of
from service.registry.folder_store import FolderStore


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def filled(folder: Path, *contents: bytes, max_bytes: int = 1000) -> ArtifactCache:
    cache = ArtifactCache(folder, max_bytes=max_bytes)
    for data in contents:
        cache.add(name(data), data)
    return cache


def test_the_copy_that_was_used_longest_ago_leaves_first(tmp_path: Path) -> None:
    first, second, third = (bytes([number]) * 240 for number in range(3))
    cache = filled(tmp_path, first, second, third, bytes([3]) * 240)
    assert cache.read(name(first)) == first
    cache.add(name(b"x" * 100), b"x" * 100)
    assert cache.read(name(second)) is None
    assert cache.read(name(first)) == first
    cache.add(name(b"y" * 251), b"y" * 251)
    assert cache.read(name(b"y" * 251)) is None, "it alone would be more than a quarter"


def test_no_more_than_so_many_files_are_open(tmp_path: Path) -> None:
    contents = [b"%d" % number for number in range(MAX_FILES + 5)]
    cache = filled(tmp_path, *contents, max_bytes=1 << 20)
    assert cache.names() == {name(data) for data in contents[5:]}


def test_a_copy_that_the_disk_has_changed_is_dropped(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, max_bytes=1000)
    cache.add(name(b"right"), b"wrong")
    assert cache.read(name(b"right")) is None
    assert cache.names() == set()


def test_a_killed_process_leaves_no_copy_on_the_disk(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from service.registry.artifact_cache import ArtifactCache
cache = ArtifactCache(Path({str(tmp_path)!r}), max_bytes=1000)
cache.add("0" * 64, b"weights")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run([executable, "-c", script]).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_for_copies_is_no_error() -> None:
    cache = ArtifactCache(Path("/proc/no-folder"), max_bytes=1000)
    cache.add(name(b"x"), b"x")
    assert cache.read(name(b"x")) is None


def test_what_is_in_the_cache_is_read_without_the_store_until_the_store_has_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    cache = ArtifactCache(tmp_path / "cache", max_bytes=1000)
    artifacts = PromptArtifacts(store, BoundedCalls(10.0), cache)
    purged, kept = artifacts.put(b"purged"), artifacts.put(b"kept")
    descriptors = len(os.listdir("/proc/self/fd"))
    assert [artifacts.read(one) for one in (purged, kept)] == [b"purged", b"kept"]
    with monkeypatch.context() as patch:
        patch.setattr(store, "read", lambda *_: pytest.fail("the store was asked"))
        assert artifacts.read(kept) == b"kept"
    store.delete([name_of(purged)])
    gone = artifacts.find_copies_without_file()
    assert gone == {purged}
    artifacts.drop_copies(gone)
    assert cache.names() == {kept}
    artifacts.drop_copies([kept])
    assert len(os.listdir("/proc/self/fd")) == descriptors, "the kernel has deleted both copies"
