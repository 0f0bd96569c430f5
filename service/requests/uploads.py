"""Read the images of every label from an uploaded archive, or refuse it with the reason.

There are two kinds of archive: an npz of `images` (uint8 [n, 28, 28] or [n, 784]) and `labels` (text or whole
numbers, [n]), and a zip of PNG files with one folder for each label. The ink should be bright on black, as
MNIST's is. The archive is not trusted: nothing in it is unpickled, no more of it is unpacked than it says and
is allowed, and it is read piece by piece, so that a small archive cannot fill the memory.
"""

import errno
import logging
import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import BinaryIO

from service.registry.labels import NAME, RULE
from service.registry.names import find_fault
from service.requests.arrays import read_arrays
from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload, shorten
from service.requests.pictures import MAX_PICTURE_BYTES, decode_picture

log = logging.getLogger(__name__)

MIN_IMAGES_PER_LABEL = 5  # of each label, because every fifth image is kept for testing
MAX_LABELS = 200
MAX_FILES = 100_000
MAX_RATIO = 200
"""How many times larger than its packed bytes an archive may be. Real images are 2 to 20 times larger."""
ALWAYS_UNPACKED = 4 << 20
"""An archive of this size is no bomb, however well it is packed."""
ZIP_ENTRY = b"PK\x01\x02"  # the first bytes of each entry in the directory of a zip
PIECE = 1 << 20
ARCHIVES = (".zip", ".npz", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
OURS_TO_REPORT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Errors of our own disk, which no archive causes."""


@dataclass(frozen=True)
class Upload:
    """What was found in an archive. Its pixels are in the file that was given to `read_upload`."""

    counts: Mapping[str, int]
    """{label: how many images it has}. The labels are in order: numbers by size, text by alphabet."""
    sha256: str
    """Of the pixels."""
    label_digests: Mapping[str, str]
    """{label: a hash of its images, whatever their order}."""


def read_upload(packed: BinaryIO, pixels: BinaryIO, *, max_bytes: int) -> Upload:
    """Read an npz or a zip of PNGs that unpacks to `max_bytes` at most. Raises InvalidUpload.

    packed, pixels: files of the operating system; `pixels` is empty. It gets the 784 bytes of every image,
    label after label, in the order of an npz, or of the file names in a zip.
    """
    try:
        return _read(packed, pixels, max_bytes)
    except InvalidUpload:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OURS_TO_REPORT:
            raise
        # The libraries raise errors of many kinds, MemoryError and SystemError among them. Each is a refusal.
        log.info("an upload was refused: it cannot be read", exc_info=error)
        raise InvalidUpload("corrupt_archive", "the archive is damaged and cannot be read") from error


def _read(packed: BinaryIO, pixels: BinaryIO, max_bytes: int) -> Upload:
    size = os.fstat(packed.fileno()).st_size
    _refuse_other_formats(packed, size)
    try:
        archive = zipfile.ZipFile(packed)
    except Exception as error:
        packed.seek(0)
        if packed.read(2) == b"PK":
            raise InvalidUpload("corrupt_archive", "the archive is damaged; pack it again") from error
        raise InvalidUpload(
            "invalid_archive", "the body is neither an npz nor a zip of PNG folders, or it is damaged"
        ) from error
    with archive:
        files = [_check_entry(info) for info in archive.infolist() if not info.is_dir()]
        _refuse_repeated(files)
        _refuse_large(files, size, max_bytes)
        numpy_only = bool(files) and all(info.filename.endswith(".npy") for info in files)
        read = _read_npz if numpy_only else _read_folders
        counts = read(archive, files, pixels)
    return Upload(counts, _hash(pixels), _hash_labels(pixels, counts))


def _refuse_other_formats(packed: BinaryIO, size: int) -> None:
    if size == 0:
        raise InvalidUpload("empty_file", "the body is empty; send an npz, or a zip of PNG folders")
    packed.seek(0)
    head = packed.read(2)
    if head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise _pickled("the body")
    entries, before = 0, b""
    packed.seek(0)
    while piece := packed.read(PIECE):
        entries += (before + piece).count(ZIP_ENTRY)
        before = piece[1 - len(ZIP_ENTRY) :]
    if entries > MAX_FILES:
        raise InvalidUpload(
            "archive_too_many_entries",
            f"the archive has more than {MAX_FILES:,} files; send an npz instead",
        )


def _check_entry(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    parts = info.orig_filename.split("/")
    if "\0" in info.orig_filename or "\\" in info.orig_filename or {"", ".", ".."} & set(parts):
        raise InvalidUpload(
            "invalid_path", f"{_name(info)} is not a plain path inside the archive; use LABEL/NAME.png"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidUpload("invalid_path", f"{_name(info)} is a link; put the file itself there")
    if info.flag_bits & 1:
        raise InvalidUpload("encrypted_archive", f"{_name(info)} is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidUpload(
            "invalid_archive", f"{_name(info)} is compressed in a way other than deflate; use deflate"
        )
    if info.filename.lower().endswith(PICKLES):
        raise _pickled(_name(info))
    if info.filename.lower().endswith(ARCHIVES):
        raise InvalidUpload("nested_archive", f"{_name(info)} is an archive; put its files there themselves")
    return info


def _pickled(what: str) -> InvalidUpload:
    message = (
        f"{what} is pickled, and would be executed when it is read; send an npz, or a zip of PNG folders"
    )
    return InvalidUpload("unsafe_serialization", message)


def _refuse_repeated(files: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for info in files:
        if info.filename in seen:
            raise InvalidUpload("duplicate_entry", f"{_name(info)} is in the archive twice; keep one of them")
        seen.add(info.filename)


def _refuse_large(files: list[zipfile.ZipInfo], packed: int, max_bytes: int) -> None:
    unpacked = sum(info.file_size for info in files)
    if unpacked > ALWAYS_UNPACKED and unpacked > MAX_RATIO * packed:
        raise InvalidUpload(
            "archive_bomb",
            f"the archive unpacks to {unpacked:,} bytes, more than {MAX_RATIO} times its size",
        )
    if unpacked > max_bytes:
        raise InvalidUpload(
            "payload_too_large",
            f"the archive unpacks to {unpacked:,} bytes, more than the {max_bytes:,} allowed; leave some out",
        )
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise InvalidUpload("archive_bomb", f"{_name(info)} shares its bytes with another file")
        end = info.header_offset + info.compress_size


def _refuse_wrong_counts(counts: Mapping[str, int]) -> None:
    if not counts:
        raise InvalidUpload("too_few_images", "the archive contains no image")
    _refuse_too_many_labels(counts)
    for label, count in counts.items():
        check_label(label)
        if count < MIN_IMAGES_PER_LABEL:
            raise InvalidUpload(
                "too_few_images",
                f"the label {label!r} has {count} images and needs at least {MIN_IMAGES_PER_LABEL}, "
                "because every fifth image is kept for testing",
            )


def _refuse_too_many_labels(labels: Collection[object]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidUpload(
            "too_many_labels", f"there are {len(labels)} labels, more than the {MAX_LABELS} allowed"
        )


def check_label(name: str) -> None:
    """Raise InvalidUpload unless a new label may have this name."""
    fault = RULE if not re.fullmatch(NAME, name) else find_fault(name)
    if fault:
        raise InvalidUpload("invalid_name", f"{shorten(name)} cannot be the name of a label: {fault}")


# --- the pixels, label after label -----------------------------------------------------------------


class _Pixels:
    """Writes images to a file, each after the earlier ones of its label."""

    def __init__(self, file: BinaryIO, counts: Mapping[str, int]) -> None:
        self._descriptor = file.fileno()
        self._next: dict[str, int] = {}
        end = 0
        for label, count in counts.items():
            self._next[label] = end
            end += count * PIXELS

    def put(self, label: str, images: bytes) -> None:
        rest = memoryview(images)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._next[label])
            self._next[label] += written
            rest = rest[written:]


def _hash(file: BinaryIO) -> str:
    file.seek(0)
    digest = sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def _hash_labels(file: BinaryIO, counts: Mapping[str, int]) -> dict[str, str]:
    """Return for each label the hash of the sorted hashes of its images."""
    file.seek(0)
    digests = {}
    for label, count in counts.items():
        images = sorted(sha256(file.read(SIDE * SIDE)).digest() for _ in range(count))
        digests[label] = sha256(b"".join(images)).hexdigest()
    file.seek(0)
    return digests


def _read_npz(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], pixels: BinaryIO) -> dict[str, int]:
    named = {info.filename.removesuffix(".npy"): info for info in files}
    if set(named) != {"images", "labels"}:
        found = ", ".join(shorten(name) for name in sorted(named))
        raise InvalidUpload(
            "invalid_array",
            f"the npz must contain the arrays 'images' and 'labels' only; it contains: {found}",
        )
    with archive.open(named["images"]) as images, archive.open(named["labels"]) as labels:
        sizes = named["images"].file_size, named["labels"].file_size
        arrays = read_arrays(images, labels, sizes, refuse_too_many=_refuse_too_many_labels)
        _refuse_wrong_counts(arrays.counts)
        sorted_pixels = _Pixels(pixels, arrays.counts)
        for label, rows in arrays.pieces():
            sorted_pixels.put(label, rows)
    return dict(arrays.counts)


# --- a zip of PNG folders --------------------------------------------------------------------------


def _read_folders(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], pixels: BinaryIO) -> dict[str, int]:
    pictures = sorted(_pictures(files), key=lambda info: info.filename)
    counts: dict[str, int] = {}
    for info in pictures:
        label = PurePosixPath(info.filename).parts[0]
        counts[label] = counts.get(label, 0) + 1
    counts = dict(sorted(counts.items()))
    for label in counts:
        check_label(label)
    sorted_pixels = _Pixels(pixels, counts)
    for info in pictures:
        if info.file_size > MAX_PICTURE_BYTES:
            raise InvalidUpload(
                "image_too_large", f"{_name(info)} has {info.file_size:,} bytes, too many for a 28x28 PNG"
            )
        try:
            with archive.open(info) as file:
                data = file.read(info.file_size + 1)  # without a size, all that follows would be unpacked
        except Exception as error:
            message = f"{_name(info)} is damaged and cannot be unpacked"
            raise InvalidUpload("corrupt_archive", message) from error
        sorted_pixels.put(PurePosixPath(info.filename).parts[0], decode_picture(_name(info), data))
    _refuse_wrong_counts(counts)
    return counts


def _pictures(files: list[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    """Yield the image files. Skip the files that file managers leave behind."""
    for info in files:
        parts = info.filename.split("/")
        if parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db"):
            continue
        if len(parts) != 2 or not parts[1].lower().endswith(".png"):
            raise InvalidUpload("invalid_path", f"{_name(info)} is not of the form LABEL/NAME.png")
        yield info


def _name(info: zipfile.ZipInfo) -> str:
    return shorten(info.orig_filename)
