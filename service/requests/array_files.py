"""Open the arrays of an npz and read them piece by piece, without numpy.load.

numpy.load unpickles objects, it allocates what a header claims before it has read as much, and it evaluates
the header as Python, for which `-` 6,000 times needs more memory than there is.
"""

import math
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.requests.invalid_upload import InvalidUpload, shorten

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096  # numpy's own are 118
PIECE = 1 << 20
HEADER = re.compile(
    r"""\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?[A-Za-z?][0-9]{0,9})'\s*,\s*"""
    r"""'fortran_order'\s*:\s*(?P<fortran>True|False)\s*,\s*"""
    r"""'shape'\s*:\s*\((?P<shape>[0-9]{0,18}(?:\s*,\s*[0-9]{1,18}){0,7}\s*,?\s*)\)\s*,?\s*\}\s*"""
)
"""The header that numpy and other programs write. A structure, or a negative size, does not match it."""


@dataclass(frozen=True)
class ArrayFile:
    """An array in an archive: what its header says, and where its items are."""

    name: str
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int
    """How many bytes come before the items."""

    def __str__(self) -> str:
        return f"{self.dtype} of {list(self.shape)}"

    def pieces(self, items: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield some of the array along its first axis at a time, with the index of the first of them.

        items: how many at once; about a megabyte of them unless given. Whatever axis is last in the file,
        the pieces are [some, *shape[1:]]. Raises InvalidUpload if the array is damaged.
        """
        each = self.dtype.itemsize * math.prod(self.shape[1:])
        some = items or max(PIECE // max(each, 1), 1)
        if self.fortran:
            with TemporaryFile() as file:
                whole = self.unpack(file)
                for first in range(0, self.shape[0] if whole is not None else 0, some):
                    yield first, np.ascontiguousarray(whole[first : first + some])  # type: ignore[index]
            return
        total = self.shape[0] if self.shape else 0
        with self._items() as file:
            for first in range(0, total, some):
                count = min(some, total - first)
                data = read_exactly(self.name, file, each * count)
                yield first, np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
            if file.read(1):  # at its end, zipfile compares the checksum
                raise InvalidUpload("invalid_array", f"{self._quoted} has more bytes than its header says")

    def unpack(self, file: IO[bytes]) -> NDArray[Any] | None:
        """Unpack all items into a file and return them as an array of it; None if there is none.

        For arrays in which the bytes of one image are far apart.
        """
        with self._items() as packed:
            rest = self.dtype.itemsize * math.prod(self.shape)
            while rest:
                piece = read_exactly(self.name, packed, min(PIECE, rest))
                file.write(piece)
                rest -= len(piece)
            packed.read(1)
        file.flush()
        if not math.prod(self.shape):
            return None
        order = "F" if self.fortran else "C"
        return np.memmap(file, self.dtype, "r", shape=self.shape, order=order)  # type: ignore[call-overload,no-any-return]

    @property
    def _quoted(self) -> str:
        return f"the array {shorten(self.name)}"

    def _items(self) -> IO[bytes]:
        try:
            file = self.archive.open(self.info)
        except Exception as error:
            raise _damaged(self.name) from error
        read_exactly(self.name, file, self.offset)
        return file


def open_array(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArrayFile:
    """Read the header of an array. Raises InvalidUpload if it is none of numbers or text, or damaged."""
    try:
        file = archive.open(info)
    except Exception as error:
        raise _damaged(name) from error
    with file:
        return _read_header(name, archive, info, file)


def _read_header(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes]) -> ArrayFile:
    head = read_exactly(name, file, len(MAGIC) + 2)
    widths = {b"\x01\x00": "<H", b"\x02\x00": "<I"}
    width = widths.get(head[len(MAGIC) :])
    if not head.startswith(MAGIC) or width is None:
        raise _not_an_array(name)
    length_bytes = struct.calcsize(width)
    (length,) = struct.unpack(width, read_exactly(name, file, length_bytes))
    if length > MAX_HEADER_BYTES:
        raise _not_an_array(name)
    matched = HEADER.fullmatch(read_exactly(name, file, length).decode("latin-1"))
    if matched is None:
        raise _not_an_array(name)
    kind = matched["dtype"]
    if kind.lstrip("<>|=")[:1] == "O":
        raise InvalidUpload(
            "wrong_type",
            f"the array {shorten(name)} contains objects (|O), which would need pickle; save labels as "
            "labels.astype(str), and images as numpy.stack(images)",
        )
    if kind.lstrip("<>|=")[:1] not in "biufcSUmM?" or kind.lstrip("<>|=")[1:] in ("", "0"):
        raise InvalidUpload(
            "wrong_type", f"the array {shorten(name)} contains {kind}, which is neither numbers nor text"
        )
    try:
        dtype = np.dtype(kind)
    except Exception as error:
        raise _not_an_array(name) from error
    shape = tuple(int(side) for side in matched["shape"].replace(",", " ").split())
    offset = len(head) + length_bytes + length
    claimed = dtype.itemsize * math.prod(shape)
    present = info.file_size - offset
    if claimed > max(present, 1 << 26):
        raise InvalidUpload(
            "array_too_large", f"the array {shorten(name)} claims {claimed:,} bytes, and has {present:,}"
        )
    if claimed != present:
        raise InvalidUpload(
            "invalid_array", f"the array {shorten(name)} has fewer or more bytes than its header says"
        )
    fortran = matched["fortran"] == "True" and len(shape) > 1
    return ArrayFile(name, archive, info, dtype, shape, fortran, offset)


def read_exactly(name: str, file: IO[bytes], size: int) -> bytes:
    """Read so many bytes of an array. Raises InvalidUpload if they are damaged or fewer."""
    try:
        data = file.read(size)
    except Exception as error:
        raise _damaged(name) from error
    if len(data) != size:
        raise InvalidUpload(
            "invalid_array", f"the array {shorten(name)} has fewer bytes than its header says"
        )
    return data


def _damaged(name: str) -> InvalidUpload:
    return InvalidUpload("corrupt_archive", f"{shorten(name)}.npy is damaged and cannot be unpacked")


def _not_an_array(name: str) -> InvalidUpload:
    return InvalidUpload(
        "invalid_array",
        f"{shorten(name)}.npy is not an array in a format that numpy saves; save the npz again with "
        "numpy.savez",
    )
