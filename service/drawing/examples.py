"""Read a few images of a dataset, to show them: from an upload, from MNIST's files, or from a sheet.

None of this needs PyTorch. Learning reads the same images in worker/learning/datasets.
"""

import io
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from PIL import Image

from service.drawing.images import Pixels

SIDE = 28
IMAGES_HEADER, TARGETS_HEADER = 16, 8
"""How many bytes LeCun's IDX files have before their images, and before their targets."""
SHEET_COLUMNS = 8
"""How many images of each label a sheet has."""


def split_bytes(pixels: bytes) -> Pixels:
    """Return the images in these bytes, one after the other: uint8 [n, 28, 28]."""
    return np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE)


def read_idx(
    images: Path, targets: Path, *, target: int, transposed: bool, first: int, count: int
) -> tuple[Pixels, int]:
    """Read images of one target from a pair of IDX files: (uint8 [at most count, 28, 28], how many it has).

    transposed: whether rows and columns are stored swapped. Raises OSError, ValueError if a file is cut off.
    """
    found = np.flatnonzero(np.fromfile(targets, np.uint8, offset=TARGETS_HEADER) == target)
    places = found[first : first + count].tolist()
    with images.open("rb") as file:
        parts = []
        for place in places:
            file.seek(IMAGES_HEADER + place * SIDE * SIDE)
            parts.append(file.read(SIDE * SIDE))
    read = split_bytes(b"".join(parts))
    if len(read) != len(places):
        raise ValueError(f"{images} ends before image {places[-1]}")
    return (read.swapaxes(1, 2) if transposed else read), len(found)


def has_sheet(dataset: str) -> bool:
    """Whether images of the dataset come with the service."""
    return _sheet(dataset).is_file()


def read_sheet(dataset: str, row: int, *, first: int, count: int) -> tuple[Pixels, int]:
    """Read images of the label in this row of a sheet: (uint8 [at most count, 28, 28], how many it has)."""
    with Image.open(io.BytesIO(_sheet(dataset).read_bytes())) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    strip = pixels[row * SIDE : (row + 1) * SIDE]
    images = strip.reshape(SIDE, -1, SIDE).swapaxes(0, 1)
    return images[first : first + count], len(images)


def fill(images: Pixels, count: int) -> Pixels:
    """Return `count` images: these, and black ones after them."""
    return np.concatenate([images, np.zeros((count - len(images), SIDE, SIDE), np.uint8)])


def _sheet(dataset: str) -> Traversable:
    return resources.files("service.drawing") / "sheets" / f"{dataset}.png"
