"""Artifacts: published files, named by the sha256 of their bytes. They are checked whenever they are read."""

import errno
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from service import failpoints
from service.hanging import BoundedCalls
from service.registry.artifact_cache import ArtifactCache
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable
from service.registry.folder_store import FolderStore
from service.registry.store import PIECE_BYTES, Store, Stored, StoreFailed

SHARD = 2
"""How many characters of its sha256 the folder of an artifact is named by."""


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


class Artifacts:
    """The artifacts in a store. A name always stands for the same bytes, so that readers need no lock."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def place(self) -> str:
        """Where they lie, for people."""
        return self.store.place

    def put(self, data: bytes | Content | FileContent) -> str:
        """Store the bytes durably and return their sha256. A crash leaves the whole file or none."""
        content = Content(data) if isinstance(data, bytes) else data
        name = name_of(content.sha256)
        if not (self._is_intact(content.sha256) and self.store.renew(name)):
            failpoints.reach("artifact.write")
            self.store.write(name, content.data)
        return content.sha256

    def read(self, sha256: str) -> bytes:
        """Return the bytes of that hash. Raises ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt."""
        with _naming(sha256):
            data = b"".join(self.pieces(sha256))
        _check(sha256, hashlib.sha256(data).hexdigest())
        return data

    def read_part(self, sha256: str, offset: int, length: int) -> bytes:
        """Return some bytes of an artifact, unchecked: enough to look at, not to learn from.

        Raises ArtifactMissing, ArtifactUnreadable.
        """
        with _naming(sha256):
            return b"".join(self.pieces(sha256, offset, length))

    def pieces(self, sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield bytes of an artifact, unchecked, in pieces. Raises FileNotFoundError, OSError."""
        return self.store.read(name_of(sha256), offset, length)

    def copy_parts(self, sha256: str, parts: Iterable[tuple[int, int]], target: BinaryIO) -> FileContent:
        """Copy parts of an artifact into the empty file `target`, one after the other.

        parts: (offset, length) in bytes. The whole artifact is checked first. Returns the copy as content to
        store. Raises ArtifactMissing, ArtifactCorrupt; ArtifactUnreadable, also if `target` fails.
        """
        copied = hashlib.sha256()
        with _naming(sha256):
            _check(sha256, _hash(self.pieces(sha256)))
            for offset, length in parts:
                for piece in self.pieces(sha256, offset, length):
                    copied.update(piece)
                    target.write(piece)
        target.flush()
        return FileContent(target, copied.hexdigest())

    def exists(self, sha256: str) -> bool:
        """Whether there is a file of that name. Only `read` checks its bytes."""
        return self.store.find(name_of(sha256)) is not None

    def fails_as_a_whole(self, error: ArtifactUnreadable) -> bool:
        """Whether the error is one of the whole store, not of the one artifact that could not be read."""
        return isinstance(error.__cause__, TimeoutError) or self.store.is_cause_of(error)

    def require_answer(self) -> None:
        """Raise StoreFailed if a bucket does not answer. Call it before a transaction that deletes artifacts.

        Otherwise the transaction would hold its locks for as long as it waits for the bucket.
        """
        if self.store.is_bucket and (fault := self.store.describe_fault()) is not None:
            raise StoreFailed(errno.ETIMEDOUT, fault)

    def delete(self, *sha256: str) -> dict[str, str]:
        """Delete the artifacts, where there are any. The deletion is durable when this returns.

        Returns {sha256: why something of it is left}: a bucket may refuse to delete old versions.
        """
        names = {name_of(one): one for one in sha256}
        return {names[name]: why for name, why in self.store.delete(list(names)).items()}

    def files(self, *, leftovers: bool = False) -> Iterator[Stored]:
        """Iterate over every artifact. leftovers: also over those of artifacts (`Store.list`)."""
        found = self.store.list(leftovers=leftovers)
        return (file for file in found if file.name.find("/") == SHARD)

    def _is_intact(self, sha256: str) -> bool:
        """Whether the file exists and its bytes have this hash."""
        try:
            return _hash(self.store.read(name_of(sha256))) == sha256
        except OSError:
            return False


class FolderArtifacts(Artifacts):
    """The artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderStore(folder))
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Return the path of the artifact of that hash, whether or not it exists."""
        return self.folder / name_of(sha256)

    def all_files(self) -> Iterator[Path]:
        """Iterate over the paths of `files`, with the leftovers."""
        return (self.folder / file.name for file in self.files(leftovers=True))


class PromptArtifacts(Artifacts):
    """The same for a process that has to answer: reading from a store that hangs is an error in time."""

    def __init__(self, store: Store, calls: BoundedCalls, cache: ArtifactCache | None = None) -> None:
        """cache: for copies of what is read; None for a store that is as near as a cache."""
        super().__init__(store)
        self._calls = calls
        self._cache = cache

    def read(self, sha256: str) -> bytes:
        """Return the bytes of that hash. Raises ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt."""
        if self._cache is None:
            return super().read(sha256)
        data = self._cache.read(sha256)
        if data is None:
            data = super().read(sha256)
            self._cache.add(sha256, data)
        return data

    def link(self, sha256: str, *, seconds: float) -> str | None:
        """Return a URL for the download of an artifact that exists; None if the store has no such URLs.

        Raises ArtifactMissing, ArtifactUnreadable.
        """
        with _naming(sha256):
            if not self.exists(sha256):
                raise FileNotFoundError
            return self._calls.call(self.store.link, name_of(sha256), seconds=seconds)

    def find_copies_without_file(self) -> set[str]:
        """Return the sha256 of those copies in the cache whose artifact is missing: it was purged."""
        copies = set() if self._cache is None else self._cache.names()
        return {sha256 for sha256 in copies if not self.exists(sha256)}

    def drop_copies(self, names: Collection[str]) -> None:
        """Delete these copies from the cache."""
        if self._cache is not None:
            self._cache.drop(names)

    def exists(self, sha256: str) -> bool:
        """Whether there is a file of that name. True if the store hangs: it may be there."""
        try:
            return self._calls.call(super().exists, sha256)
        except TimeoutError:
            return True

    def pieces(self, sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read a piece at a time: a large file may take long, but each piece comes in time."""
        pieces = super().pieces(sha256, offset, length)
        while piece := self._calls.call(next, pieces, b""):
            yield piece


def name_of(sha256: str) -> str:
    """Return the name of an artifact in its store."""
    return f"{sha256[:SHARD]}/{sha256}"


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


def _hash(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
