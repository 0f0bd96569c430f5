"""Read the images of every label from an uploaded archive, or refuse it with the reason.

There are two kinds of archive: an npz of images and labels (npz.py), and a zip of PNG or JPEG files in
folders (folders.py). What is not as a model learns it, uint8 [n, 28, 28] of bright ink on black, is converted
where it is clear how, and the conversions are listed. The archive is not trusted: nothing in it is
unpickled, no more of it is unpacked than it says and is allowed, and it is read piece by piece, so that a
small archive cannot fill the memory.
"""

import errno
import logging
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import BinaryIO

from service.registry.labels import NAME, RULE
from service.registry.names import as_it_looks, find_fault
from service.requests import folders, upload_checks
from service.requests.array_files import ArrayFile, open_array
from service.requests.array_labels import refuse_too_many_labels
from service.requests.fitting import PixelBudget
from service.requests.folders import Entry
from service.requests.invalid_upload import PIXELS, InvalidUpload, shorten
from service.requests.npz import UnclearArrays, parts_in, read_arrays
from service.requests.other_formats import HEAD_BYTES, name_format
from service.requests.pictures import MAX_PICTURE_BYTES, decode_picture
from service.requests.splits import is_test_folder
from service.requests.upload_notes import Conversions, Note

log = logging.getLogger(__name__)

MIN_IMAGES_PER_LABEL = 5  # of each label, because every fifth image is kept for testing
MAX_FILES = 100_000
MAX_RATIO = 200
"""How many times larger than its packed bytes an archive may be. Most real images are 2 to 20 times larger,
and thin lines on black 300 times: they can be sent without compression."""
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
    held_out: Mapping[str, int] | None
    """{label: how many of its images, the last ones, the archive holds out for testing}, without labels of
    which it holds out none. None if the archive has no split of its own."""
    sha256: str
    """Of the pixels."""
    sent_sha256: str
    """Of the archive."""
    label_digests: Mapping[str, str]
    """{label: a hash of its images, whatever their order}."""
    conversions: Sequence[Note]
    """How the archive was read, where that is not plain."""
    warnings: Sequence[Note]
    """What looks wrong with the images."""


@dataclass(frozen=True)
class _Counts:
    """How many images an archive has."""

    images: Mapping[str, int]
    tests: Mapping[str, int] | None


def read_upload(packed: BinaryIO, pixels: BinaryIO, *, max_bytes: int, fitting: bool = False) -> Upload:
    """Read an npz or a zip of pictures that unpacks to `max_bytes` at most. Raises InvalidUpload.

    packed, pixels: files of the operating system; `pixels` is empty. It gets the 784 bytes of every image,
    label after label, in the order of an npz, or of the file names in a zip. If the archive has a split of
    its own, the test images of a label come after the others of the label.
    fitting: whether images of other sizes are scaled to 28x28.
    """
    try:
        return _read(packed, pixels, max_bytes, fitting)
    except InvalidUpload:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OURS_TO_REPORT:
            raise
        # The libraries raise errors of many kinds, MemoryError and SystemError among them. Each is a refusal.
        log.info("an upload was refused: it cannot be read", exc_info=error)
        raise InvalidUpload("corrupt_archive", "the archive is damaged and cannot be read") from error


def _read(packed: BinaryIO, pixels: BinaryIO, max_bytes: int, fitting: bool) -> Upload:
    size = os.fstat(packed.fileno()).st_size
    _refuse_other_formats(packed, size)
    try:
        archive = zipfile.ZipFile(packed)
    except Exception as error:
        packed.seek(0)
        head = packed.read(HEAD_BYTES)
        if head.startswith(b"PK"):
            raise InvalidUpload("corrupt_archive", "the archive is damaged; pack it again") from error
        found = name_format(head) or "damaged or of an unknown format"
        raise InvalidUpload(
            "invalid_archive",
            f"the body is {found}, and neither an npz (numpy.savez) nor a zip of PNG or JPEG folders; send "
            "one of these",
        ) from error
    notes = Conversions()
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _refuse_large(infos, size, max_bytes)
        all_utf_8 = folders.are_utf_8(infos)
        named = [_check_entry(folders.name_entry(info, notes, all_utf_8=all_utf_8)) for info in infos]
        entries = [entry for entry in named if not entry.path.endswith("/")]
        _refuse_repeated(entries)
        left_behind, kept = _split(entries, folders.is_left_behind)
        files = [_check_content(entry) for entry in kept]
        folders.note_left_behind(left_behind, notes)
        documents, arrays = _split(files, folders.is_document)
        if arrays and all(entry.path.endswith(".npy") for entry in arrays):
            folders.note_documents(documents, notes)
            try:
                counts = _read_npz(archive, arrays, pixels, notes, fitting)
            except UnclearArrays as error:
                raise InvalidUpload(error.code, f"{error}{folders.name_unread(documents)}") from error
        else:
            budget = PixelBudget(max_bytes) if fitting else None
            counts = _read_folders(archive, files, pixels, notes, budget)
    looks = upload_checks.look(pixels, counts.images, counts.tests)
    held_out = None if counts.tests is None else {name: n for name, n in counts.tests.items() if n}
    return Upload(
        counts.images,
        held_out,
        _hash(pixels),
        _hash(packed),
        looks.label_digests,
        notes.notes(),
        looks.warnings,
    )


def _split(entries: Iterable[Entry], belongs: Callable[[Entry], bool]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries that belong there, and the others."""
    found: tuple[list[Entry], list[Entry]] = [], []
    for entry in entries:
        found[not belongs(entry)].append(entry)
    return found


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


def _check_entry(entry: Entry) -> Entry:
    """Return the entry. Raises InvalidUpload for an unsafe one."""
    parts = entry.path.removesuffix("/").split("/")
    if "\0" in entry.path or {"", ".", ".."} & set(parts) or re.fullmatch("[A-Za-z]:", parts[0]):
        raise InvalidUpload(
            "invalid_path", f"{entry.quoted} is not a plain path inside the archive; use LABEL/NAME.png"
        )
    if stat.S_ISLNK(entry.info.external_attr >> 16):
        raise InvalidUpload("invalid_path", f"{entry.quoted} is a link; put the file itself there")
    return entry


def _check_content(entry: Entry) -> Entry:
    """Return the entry. Raises InvalidUpload if its content cannot be read."""
    if entry.info.flag_bits & 1:
        raise InvalidUpload("encrypted_archive", f"{entry.quoted} is encrypted; pack it without a password")
    if entry.info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidUpload(
            "invalid_archive", f"{entry.quoted} is compressed in a way other than deflate; use deflate"
        )
    if entry.path.lower().endswith(PICKLES):
        raise _pickled(entry.quoted)
    if entry.path.lower().endswith(ARCHIVES):
        raise InvalidUpload("nested_archive", f"{entry.quoted} is an archive; put its files there themselves")
    return entry


def _pickled(what: str) -> InvalidUpload:
    message = (
        f"{what} is pickled, and would be executed when it is read; send an npz, or a zip of PNG folders"
    )
    return InvalidUpload("unsafe_serialization", message)


def _refuse_repeated(entries: Sequence[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            raise InvalidUpload(
                "duplicate_entry", f"{entry.quoted} is in the archive twice; keep one of them"
            )
        seen.add(entry.path)


def _refuse_large(files: list[zipfile.ZipInfo], packed: int, max_bytes: int) -> None:
    unpacked = sum(info.file_size for info in files)
    if unpacked > ALWAYS_UNPACKED and unpacked > MAX_RATIO * packed:
        raise InvalidUpload(
            "archive_bomb",
            f"the archive unpacks to {unpacked:,} bytes, more than {MAX_RATIO} times its size; if its images "
            "are real, save it without compression: numpy.savez, not numpy.savez_compressed, or zip -0",
        )
    if unpacked > max_bytes:
        raise InvalidUpload(
            "payload_too_large",
            f"the archive unpacks to {unpacked:,} bytes, more than the {max_bytes:,} allowed; save "
            "arrays as uint8, or leave some images out",
        )
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise InvalidUpload(
                "archive_bomb",
                f"{shorten(info.orig_filename)} shares its bytes with another file; pack the archive again",
            )
        end = info.header_offset + info.compress_size


def _refuse_wrong_counts(counts: _Counts) -> None:
    if not counts.images:
        raise InvalidUpload("too_few_images", "the archive contains no image")
    refuse_too_many_labels(len(counts.images))
    _refuse_lookalikes(counts.images)
    for label, count in counts.images.items():
        check_label(label)
        tests = (counts.tests or {}).get(label, 0)
        if count < MIN_IMAGES_PER_LABEL:
            raise InvalidUpload(
                "too_few_images",
                f"the label {label!r} has {count} images and needs at least {MIN_IMAGES_PER_LABEL}, "
                "because every fifth image is kept for testing",
            )
        if count - tests < MIN_IMAGES_PER_LABEL - 1:
            raise InvalidUpload(
                "too_few_images",
                f"the label {label!r} has {count - tests} images to learn from and {tests} to test with, and "
                f"needs at least {MIN_IMAGES_PER_LABEL - 1} to learn from",
            )


def _refuse_lookalikes(labels: Iterable[str]) -> None:
    """Raise InvalidUpload if two labels differ only in alphabets whose letters look alike."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(as_it_looks(label), label)
        if other != label:
            codes = ["+".join(f"{ord(one):04X}" for one in name[:8]) for name in (other, label)]
            raise InvalidUpload(
                "invalid_name",
                f"the labels {shorten(other)} (U+{codes[0]}) and {shorten(label)} (U+{codes[1]}) look the "
                "same; give one of them another name",
            )


def check_label(name: str) -> None:
    """Raise InvalidUpload unless a new label may have this name."""
    fault = RULE if not re.fullmatch(NAME, name) else find_fault(name)
    if fault:
        raise InvalidUpload("invalid_name", f"{shorten(name)} cannot be the name of a label: {fault}")


# --- the pixels, label after label -----------------------------------------------------------------


class _Pixels:
    """Writes images to a file, each after the earlier ones of its label and part."""

    def __init__(self, file: BinaryIO, counts: _Counts) -> None:
        self._descriptor = file.fileno()
        self._next: dict[tuple[str, bool], int] = {}
        end = 0
        for label, count in counts.images.items():
            self._next[label, False] = end
            end += count * PIXELS
            self._next[label, True] = end - (counts.tests or {}).get(label, 0) * PIXELS

    def put(self, label: str, is_test: bool, images: bytes) -> None:
        rest = memoryview(images)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._next[label, is_test])
            self._next[label, is_test] += written
            rest = rest[written:]


def _hash(file: BinaryIO) -> str:
    file.seek(0)
    digest = sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def _read_npz(
    archive: zipfile.ZipFile, files: Sequence[Entry], pixels: BinaryIO, notes: Conversions, fitting: bool
) -> _Counts:
    found: dict[str, Callable[[], ArrayFile]] = {}
    folder = os.path.commonpath([os.path.dirname(entry.path) for entry in files])
    for entry in files:
        name = entry.path[len(folder) :].lstrip("/").removesuffix(".npy")  # such as train/images
        found[name] = partial(open_array, name, archive, entry.info)
    if is_test_folder(folder.split("/")) and not any(map(parts_in, found)):
        raise InvalidUpload(
            "invalid_array",
            f"all arrays are in {shorten(folder)}, which is read as images to test with, and they are never "
            "learned from; add train/images.npy and train/labels.npy, or give that folder another name",
        )
    arrays = read_arrays(found, notes, fitting=fitting)
    counts = _Counts(arrays.counts, arrays.tests)
    _refuse_wrong_counts(counts)
    sorted_pixels = _Pixels(pixels, counts)
    for label, is_test, rows in arrays.pieces(notes):
        sorted_pixels.put(label, is_test, rows)
    return counts


def _read_folders(
    archive: zipfile.ZipFile,
    files: Sequence[Entry],
    pixels: BinaryIO,
    notes: Conversions,
    fitting: PixelBudget | None,
) -> _Counts:
    pictures, has_split = folders.find_pictures(files, notes)
    labels = sorted({picture.label for picture in pictures})
    for label in labels:
        check_label(label)
    images, tests = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
    for picture in pictures:
        images[picture.label] += 1
        tests[picture.label] += picture.is_test
    counts = _Counts(images, tests if has_split else None)
    sorted_pixels = _Pixels(pixels, counts)
    for picture in pictures:
        data = _read_picture(archive, picture.entry)
        grey = decode_picture(picture.entry.quoted, data, fitting=fitting, note=notes.count)
        sorted_pixels.put(picture.label, picture.is_test, grey)
    _refuse_wrong_counts(counts)
    return counts


def _read_picture(archive: zipfile.ZipFile, entry: Entry) -> bytes:
    size = entry.info.file_size
    if size > MAX_PICTURE_BYTES:
        raise InvalidUpload(
            "image_too_large",
            f"{entry.quoted} has {size:,} bytes, more than {MAX_PICTURE_BYTES:,}; make it smaller",
        )
    try:
        with archive.open(entry.info) as file:
            return file.read(size + 1)  # without a size, all that follows would be unpacked
    except Exception as error:
        message = f"{entry.quoted} is damaged and cannot be unpacked"
        raise InvalidUpload("corrupt_archive", message) from error
