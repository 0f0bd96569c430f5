"""Build archives of images, as clients upload them."""

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def doodles(each: int = 6, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Random images [each, 28, 28] of two labels."""
    rng = np.random.default_rng(seed)
    return {label: rng.integers(0, 256, (each, 28, 28), dtype=np.uint8) for label in ("bar", "ring")}


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def as_npz(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    labels = np.repeat(list(images), [len(one) for one in images.values()])
    return npz(images=np.concatenate(list(images.values())), labels=labels)


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def png(pixels: NDArray[np.uint8], mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format="PNG")
    return file.getvalue()


def pngs(images: Mapping[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    return {f"{label}/{i:03}.png": png(one) for label, found in images.items() for i, one in enumerate(found)}


def as_folders(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    return zipped(pngs(images))


def drawings(
    each: int = 6, labels: Sequence[str] = ("0", "1"), seed: int = 0
) -> dict[str, NDArray[np.uint8]]:
    """Different images [each, 28, 28] of every label: bright ink on black, with nothing at the border."""
    rng = np.random.default_rng(seed)
    found = {}
    for label in labels:
        images = np.zeros((each, 28, 28), np.uint8)
        images[:, 6:22, 6:22] = rng.integers(0, 256, (each, 16, 16), np.uint8)
        images[:, 6, 6] = 255
        found[label] = images
    return found


def as_arrays(images: Mapping[str, NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """All images [n, 28, 28], and the label of each, [n]."""
    return np.concatenate(list(images.values())), np.repeat(list(images), [len(x) for x in images.values()])
