"""Read the two arrays of an uploaded npz piece by piece: the images, and the label of each.

numpy.load is not used: it unpickles objects, it allocates what a header claims before it has read as much,
and it evaluates the header as Python, for which `-` 6,000 times needs more memory than there is.
"""

import math
import re
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload, shorten

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096  # numpy's own are 118
MAX_TEXT_LENGTH = 1024
PIECE = 1 << 20
NOT_CHARACTERS = 0xD800, 0xDFFF
LAST_CHARACTER = 0x10FFFF
HEADER = re.compile(
    r"""\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?[A-Za-z][0-9]{0,9})'\s*,\s*"""
    r"""'fortran_order'\s*:\s*(?P<fortran>True|False)\s*,\s*"""
    r"""'shape'\s*:\s*\((?P<shape>[0-9]{0,18}(?:\s*,\s*[0-9]{1,18}){0,7}\s*,?\s*)\)\s*,?\s*\}\s*"""
)
"""The header that numpy and other programs write. A structure, or a negative size, does not match it."""


@dataclass(frozen=True)
class _Array:
    """The header of an array, and the file that its items follow in."""

    name: str
    file: IO[bytes]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    def __str__(self) -> str:
        return f"{self.dtype} of {list(self.shape)}"


@dataclass(frozen=True)
class Arrays:
    """The images of an npz and the label of each."""

    counts: dict[str, int]
    """{label: how many images it has}. The labels are in order: numbers by size, text by alphabet."""
    _images: _Array
    _labels: NDArray[np.int16]
    """The position in `counts` of the label of each image."""

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """Yield every label with the pixels of some of its images, in the order of the array."""
        names = list(self.counts)
        for first, rows in _rows(self._images):
            labels = self._labels[first : first + len(rows)]
            for label in np.unique(labels):
                yield names[label], rows[labels == label].tobytes()


def read_arrays(
    images: IO[bytes],
    labels: IO[bytes],
    sizes: tuple[int, int],
    *,
    refuse_too_many: Callable[[Collection[object]], None],
) -> Arrays:
    """Read the labels, and the header of the images. Raises InvalidUpload.

    sizes: the bytes of the two files. refuse_too_many: raises InvalidUpload for too many labels.
    """
    pictures, names = _open("images", images, sizes[0]), _open("labels", labels, sizes[1])
    _check_images(pictures)
    if names.shape != pictures.shape[:1]:
        raise InvalidUpload(
            "length_mismatch",
            f"the array 'labels' must have the shape [{pictures.shape[0]}], one label for each image, "
            f"not {list(names.shape)}",
        )
    if names.dtype.kind not in "Uiu":
        raise InvalidUpload("wrong_type", f"the array 'labels' must be text or integers, not {names.dtype}")
    codes: dict[str | int, int] = {}
    found = np.empty(names.shape[0], dtype=np.int16)
    for first, piece in _items(names):
        for label in piece.tolist():
            codes.setdefault(label, len(codes))
        refuse_too_many(codes)
        found[first : first + len(piece)] = [codes[label] for label in piece.tolist()]
    order: list[Any] = sorted(codes)  # all are texts, or all are numbers
    rank = np.empty(len(order), dtype=np.int16)
    rank[[codes[label] for label in order]] = np.arange(len(order))
    ranked = rank[found] if len(order) else found
    counts = np.bincount(ranked, minlength=len(order))
    return Arrays({str(label): int(counts[i]) for i, label in enumerate(order)}, pictures, ranked)


def _open(name: str, file: IO[bytes], size: int) -> _Array:
    head = _read(name, file, len(MAGIC) + 2)
    widths = {b"\x01\x00": "<H", b"\x02\x00": "<I"}
    width = widths.get(head[len(MAGIC) :])
    if not head.startswith(MAGIC) or width is None:
        raise _not_an_array(name)
    length_bytes = struct.calcsize(width)
    (length,) = struct.unpack(width, _read(name, file, length_bytes))
    if length > MAX_HEADER_BYTES:
        raise _not_an_array(name)
    matched = HEADER.fullmatch(_read(name, file, length).decode("latin-1"))
    if matched is None:
        raise _not_an_array(name)
    kind = matched["dtype"]
    if kind.lstrip("<>|=")[:1] not in "biufcSUmM?" or kind.lstrip("<>|=")[1:] in ("", "0"):
        raise InvalidUpload(
            "wrong_type", f"the array {name!r} contains {kind}, which is neither numbers nor text"
        )
    try:
        dtype = np.dtype(kind)
    except Exception as error:
        raise _not_an_array(name) from error
    shape = tuple(int(side) for side in matched["shape"].replace(",", " ").split())
    claimed = dtype.itemsize * math.prod(shape)
    present = size - len(head) - length_bytes - length
    if claimed > max(present, 1 << 26):
        raise InvalidUpload(
            "array_too_large", f"the array {name!r} claims {claimed:,} bytes, and has {present:,}"
        )
    if claimed != present:
        raise InvalidUpload(
            "invalid_array", f"the array {name!r} has fewer or more bytes than its header says"
        )
    return _Array(name, file, dtype, shape, matched["fortran"] == "True" and len(shape) > 1)


def _check_images(images: _Array) -> None:
    if images.dtype == np.uint8 and images.shape[1:] in ((SIDE, SIDE), (PIXELS,)):
        return
    wanted = f"uint8 of [n, {SIDE}, {SIDE}] or [n, {PIXELS}]"
    if images.dtype.kind == "f" and not all(
        np.isfinite(piece).all() for _, piece in _items(images, count=math.prod(images.shape))
    ):
        raise InvalidUpload(
            "non_finite_values", f"the array 'images' has values that are no numbers; it must be {wanted}"
        )
    code = "invalid_array" if images.dtype == np.uint8 else "wrong_type"
    raise InvalidUpload(code, f"the array 'images' must be {wanted}, not {images}")


def _rows(images: _Array) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield some images at a time, uint8 [some, 784], with the index of the first of them."""
    some = max(PIECE // PIXELS, 1)
    if not images.fortran:
        for first, piece in _items(images, item_bytes=PIXELS, count=images.shape[0]):
            yield first, piece.reshape(-1, PIXELS)
        return
    # The bytes of one image are far apart, so that all of them are unpacked first: into a file.
    with TemporaryFile() as file:
        while piece_bytes := images.file.read(PIECE):
            file.write(piece_bytes)
        file.flush()
        if images.shape[0]:
            whole = np.memmap(file, np.uint8, "r", shape=images.shape, order="F")
            for first in range(0, images.shape[0], some):
                yield first, np.ascontiguousarray(whole[first : first + some]).reshape(-1, PIXELS)


def _items(
    array: _Array, *, item_bytes: int | None = None, count: int | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield some items of an array at a time, with the index of the first of them.

    item_bytes: how many bytes belong together; those of one number or text unless given.
    """
    each = item_bytes or array.dtype.itemsize
    total = array.shape[0] if count is None else count
    if array.dtype.kind == "U" and array.dtype.itemsize > 4 * MAX_TEXT_LENGTH:
        raise InvalidUpload(
            "invalid_name", f"the array {array.name!r} has texts of more than {MAX_TEXT_LENGTH} characters"
        )
    some = max(PIECE // each, 1)
    for first in range(0, total, some):
        data = _read(array.name, array.file, each * min(some, total - first))
        if array.dtype.kind == "U":
            _refuse_other_than_characters(array, data)
        yield first, np.frombuffer(data, array.dtype)
    if array.file.read(1):  # at its end, zipfile compares the checksum
        raise InvalidUpload("invalid_array", f"the array {array.name!r} has more bytes than its header says")


def _refuse_other_than_characters(array: _Array, data: bytes) -> None:
    """Raise InvalidUpload for a number that is no character. numpy raises SystemError for one."""
    points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    surrogate = (points >= NOT_CHARACTERS[0]) & (points <= NOT_CHARACTERS[1])
    if (surrogate | (points > LAST_CHARACTER)).any():
        raise InvalidUpload(
            "invalid_name", f"the array {shorten(array.name)} contains a text that is not valid Unicode"
        )


def _read(name: str, file: IO[bytes], size: int) -> bytes:
    try:
        data = file.read(size)
    except Exception as error:
        raise InvalidUpload("corrupt_archive", f"{name}.npy is damaged and cannot be unpacked") from error
    if len(data) != size:
        raise InvalidUpload("invalid_array", f"the array {name!r} has fewer bytes than its header says")
    return data


def _not_an_array(name: str) -> InvalidUpload:
    return InvalidUpload("invalid_array", f"{name}.npy is not an array in a format that numpy saves")
