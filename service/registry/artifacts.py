"""Published files, named by the sha256 of their bytes: durable when `put` returns, checked when read."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from service import durable
from service.registry.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable


def document(value: Mapping[str, Any]) -> bytes:
    """A JSON document as it is stored: equal values give equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class Content:
    """Bytes to store. Their sha256 is computed once, when it is first needed, and is always theirs."""

    data: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class FolderArtifacts:
    """Artifacts in one folder. A name never gets other bytes, so readers need no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes | Content) -> str:
        """Store the bytes and return their sha256. A crash at any moment leaves all of them or none."""
        content = data if isinstance(data, Content) else Content(data)
        path = self.path(content.sha256)
        if _holds(path, content.sha256):
            durable.sync_name(path)  # whoever wrote it may have died before its name was durable
            os.utime(path)  # young again: it is about to be referred to
        else:
            durable.write(path, content.data)
        return content.sha256

    def read(self, sha256: str) -> bytes:
        """The bytes of that hash, checked. Raises ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt."""
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactMissing(sha256) from error
        except OSError as error:
            raise ArtifactUnreadable(sha256, error.strerror or type(error).__name__) from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ArtifactCorrupt(
                f"artifact {sha256} has bytes that hash to {found}; restore it from a backup"
            )
        return data

    def holds(self, sha256: str) -> bool:
        """Whether a file of that name is there; `read` tells whether it is whole."""
        return self.path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """Its name is durably gone when this returns; deleting what is not there is fine."""
        path = self.path(sha256)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            durable.sync_folder(path.parent)

    def every(self) -> Iterator[Path]:
        """Every file of the folder, halves that a killed `put` left among them."""
        for folder in self.folder.glob("??"):
            yield from (path for path in folder.iterdir() if path.is_file())

    def path(self, sha256: str) -> Path:
        """Where the bytes of that hash are (or would be)."""
        return self.folder / sha256[:2] / sha256


def _holds(path: Path, sha256: str) -> bool:
    """Whether the file is there and whole: a corrupt or unreadable one is written anew."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
