"""Copies of artifacts that were read from a bucket, on the local disk, bounded by their bytes.

They lie in files without a name, so that none outlives the process, however it ends.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

MAX_FILES = 256
"""How many copies are kept open at most."""


class ArtifactCache:
    """{sha256: bytes}. The copy that was used longest ago leaves first. Thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """folder: on the disk for the copies; it is made with the first. max_bytes: of all together."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._files: OrderedDict[str, _UnnamedFile] = OrderedDict()

    def read(self, sha256: str) -> bytes | None:
        """Return the bytes of that hash, checked; None if there is no whole copy."""
        with self._lock:
            file = self._files.get(sha256)
            if file is None:
                return None
            self._files.move_to_end(sha256)
        with suppress(OSError):
            data = file.read()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        self.drop([sha256])
        return None

    def add(self, sha256: str, data: bytes) -> None:
        """Keep a copy, unless the disk is full or it alone is larger than a quarter of the cache."""
        if len(data) > self._max_bytes / 4:
            return
        try:
            file = _UnnamedFile(self._folder, data)
        except OSError:
            return
        with self._lock:
            self._files[sha256] = file
            self._files.move_to_end(sha256)
            while self._bytes() > self._max_bytes or len(self._files) > MAX_FILES:
                self._files.popitem(last=False)

    def names(self) -> set[str]:
        """Return the sha256 of every copy."""
        with self._lock:
            return set(self._files)

    def drop(self, names: Collection[str]) -> None:
        """Delete these copies."""
        with self._lock:
            for sha256 in names:
                self._files.pop(sha256, None)

    def _bytes(self) -> int:
        return sum(file.bytes for file in self._files.values())


class _UnnamedFile:
    """A file that the kernel deletes once nobody in this process refers to it."""

    def __init__(self, folder: Path, data: bytes) -> None:
        """Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.bytes = len(data)
        with TemporaryFile(dir=folder) as file:
            file.write(data)
            file.flush()
            self._descriptor = os.dup(file.fileno())

    def read(self) -> bytes:
        """Return the bytes, or fewer if the disk has lost some. Raises OSError."""
        return os.pread(self._descriptor, self.bytes, 0)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be written
            os.close(self._descriptor)
