"""Artifacts: published files, named by the sha256 of their bytes. They are checked whenever they are read."""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from service import durable, failpoints
from service.hanging import BoundedCalls
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable

PIECE_BYTES = 1 << 20
IS_SHA256 = re.compile(r"[0-9a-f]{64}")


def encode_document(value: Mapping[str, Any]) -> bytes:
    """Return a JSON document as the bytes of an artifact. Equal values give equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class Content:
    """Bytes to store. Their sha256 is computed once, when it is first needed."""

    data: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class FileContent:
    """The bytes of an open file to store, which need not fit into memory. The caller knows their sha256."""

    file: BinaryIO
    sha256: str

    @property
    def data(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        self.file.seek(0)
        while piece := self.file.read(PIECE_BYTES):
            yield piece


class FolderArtifacts:
    """The artifacts in a folder. A name always stands for the same bytes, so that readers need no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes | Content | FileContent) -> str:
        """Store the bytes durably and return their sha256. A crash leaves the whole file or none."""
        content = Content(data) if isinstance(data, bytes) else data
        path = self.path(content.sha256)
        if not (_is_intact(path, content.sha256) and _renew(path)):
            failpoints.reach("artifact.write")
            durable.write(path, content.data)
        return content.sha256

    def read(self, sha256: str) -> bytes:
        """Return the bytes of that hash. Raises ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt."""
        with _naming(sha256):
            data = self._read_file(self.path(sha256))
        _check(sha256, hashlib.sha256(data).hexdigest())
        return data

    def read_part(self, sha256: str, offset: int, length: int) -> bytes:
        """Return some bytes of an artifact, unchecked: enough to look at, not to learn from.

        Raises ArtifactMissing, ArtifactUnreadable.
        """
        with _naming(sha256):
            return self._read_part(self.path(sha256), offset, length)

    def copy_parts(self, sha256: str, parts: Iterable[tuple[int, int]], target: BinaryIO) -> FileContent:
        """Copy parts of an artifact into the empty file `target`, one after the other.

        parts: (offset, length) in bytes. The whole artifact is checked first. Returns the copy as content to
        store. Raises ArtifactMissing, ArtifactCorrupt; ArtifactUnreadable, also if `target` fails.
        """
        copied = hashlib.sha256()
        with _naming(sha256), _open_regular_file(self.path(sha256)) as file:
            _check(sha256, hashlib.file_digest(file, "sha256").hexdigest())
            for offset, length in parts:
                file.seek(offset)
                for piece in _pieces(file, length):
                    copied.update(piece)
                    target.write(piece)
        target.flush()
        return FileContent(target, copied.hexdigest())

    def exists(self, sha256: str) -> bool:
        """Whether there is a file of that name. Only `read` checks its bytes."""
        return self.path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """Delete the artifact, if there is one. The deletion is durable when this returns."""
        path = self.path(sha256)
        path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # no artifact was ever stored in that folder
            durable.sync_folder(path.parent)

    def stored(self) -> Iterator[str]:
        """Iterate over the sha256 of every artifact in the folder."""
        return (path.name for path in self.all_files() if IS_SHA256.fullmatch(path.name))

    def all_files(self) -> Iterator[Path]:
        """Iterate over every file in the folder, temporary files of interrupted writes among them."""
        for folder in self.folder.glob("??"):
            yield from (path for path in folder.iterdir() if path.is_file())

    def path(self, sha256: str) -> Path:
        """Return the path of the artifact of that hash, whether or not it exists."""
        return self.folder / sha256[:2] / sha256

    def _read_file(self, path: Path) -> bytes:
        with _open_regular_file(path) as file:
            return file.read()

    def _read_part(self, path: Path, offset: int, length: int) -> bytes:
        with _open_regular_file(path) as file:
            file.seek(offset)
            return file.read(length)


class PromptArtifacts(FolderArtifacts):
    """The same for a process that has to answer: reading from a folder that hangs is an error in time."""

    def __init__(self, folder: Path, calls: BoundedCalls) -> None:
        super().__init__(folder)
        self._calls = calls

    def exists(self, sha256: str) -> bool:
        """Whether there is a file of that name. True if the folder hangs: it may be there."""
        try:
            return self._calls.call(super().exists, sha256)
        except TimeoutError:
            return True

    def _read_file(self, path: Path) -> bytes:
        """Read a piece at a time: a large file may take long, but each piece comes in time."""
        file = self._calls.call(_open_regular_file, path)
        data = bytearray()
        while piece := self._calls.call(file.read, PIECE_BYTES):
            data += piece
        file.close()
        return bytes(data)

    def _read_part(self, path: Path, offset: int, length: int) -> bytes:
        return self._calls.call(super()._read_part, path, offset, length)


@contextmanager
def _naming(sha256: str) -> Iterator[None]:
    """Raise ArtifactMissing or ArtifactUnreadable in place of an OSError, with the name of the artifact."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactMissing(sha256) from error
    except OSError as error:
        raise ArtifactUnreadable(sha256, error.strerror or type(error).__name__) from error


def _check(sha256: str, found: str) -> None:
    if found != sha256:
        raise ArtifactCorrupt(
            f"artifact {sha256} was changed after it was stored: its bytes hash to {found}; "
            "restore it from a backup"
        )


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := file.read(min(PIECE_BYTES, length))):
        length -= len(piece)
        yield piece


def _is_intact(path: Path, sha256: str) -> bool:
    """Whether the file exists and its bytes have this hash."""
    try:
        with _open_regular_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _renew(path: Path) -> bool:
    """Make an artifact as new as one that is stored now. False if it was deleted since it was looked at."""
    try:
        durable.sync_name(path)  # the process that wrote it may have died before it flushed the folder
        os.utime(path)  # delete_unreferenced keeps new files
    except FileNotFoundError:
        return False
    return True


def _open_regular_file(path: Path) -> BufferedReader:
    """Open the file to read it. Raises OSError, also for a named pipe or a device, which could wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))
