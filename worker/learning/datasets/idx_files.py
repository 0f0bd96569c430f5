"""Read the files of MNIST and datasets like it, and recognise them: they share names, shapes and counts.

A collection is its bytes. So each file is compared with the sha256 of the files of known collections, and the
header of LeCun's IDX format with what the file has.
"""

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

GZIP = b"\x1f\x8b"
UINT8 = 8
"""How IDX says that the values are bytes."""
PIECE = 1 << 20

_PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_KNOWN = {
    "MNIST": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "FashionMNIST": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
"""{collection: the sha256 of its four files, unpacked}. Of others, the packed files alone are known."""
KNOWN_COLLECTIONS = tuple(_KNOWN)


@dataclass(frozen=True)
class KnownFile:
    """A file of a known collection."""

    collection: str
    name: str


KNOWN_FILES = {
    sha256: KnownFile(collection, name)
    for collection, hashes in _KNOWN.items()
    for name, sha256 in zip(_PARTS, hashes, strict=True)
}
"""{sha256: file}."""


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file, hexadecimal."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def hash_packed(path: Path) -> str | None:
    """Return the sha256 of what a file of gzip unpacks to; None if it is no such file, or damaged."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path) as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    return digest.hexdigest()


def read_bytes(path: Path, *, shape: tuple[int, ...]) -> Tensor:
    """Return the values of an IDX file of bytes: zeros, type, number of axes, sizes of the axes, values.

    Raises ValueError, with what was found and wanted, unless they have this shape.
    """
    content = bytearray(path.read_bytes())
    start = 4 + 4 * len(shape)
    if content.startswith(GZIP):
        raise ValueError(
            f"{path.name} is packed with gzip: unpack it, or call it {path.name}.gz if it is as distributed"
        )
    if len(content) < start or content[:3] != bytes([0, 0, UINT8]):
        raise ValueError(
            f"{path.name} begins with {content[:4].hex() or 'nothing'}, not as an IDX file of bytes"
        )
    what = "images" if len(shape) > 1 else "labels"
    found = struct.unpack_from(f">{len(shape)}I", content, 4) if content[3] == len(shape) else ()
    if found != shape:
        of_shape = f" of the shape {list(found[1:])}" if found[1:] else ""
        described = f"{found[0]}{of_shape}" if found else f"{content[3]} axes"
        raise ValueError(f"expected {shape[0]} {what} in {path.name}, found {described}")
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"{path.name} has {len(content):,} bytes, and {start + math.prod(shape):,} are wanted for "
            f"{shape[0]} {what}"
        )
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)
