"""Write shards of exported images, as npz or as WebDataset tar, a block of images at a time.

Neither compresses: the bytes of a shard depend on its images alone, and not on a release of zlib. Deflating
one image of 28 x 28 pixels takes longer than drawing it, and in a tar every file fills whole blocks of 512
bytes anyway (decision 0143).
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.drawing.images import Pixels
from service.registry.export_plan import ExportPlan, ImageRange

BLOCK = 1024
"""How many images are drawn and written at a time."""
FORMATS: Mapping[str, str] = {"npz": "application/octet-stream", "webdataset": "application/x-tar"}
"""{format: the media type of its shards}."""
MAX_SIDE = 255
"""The largest side of an image whose pixels fit into one stored block of deflate."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every member of an npz archive, so that equal images give equal bytes."""
_TAR_BLOCK, _NAME_DIGITS = 512, 9


def write_shard(
    file: BinaryIO, format: str, plan: ExportPlan, images: ImageRange, blocks: Iterable[Pixels]
) -> None:
    """Write a shard into an empty file. The same images give the same bytes.

    blocks: the images of the range in order, in blocks uint8 [n, side, side] of BLOCK images or fewer.
    """
    write = _write_npz if format == "npz" else _write_tar
    write(file, plan, images, blocks)


def estimate_bytes(format: str, plan: ExportPlan, *, side: int = 28) -> int:
    """Return how many bytes the shards of an export take together, about."""
    if format == "npz":
        longest = max(len(label) for label in plan.labels)
        return plan.images * (side * side + 4 * longest + 8)
    return plan.images * _TarLayout(side, plan.labels).record_bytes


def classes_of(plan: ExportPlan, images: ImageRange) -> NDArray[np.int64]:
    """Return the class of each image of the range: its label's place in the plan. int64 [n]."""
    return np.arange(images.first, images.end, dtype=np.int64) % len(plan.labels)


def seeds_of(plan: ExportPlan, images: ImageRange) -> NDArray[np.int64]:
    """Return the seed of each image of the range: int64 [n]."""
    return plan.seed + np.arange(images.first, images.end, dtype=np.int64) // len(plan.labels)


def _write_npz(file: BinaryIO, plan: ExportPlan, images: ImageRange, blocks: Iterable[Pixels]) -> None:
    """Write arrays images uint8 [n, side, side], labels str [n] and seeds int64 [n], as a sample has them."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, write: Callable[[IO[bytes]], None]) -> None:
            entry = zipfile.ZipInfo(f"{name}.npy", _EARLIEST)
            with archive.open(entry, "w", force_zip64=True) as member:
                write(member)

        add("images", lambda member: _write_pixels(member, images.images, blocks))
        labels = np.array(plan.labels)[classes_of(plan, images)]
        add("labels", lambda member: np.lib.format.write_array(member, labels, (1, 0), allow_pickle=False))
        seeds = seeds_of(plan, images)
        add("seeds", lambda member: np.lib.format.write_array(member, seeds, (1, 0), allow_pickle=False))


def _write_pixels(member: IO[bytes], count: int, blocks: Iterable[Pixels]) -> None:
    for place, block in enumerate(blocks):
        if place == 0:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *block.shape[1:])}
            np.lib.format.write_array_header_1_0(member, header)
        member.write(np.ascontiguousarray(block).data)


def _write_tar(file: BinaryIO, plan: ExportPlan, images: ImageRange, blocks: Iterable[Pixels]) -> None:
    """Write a POSIX tar archive: for image i, `{i:09}.png` and `{i:09}.cls` with the number of its label."""
    layout: _TarLayout | None = None
    first = images.first
    for block in blocks:
        layout = layout or _TarLayout(block.shape[1], plan.labels)
        file.write(layout.encode(first, classes_of(plan, ImageRange(first, first + len(block))), block).data)
        first += len(block)
    file.write(bytes(2 * _TAR_BLOCK))


class _TarLayout:
    """The bytes that a PNG file of these sides and its class take in a tar archive, with gaps to fill.

    As the PNG is not compressed, every byte of a record has a fixed place.
    """

    def __init__(self, side: int, labels: Sequence[str]) -> None:
        if side > MAX_SIDE:
            raise ValueError(f"images of {side} x {side} pixels cannot be exported; at most {MAX_SIDE}")
        raw = side * (side + 1)
        start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        # zlib header, one final block of deflate that is stored as it is, then the checksum of the pixels
        data = b"\x78\x01\x01" + struct.pack("<HH", raw, raw ^ 0xFFFF) + bytes(raw + 4)
        png = start + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        self._side = side
        self._png = _tar_entry("png", png)
        self._classes = np.stack(
            [_as_bytes(_tar_entry("cls", b"%d" % place)) for place in range(len(labels))]
        )
        self._lines = _TAR_BLOCK + len(start) + 8 + 7
        self._chunk_start = _TAR_BLOCK + len(start) + 4
        """Where the bytes begin that the checksum of the chunk with the pixels covers."""
        self._raw = raw
        self.record_bytes = len(self._png) + len(self._classes[0])

    def encode(self, first: int, classes: NDArray[np.int64], images: Pixels) -> NDArray[np.uint8]:
        """Return the records of these images: uint8 [n, record_bytes]. first: the number of the first one."""
        count, side = len(images), self._side
        records = np.empty((count, self.record_bytes), dtype=np.uint8)
        records[:, : len(self._png)] = _as_bytes(self._png)
        records[:, len(self._png) :] = self._classes[classes]
        lines = records[:, self._lines : self._lines + self._raw].reshape(count, side, side + 1)
        lines[:, :, 1:] = images
        records[:, self._lines : self._lines + self._raw] = lines.reshape(count, self._raw)
        self._add_checksums(records)
        digits = _digits(np.arange(first, first + count))
        for offset in (0, len(self._png)):
            _name_entries(records[:, offset : offset + _TAR_BLOCK], digits)
        return records

    def _add_checksums(self, records: NDArray[np.uint8]) -> None:
        """Fill in the checksums of the pixels (Adler-32) and of their chunk (CRC-32)."""
        size, end = self.record_bytes, self._lines + self._raw
        content = records.reshape(-1).data  # slices of it cost less than those of an array
        sums = np.empty((len(records), 2), dtype=">u4")
        for place in range(len(records)):
            start = place * size
            adler = zlib.adler32(content[start + self._lines : start + end])
            crc = zlib.crc32(content[start + self._chunk_start : start + end])
            sums[place] = adler, zlib.crc32(adler.to_bytes(4, "big"), crc)
        records[:, end : end + 8] = sums.view(np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _tar_entry(suffix: str, content: bytes) -> bytes:
    """Return header and content of a file in a tar archive (ustar), without its name and checksum."""
    header = bytearray(_TAR_BLOCK)
    for offset, value in (
        (0, b"0" * _NAME_DIGITS + b"." + suffix.encode()),
        (100, b"0000644\x000000000\x000000000\x00"),  # mode, user, group
        (124, b"%011o\x00" % len(content)),
        (136, b"%011o\x00" % 0),  # the time
        (148, b" " * 8),  # the checksum, counted as blanks
        (156, b"0"),  # a regular file
        (257, b"ustar\x0000"),
    ):
        header[offset : offset + len(value)] = value
    return bytes(header) + content + bytes(-len(content) % _TAR_BLOCK)


def _name_entries(headers: NDArray[np.uint8], digits: NDArray[np.uint8]) -> None:
    """Fill in names and checksums of headers [n, 512] whose names consist of zeros. digits: [n, 9]."""
    headers[:, :_NAME_DIGITS] = digits
    rest = headers.sum(axis=1, dtype=np.int64)
    for place in range(6):
        headers[:, 148 + place] = ord("0") + (rest >> (3 * (5 - place))) % 8
    headers[:, 154], headers[:, 155] = 0, ord(" ")


def _digits(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the numbers as decimal digits: uint8 [n, 9]."""
    powers = 10 ** np.arange(_NAME_DIGITS - 1, -1, -1, dtype=np.int64)
    return (ord("0") + numbers[:, None] // powers % 10).astype(np.uint8)


def _as_bytes(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, dtype=np.uint8)
