"""Read the images of every label from an uploaded archive, or refuse it with the reason.

There are two kinds of archive: an npz of `images` (uint8 [n, 28, 28] or [n, 784]) and `labels` (text or whole
numbers, [n]), and a zip of PNG files with one folder for each label. The ink should be bright on black, as
MNIST's is. The archive is not trusted: nothing in it is unpickled, and nothing is written to the disk.
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

from service.registry.labels import NAME, RULE
from service.registry.names import find_fault

SIDE = 28
PIXELS = SIDE * SIDE
MIN_IMAGES_PER_LABEL = 5  # of each label, because every fifth image is kept for testing
MAX_LABELS = 200
MAX_FILES = 100_000
ZIP_ENTRY = b"PK\x01\x02"  # the first bytes of each entry in the directory of a zip
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CONVERTIBLE_MODES = ("1", "L", "P", "RGB")
"""The modes of Pillow that lose nothing when converted to 8-bit grey: no transparency, no 16 bits."""
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an unknown compression, a password
    ValueError,
    OverflowError,
    SyntaxError,  # a damaged PNG in Pillow, a damaged header in numpy
    tokenize.TokenError,
    TypeError,
    KeyError,
    Image.DecompressionBombError,
    Warning,  # of Pillow and numpy, if warnings are errors
)
"""What the libraries raise for a damaged archive, array or image."""

Images = NDArray[np.uint8]


class InvalidUpload(Exception):
    """The archive cannot be learned from. `code` is stable; the message says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Upload:
    """The images of every label, in the order of an npz, or of the file names in a zip.

    The labels are in order: numbers by size, text by alphabet.
    """

    images: Mapping[str, Images]
    """{label: uint8 [n, 784]}."""

    @property
    def counts(self) -> dict[str, int]:
        """{label: how many images it has}."""
        return {label: len(images) for label, images in self.images.items()}

    def pixels(self) -> bytes:
        """Return the 784 bytes of every image, label after label. The kind of archive makes no difference."""
        return b"".join(images.tobytes() for images in self.images.values())


def read_upload(data: bytes, *, max_bytes: int) -> Upload:
    """Read an npz or a zip of PNGs that unpacks to `max_bytes` at most. Raises InvalidUpload."""
    if data.count(ZIP_ENTRY) > MAX_FILES:
        raise InvalidUpload(
            "payload_too_large", f"the archive has more than {MAX_FILES:,} files; send an npz instead"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        files = [_check_entry(info) for info in archive.infolist() if not info.is_dir()]
    except DAMAGED as error:
        raise InvalidUpload(
            "invalid_archive", "the body is neither an npz nor a zip of PNG folders, or it is damaged"
        ) from error
    _refuse_large(files, max_bytes)
    _refuse_repeated(files)
    with archive:
        numpy_only = bool(files) and all(info.filename.endswith(".npy") for info in files)
        images = _read_arrays(archive, files) if numpy_only else _read_folders(archive, files)
    _refuse_wrong_counts(images)
    return Upload(images)


def _check_entry(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    parts = info.orig_filename.split("/")
    if "\0" in info.orig_filename or "\\" in info.orig_filename or {"", ".", ".."} & set(parts):
        raise InvalidUpload(
            "invalid_path", f"{_name(info)} is not a plain path inside the archive; use LABEL/NAME.png"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidUpload("invalid_path", f"{_name(info)} is a link; put the file itself there")
    if info.flag_bits & 1:
        raise InvalidUpload("invalid_archive", f"{_name(info)} is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidUpload(
            "invalid_archive", f"{_name(info)} is compressed in a way other than deflate; use deflate"
        )
    return info


def _refuse_large(files: list[zipfile.ZipInfo], max_bytes: int) -> None:
    unpacked = sum(info.file_size for info in files)  # zipfile reads no more of a file than its entry says
    if unpacked > max_bytes:
        raise InvalidUpload(
            "payload_too_large",
            f"the archive unpacks to {unpacked:,} bytes, more than the {max_bytes:,} allowed; leave some out",
        )


def _refuse_repeated(files: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for info in files:
        if info.filename in seen:
            raise InvalidUpload("invalid_path", f"{_name(info)} is in the archive twice; keep one of them")
        seen.add(info.filename)


def _refuse_wrong_counts(images: Mapping[str, Images]) -> None:
    if not images:
        raise InvalidUpload("too_few_images", "the archive contains no image")
    _refuse_too_many_labels(images)
    for label, found in images.items():
        if len(found) < MIN_IMAGES_PER_LABEL:
            raise InvalidUpload(
                "too_few_images",
                f"the label {label!r} has {len(found)} images and needs at least {MIN_IMAGES_PER_LABEL}, "
                "because every fifth image is kept for testing",
            )


def _refuse_too_many_labels(labels: Collection[object]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidUpload(
            "too_many_labels", f"there are {len(labels)} labels, more than the {MAX_LABELS} allowed"
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except DAMAGED as error:
        raise InvalidUpload("invalid_archive", f"{_name(info)} is damaged and cannot be unpacked") from error


# --- npz -------------------------------------------------------------------------------------------


def _read_arrays(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> dict[str, Images]:
    named = {info.filename.removesuffix(".npy"): info for info in files}
    if set(named) != {"images", "labels"}:
        found = ", ".join(_shorten(name) for name in sorted(named))
        raise InvalidUpload(
            "invalid_array",
            f"the npz must contain the arrays 'images' and 'labels' only; it contains: {found}",
        )
    images, labels = (_parse_array(name, _read(archive, named[name])) for name in ("images", "labels"))
    if images.dtype != np.uint8 or images.shape[1:] not in ((SIDE, SIDE), (PIXELS,)):
        wanted = f"uint8 of [n, {SIDE}, {SIDE}] or [n, {PIXELS}]"
        raise InvalidUpload(
            "invalid_array",
            f"the array 'images' must be {wanted}, not {images.dtype} of {list(images.shape)}",
        )
    if labels.shape != images.shape[:1]:
        raise InvalidUpload(
            "invalid_array",
            f"the array 'labels' must have the shape [{len(images)}], one label for each image, "
            f"not {list(labels.shape)}",
        )
    if labels.dtype.kind not in "Uiu":
        raise InvalidUpload(
            "invalid_array", f"the array 'labels' must be text or integers, not {labels.dtype}"
        )
    try:
        names = sorted(set(labels.tolist()))
    except ValueError as error:
        raise InvalidUpload(
            "invalid_name", "the array 'labels' contains a text that is not valid Unicode"
        ) from error
    _refuse_too_many_labels(names)
    flat = np.ascontiguousarray(images).reshape(len(images), PIXELS)
    return {_check_label(str(name)): flat[labels == name] for name in names}


def _parse_array(name: str, data: bytes) -> NDArray[Any]:
    """Parse a .npy file.

    numpy.load is not used, because it unpickles objects, and because it allocates as much memory as the
    header claims before it has read as many bytes.
    """
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
        rest = data[file.tell() :]
        if dtype.hasobject or dtype.itemsize == 0:
            raise InvalidUpload(
                "invalid_array", f"the array {name!r} contains {dtype}, which is neither numbers nor text"
            )
        if min(shape, default=0) < 0 or len(rest) != dtype.itemsize * math.prod(shape):
            raise InvalidUpload(
                "invalid_array", f"the array {name!r} has fewer or more bytes than its header says"
            )
        return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    except DAMAGED as error:
        raise InvalidUpload(
            "invalid_array", f"{name}.npy is not an array in a format that numpy saves"
        ) from error


# --- a zip of PNG folders --------------------------------------------------------------------------


def _read_folders(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> dict[str, Images]:
    found: dict[str, list[Images]] = {}
    for info in sorted(_image_files(files), key=lambda info: info.filename):
        label = _check_label(PurePosixPath(info.filename).parts[0])
        found.setdefault(label, []).append(_read_image(info, _read(archive, info)))
    return {label: np.stack(images) for label, images in sorted(found.items())}


def _image_files(files: list[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    """Yield the image files. Skip the files that file managers leave behind."""
    for info in files:
        parts = info.filename.split("/")
        if parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db"):
            continue
        if len(parts) != 2 or not parts[1].lower().endswith(".png"):
            raise InvalidUpload("invalid_path", f"{_name(info)} is not of the form LABEL/NAME.png")
        yield info


def _read_image(info: zipfile.ZipInfo, data: bytes) -> Images:
    """Decode a PNG of 28x28 to uint8 [784]. Its size is checked before anything is decoded."""
    size = struct.unpack(">II", data[16:24]) if data.startswith(PNG_SIGNATURE) and len(data) >= 24 else None
    if size is None:
        raise InvalidUpload("invalid_image", f"{_name(info)} is not a PNG")
    if size != (SIDE, SIDE):
        raise InvalidUpload("invalid_image", f"{_name(info)} is {size[0]}x{size[1]}; make it {SIDE}x{SIDE}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if (
                picture.size != size
                or picture.mode not in CONVERTIBLE_MODES
                or "transparency" in picture.info
            ):
                advice = "make it 8-bit grey, without transparency"
                raise InvalidUpload("invalid_image", f"{_name(info)} is a {picture.mode} image; {advice}")
            return np.asarray(picture.convert("L")).reshape(PIXELS)
    except DAMAGED as error:
        raise InvalidUpload("invalid_image", f"{_name(info)} is damaged and cannot be decoded") from error


def _check_label(name: str) -> str:
    fault = RULE if not re.fullmatch(NAME, name) else find_fault(name)
    if fault:
        raise InvalidUpload("invalid_name", f"{_shorten(name)} cannot be the name of a label: {fault}")
    return name


def _name(info: zipfile.ZipInfo) -> str:
    return _shorten(info.orig_filename)


def _shorten(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")
