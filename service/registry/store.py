"""A store of files by name: what a folder (folder_store.py) and a bucket of S3 storage (s3_store.py) can do.

Names are relative paths with `/`. What is stored is complete or not there at all, and durable once the call
returns. Every method raises OSError if the store cannot be used; its errno is that of a disk in the same
state (`DISK_FULL`, `DISK_FAILED`), also for a bucket.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from service.durable import UNFINISHED

PIECE_BYTES = 1 << 20
"""The largest piece that is read at a time."""
LINK_SECONDS = 60.0
"""How long a link of a bucket can be used."""


class StoreFailed(OSError):
    """A bucket cannot be used now: it does not answer, refuses the credentials, or is full."""


@dataclass(frozen=True)
class Stored:
    """A file in a store, or what an interrupted write left there."""

    name: str
    bytes: int
    modified_at: float
    """In seconds since 1970."""
    is_current: bool = True
    """False for a file that was deleted, and of which a bucket has old versions left."""

    @property
    def last_part(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.name).name

    @property
    def is_unfinished(self) -> bool:
        """Whether an interrupted write left it."""
        return self.last_part.startswith(UNFINISHED)


class Store(Protocol):
    """Files by name."""

    @property
    def place(self) -> str:
        """Where it is, for people: `the artifact folder /...` or `the bucket s3://...`."""

    @property
    def is_bucket(self) -> bool:
        """Whether it is a bucket, which may keep old versions of deleted files."""

    def write(self, name: str, data: bytes | Iterable[bytes], *, replace: bool = True) -> None:
        """Store the bytes, or pieces of them. With `replace=False` a file that exists stays as it is."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `offset` on, `length` of them or all, in pieces of PIECE_BYTES or fewer.

        Raises FileNotFoundError.
        """

    def find(self, name: str) -> Stored | None:
        """Return what is stored under the name; None if nothing is."""

    def renew(self, name: str) -> bool:
        """Make the file durable, and as new as one that is stored now. False if there is none."""

    def delete(self, names: Collection[str]) -> dict[str, str]:
        """Delete the files, where they exist, and every old version of them. The deletion is durable.

        Returns {name: why something of it is left}: a bucket may refuse to delete old versions.
        """

    def list(self, under: str = "", *, leftovers: bool = False) -> Iterator[Stored]:
        """Iterate over the files under this folder.

        leftovers: also over what interrupted writes left, and over deleted files whose old versions are left.
        """

    def link(self, name: str, *, seconds: float) -> str | None:
        """Return a URL from which anybody can download the file for so long; None if there are no such."""

    def is_cause_of(self, error: Exception) -> bool:
        """Whether the error is one of the whole store, not of the one file that could not be read."""

    def check(self) -> None:
        """Check before the first use that the place can be a store. Raises StoreUnusable."""

    def describe_fault(self) -> str | None:
        """Say for clients why the store cannot be used now; None if it can be."""

    def describe_retention(self) -> str | None:
        """Say what may keep the store from deleting a file completely; None if nothing does."""
