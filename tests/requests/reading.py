"""Read an upload in a test, with its files in memory's place: files of the operating system."""

from dataclasses import dataclass
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from service.requests.uploads import read_upload


@dataclass(frozen=True)
class Read:
    """What was read of an archive."""

    counts: dict[str, int]
    sha256: str
    pixels: bytes

    @property
    def images(self) -> dict[str, NDArray[np.uint8]]:
        """{label: uint8 [n, 784]}."""
        whole = np.frombuffer(self.pixels, np.uint8).reshape(-1, 784)
        ends = np.cumsum(list(self.counts.values()))
        return {
            label: whole[end - count : end]
            for (label, count), end in zip(self.counts.items(), ends, strict=True)
        }


def read(archive: bytes, *, max_bytes: int = 1 << 24) -> Read:
    """Read an archive. Raises InvalidUpload."""
    with TemporaryFile() as packed, TemporaryFile() as pixels:
        packed.write(archive)
        packed.flush()
        upload = read_upload(packed, pixels, max_bytes=max_bytes)
        pixels.seek(0)
        return Read(dict(upload.counts), upload.sha256, pixels.read())
