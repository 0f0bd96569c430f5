"""An uploaded archive of images -> images by label, or the reason why not. Nothing is unpickled or unpacked.

Two kinds: an npz of `images` (uint8 [n, 28, 28] or [n, 784]) and `labels` (text or whole numbers, [n]), and a
zip of PNG files in one folder a label. Ink should be bright on black, as MNIST's is.
"""

import io
import math
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from service.registry.labels import NAME

SIDE = 28
PIXELS = SIDE * SIDE
LEAST_IMAGES = 5  # a label: each fifth image is kept for testing
MOST_LABELS = 200
MOST_FILES = 100_000
ENTRY = b"PK\x01\x02"  # begins each entry of a zip's directory
PNG = b"\x89PNG\r\n\x1a\n"
GREY_ENOUGH = ("1", "L", "P", "RGB")  # modes that mean the same in grey: no transparency, no 16 bits
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an unknown compression, a password
    ValueError,
    OverflowError,
    SyntaxError,  # Pillow's word for a broken PNG, numpy's for a broken header
    tokenize.TokenError,
    TypeError,
    KeyError,
    Image.DecompressionBombError,
    Warning,  # of Pillow and numpy, where warnings are errors
)

Images = NDArray[np.uint8]


class InvalidUpload(Exception):
    """The archive cannot be learnt from. `code` is stable; the message says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Upload:
    """Images of every label, in the order they came, labels in theirs: numbers by size, text by alphabet."""

    images: Mapping[str, Images]  # label -> uint8 [n, 784]

    @property
    def counts(self) -> dict[str, int]:
        return {label: len(images) for label, images in self.images.items()}

    def pixels(self) -> bytes:
        """Every image's 784 bytes, label after label: with `counts` the whole upload, whatever carried it."""
        return b"".join(images.tobytes() for images in self.images.values())


def read_upload(data: bytes, *, most_bytes: int) -> Upload:
    """The images of an npz or a zip of PNGs, unpacked no further than `most_bytes`. Raises InvalidUpload."""
    if data.count(ENTRY) > MOST_FILES:
        raise InvalidUpload(
            "payload_too_large", f"the archive has more than {MOST_FILES:,} files; send an npz"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        files = [_checked(info) for info in archive.infolist() if not info.is_dir()]
    except BROKEN as error:
        raise InvalidUpload(
            "invalid_archive", "the body is neither an npz nor a zip of PNG folders, or it is damaged"
        ) from error
    _refuse_large(files, most_bytes)
    _refuse_repeated(files)
    with archive:
        numpy_only = bool(files) and all(info.filename.endswith(".npy") for info in files)
        images = _of_arrays(archive, files) if numpy_only else _of_folders(archive, files)
    _refuse_few(images)
    return Upload(images)


def _checked(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    parts = info.orig_filename.split("/")
    if "\0" in info.orig_filename or "\\" in info.orig_filename or {"", ".", ".."} & set(parts):
        raise InvalidUpload("invalid_path", f"{_told(info)} is not a plain path inside the archive")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidUpload("invalid_path", f"{_told(info)} is a link; put the file itself there")
    if info.flag_bits & 1:
        raise InvalidUpload("invalid_archive", f"{_told(info)} is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidUpload("invalid_archive", f"{_told(info)} is packed in a way other than deflate")
    return info


def _refuse_large(files: list[zipfile.ZipInfo], most_bytes: int) -> None:
    unpacked = sum(info.file_size for info in files)  # reading stops there, whatever is really in it
    if unpacked > most_bytes:
        raise InvalidUpload(
            "payload_too_large",
            f"the archive unpacks to {unpacked:,} bytes, more than the {most_bytes:,} allowed",
        )


def _refuse_repeated(files: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for info in files:
        if info.filename in seen:
            raise InvalidUpload("invalid_path", f"{_told(info)} is in the archive twice")
        seen.add(info.filename)


def _refuse_few(images: Mapping[str, Images]) -> None:
    if not images:
        raise InvalidUpload("too_few_images", "there is no image in the archive")
    _refuse_many(images)
    for label, found in images.items():
        if len(found) < LEAST_IMAGES:
            raise InvalidUpload(
                "too_few_images",
                f"the label {label!r} has {len(found)} images and needs {LEAST_IMAGES}: each fifth is a test",
            )


def _refuse_many(labels: Collection[object]) -> None:
    if len(labels) > MOST_LABELS:
        raise InvalidUpload("too_many_labels", f"there are {len(labels)} labels, more than {MOST_LABELS}")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except BROKEN as error:
        raise InvalidUpload("invalid_archive", f"{_told(info)} is damaged and cannot be unpacked") from error


# --- npz -------------------------------------------------------------------------------------------


def _of_arrays(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> dict[str, Images]:
    named = {info.filename.removesuffix(".npy"): info for info in files}
    if set(named) != {"images", "labels"}:
        found = ", ".join(_short(name) for name in sorted(named))
        raise InvalidUpload(
            "invalid_array", f"an npz holds two arrays, images and labels; this one has: {found}"
        )
    images, labels = (_array(name, _read(archive, named[name])) for name in ("images", "labels"))
    if images.dtype != np.uint8 or images.shape[1:] not in ((SIDE, SIDE), (PIXELS,)):
        wanted = f"uint8 of [n, {SIDE}, {SIDE}] or [n, {PIXELS}]"
        raise InvalidUpload(
            "invalid_array", f"images must be {wanted}, not {images.dtype} of {list(images.shape)}"
        )
    if labels.shape != images.shape[:1]:
        raise InvalidUpload(
            "invalid_array", f"labels must be [{len(images)}], one an image, not {list(labels.shape)}"
        )
    if labels.dtype.kind not in "Uiu":
        raise InvalidUpload("invalid_array", f"labels must be text or whole numbers, not {labels.dtype}")
    try:
        names = sorted(set(labels.tolist()))
    except ValueError as error:
        raise InvalidUpload("invalid_name", "a label is not text") from error
    _refuse_many(names)
    flat = np.ascontiguousarray(images).reshape(len(images), PIXELS)
    return {_label(str(name)): flat[labels == name] for name in names}


def _array(name: str, data: bytes) -> NDArray[Any]:
    """A .npy file without numpy's own reader: no pickle, and nothing allocated that its bytes do not fill."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
        rest = data[file.tell() :]
        if dtype.hasobject or dtype.itemsize == 0:
            raise InvalidUpload(
                "invalid_array", f"{name}.npy holds {dtype}: neither bytes nor text nor numbers"
            )
        if min(shape, default=0) < 0 or len(rest) != dtype.itemsize * math.prod(shape):
            raise InvalidUpload("invalid_array", f"{name}.npy is cut off, or longer than its header says")
        return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    except BROKEN as error:
        raise InvalidUpload("invalid_array", f"{name}.npy is not an array as numpy saves it") from error


# --- a zip of PNG folders --------------------------------------------------------------------------


def _of_folders(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> dict[str, Images]:
    found: dict[str, list[Images]] = {}
    for info in sorted(_pictures(files), key=lambda info: info.filename):
        label = _label(PurePosixPath(info.filename).parts[0])
        found.setdefault(label, []).append(_picture(info, _read(archive, info)))
    return {label: np.stack(images) for label, images in sorted(found.items())}


def _pictures(files: list[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    """All files but those that file managers leave behind."""
    for info in files:
        parts = info.filename.split("/")
        if parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db"):
            continue
        if len(parts) != 2 or not parts[1].lower().endswith(".png"):
            raise InvalidUpload("invalid_path", f"{_told(info)} is not of the form LABEL/NAME.png")
        yield info


def _picture(info: zipfile.ZipInfo, data: bytes) -> Images:
    """A PNG of 28x28 as uint8 [784]. Its size is read before anything is decoded."""
    size = struct.unpack(">II", data[16:24]) if data.startswith(PNG) and len(data) >= 24 else None
    if size is None:
        raise InvalidUpload("invalid_image", f"{_told(info)} is not a PNG")
    if size != (SIDE, SIDE):
        raise InvalidUpload("invalid_image", f"{_told(info)} is {size[0]}x{size[1]}; make it {SIDE}x{SIDE}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.size != size or picture.mode not in GREY_ENOUGH or "transparency" in picture.info:
                advice = "make it 8-bit grey, without transparency"
                raise InvalidUpload("invalid_image", f"{_told(info)} is a {picture.mode} image; {advice}")
            return np.asarray(picture.convert("L")).reshape(PIXELS)
    except BROKEN as error:
        raise InvalidUpload("invalid_image", f"{_told(info)} is damaged and cannot be decoded") from error


def _label(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise InvalidUpload(
            "invalid_name", f"{_short(name)} is no label: 1 to 64 printable characters without a slash"
        )
    return name


def _told(info: zipfile.ZipInfo) -> str:
    return _short(info.orig_filename)


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")
