"""Read an upload in a test, with its files in memory's place: files of the operating system."""

from dataclasses import dataclass
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from service.requests.upload_notes import Note
from service.requests.uploads import read_upload


@dataclass(frozen=True)
class Read:
    """What was read of an archive."""

    counts: dict[str, int]
    sha256: str
    pixels: bytes
    held_out: dict[str, int] | None
    conversions: tuple[Note, ...]
    warnings: tuple[Note, ...]

    @property
    def images(self) -> dict[str, NDArray[np.uint8]]:
        """{label: uint8 [n, 784]}."""
        whole = np.frombuffer(self.pixels, np.uint8).reshape(-1, 784)
        ends = np.cumsum(list(self.counts.values()))
        return {
            label: whole[end - count : end]
            for (label, count), end in zip(self.counts.items(), ends, strict=True)
        }


def read(archive: bytes, *, max_bytes: int = 1 << 24, fitting: bool = False) -> Read:
    """Read an archive. Raises InvalidUpload."""
    with TemporaryFile() as packed, TemporaryFile() as pixels:
        packed.write(archive)
        packed.flush()
        upload = read_upload(packed, pixels, max_bytes=max_bytes, fitting=fitting)
        pixels.seek(0)
        return Read(
            dict(upload.counts),
            upload.sha256,
            pixels.read(),
            None if upload.held_out is None else dict(upload.held_out),
            tuple(upload.conversions),
            tuple(upload.warnings),
        )
