"""Read an uploaded zip of pictures: which files are pictures, and which label and part each belongs to."""

import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.requests.invalid_upload import InvalidUpload, shorten
from service.requests.splits import is_test_part, part_of_folder
from service.requests.upload_notes import Conversions

PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_PICTURES = (".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".ico", ".pgm")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "__pycache__")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
DOCUMENTS = (
    ".md", ".txt", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yml", ".yaml", ".html", ".pdf",
    ".log", ".ini", ".py",
)  # fmt: skip
DOCUMENT_NAMES = ("readme", "license", "licence", "copying", "notice")
UTF_8_FLAG = 0x800


@dataclass(frozen=True)
class Entry:
    """A file in the archive under the name that it is meant to have."""

    info: zipfile.ZipInfo
    path: str

    @property
    def quoted(self) -> str:
        return shorten(self.path)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))


@dataclass(frozen=True)
class Picture:
    """A picture in the archive."""

    entry: Entry
    label: str
    is_test: bool


def name_entry(info: zipfile.ZipInfo, notes: Conversions) -> Entry:
    """Return the entry with its name as UTF-8, if it is that, and with `/` between folders.

    Info-ZIP on Linux and older macOS write UTF-8 names without the flag that says so, and zipfile then reads
    them as code page 437. Programs on Windows may write backslashes.
    """
    path = info.orig_filename
    if not info.flag_bits & UTF_8_FLAG and not path.isascii():
        try:
            path = path.encode("cp437").decode("utf-8")
            notes.add("names_decoded", "the names in the archive are UTF-8 without the flag that says so")
        except UnicodeError:
            pass
    if "\\" in path:
        path = path.replace("\\", "/")
        notes.add("backslashes_replaced", "the paths in the archive have backslashes: read as folders")
    while path.startswith("./"):
        path = path[2:]
    return Entry(info, path)


def is_left_behind(entry: Entry) -> bool:
    """Whether an operating system or an editor left the file there: it is hidden, or known by its name."""
    *folders, name = entry.parts
    return (
        any(part.startswith(".") for part in entry.parts)
        or any(folder.lower() in SYSTEM_FOLDERS for folder in folders)
        or name.lower() in SYSTEM_FILES
    )


def find_pictures(entries: Iterable[Entry], notes: Conversions) -> tuple[list[Picture], bool]:
    """Return the pictures with their labels, in the order of their paths, and whether there is a split.

    Folders around all of them are left out. What is left is LABEL/NAME, PART/LABEL/NAME or LABEL/PART/NAME.
    Raises InvalidUpload for a file that is no picture and no document, or for other folders.
    """
    pictures = sorted(_pictures(entries, notes), key=lambda entry: entry.path)
    around, folders = _without_common([entry.parts[:-1] for entry in pictures])
    if around:
        notes.add(
            "folders_around_ignored",
            f"the folder around all pictures was left out: {shorten('/'.join(around))}",
        )
    found = []
    for entry, inner in zip(pictures, folders, strict=True):
        found.append((entry, *_place(entry, inner)))
    parts = {part for _, _, part in found}
    if len(parts) > 1 and "" in parts:
        odd = next(entry for entry, _, part in found if not part)
        raise InvalidUpload(
            "invalid_path", f"{odd.quoted} is in no part of the split; put it into train/LABEL or test/LABEL"
        )
    if parts and all(is_test_part(part) for part in parts):
        raise InvalidUpload(
            "too_few_images",
            "the archive has test pictures only, and they are never learned from; add train/LABEL/NAME.png",
        )
    has_split = any(is_test_part(part) for part in parts)
    if has_split:
        notes.add("split_kept", "the archive's own split is kept: its test pictures are never learned from")
    labels = {label for _, label, _ in found}
    composed = {label: unicodedata.normalize("NFC", label) for label in labels}
    if len(set(composed.values())) < len(composed):
        raise InvalidUpload(
            "invalid_name", "two labels have the same name in two forms of Unicode; merge them"
        )
    if any(label != name for label, name in composed.items()):
        notes.add("names_composed", "names of labels were decomposed, as macOS writes them: composed (NFC)")
    return [Picture(entry, composed[label], is_test_part(part)) for entry, label, part in found], has_split


def _pictures(entries: Iterable[Entry], notes: Conversions) -> list[Entry]:
    pictures, documents = [], []
    for entry in entries:
        path = PurePosixPath(entry.path)
        suffix = path.suffix.lower()
        if suffix in PICTURES and len(entry.parts) > 1:
            pictures.append(entry)
        elif suffix in OTHER_PICTURES:
            raise InvalidUpload("invalid_image", f"{entry.quoted} is neither PNG nor JPEG; save it as PNG")
        elif suffix in DOCUMENTS or (path.stem.lower() in DOCUMENT_NAMES and not suffix):
            documents.append(entry)
        else:
            raise InvalidUpload("invalid_path", f"{entry.quoted} is not of the form LABEL/NAME.png")
    if documents:
        notes.add("documents_ignored", f"files that are no pictures were left out: {_some(documents)}")
    return pictures


def _without_common(folders: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the folders around all pictures, and those inside of them. At least one is left inside."""
    depth = 0
    if folders:
        shortest = min(len(each) for each in folders)
        while depth < shortest - 1 and len({each[depth] for each in folders}) == 1:
            depth += 1
    if depth and all(len(each) == depth + 1 and part_of_folder(each[depth]) for each in folders):
        depth -= 1  # LABEL/PART/NAME with a single label
    return (folders[0][:depth] if folders else ()), [each[depth:] for each in folders]


def _place(entry: Entry, folders: tuple[str, ...]) -> tuple[str, str]:
    """Return the label and the part of the split ("" for none) of a picture in these folders."""
    if len(folders) == 1 and part_of_folder(folders[0]) is None:
        return folders[0], ""
    if len(folders) == 2:
        first, second = part_of_folder(folders[0]), part_of_folder(folders[1])
        if first is not None and second is None:
            return folders[1], first
        if second is not None and first is None:
            return folders[0], second
    raise InvalidUpload(
        "invalid_path", f"{entry.quoted} is not of the form LABEL/NAME.png, or train/LABEL/NAME.png"
    )


def note_left_behind(entries: Sequence[Entry], notes: Conversions) -> None:
    """Note the files that operating systems and editors left in the archive."""
    if entries:
        notes.add(
            "hidden_files_ignored",
            f"hidden files and those of operating systems were left out: {_some(entries)}",
        )


def _some(entries: Sequence[Entry]) -> str:
    shown = ", ".join(entry.quoted for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3:,} more"
