"""Build archives of images, as clients upload them."""

import io
import zipfile
from collections.abc import Mapping

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
