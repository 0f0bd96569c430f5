"""Read an uploaded zip of pictures: which files are pictures, and which label and part each belongs to."""

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.requests.invalid_upload import InvalidUpload, shorten
from service.requests.splits import (
    find_glued_parts,
    is_container,
    is_test_folder,
    is_test_part,
    may_be_label,
    part_of_folder,
    tells_split,
)
from service.requests.upload_notes import Conversions

PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_PICTURES = (".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".ico", ".pgm")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "__pycache__")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
DOCUMENTS = (
    ".md", ".txt", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yml", ".yaml", ".html", ".pdf",
    ".log", ".ini", ".py",
)  # fmt: skip
SHEETS = (".csv", ".tsv")
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".txt")
TABLE_WORDS = ("label", "annotation", "target", "truth", "class")
"""Words in the name of a document that says which label each picture has, such as `labels.csv`."""
DOCUMENT_NAMES = ("readme", "license", "licence", "copying", "notice")
UTF_8_FLAG = 0x800
UNICODE_PATH = 0x7075
FIELD_HEADER = struct.Struct("<HH")
"""Of an extra field of an entry: its kind and its size."""


@dataclass(frozen=True)
class Entry:
    """A file in the archive under the name that it is meant to have."""

    info: zipfile.ZipInfo
    path: str
    is_name_known: bool
    """Whether it is known which letters the bytes of its name stand for."""

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


def name_entry(info: zipfile.ZipInfo, notes: Conversions, *, all_utf_8: bool) -> Entry:
    """Return the entry with its name as it is meant, and with `/` between folders.

    A name in UTF-8 may stand beside one in a code page. Info-ZIP on Linux and older macOS write UTF-8 names
    without the flag that says so, and zipfile then reads them as code page 437. Programs on Windows may write
    backslashes, and names in the code page of their country. It cannot be told which: the bytes of Japanese
    names may be Spanish letters.

    all_utf_8: what `are_utf_8` says of the archive.
    """
    own = _unicode_path(info)
    path = info.orig_filename if own is None else own
    is_known = own is not None or all_utf_8 or not _is_unflagged(info)
    if own is None and _is_unflagged(info) and all_utf_8:
        path = path.encode("cp437").decode("utf-8")
        notes.add("names_decoded", "the names in the archive are UTF-8 without the flag that says so")
    if "\\" in path and is_known:  # in other names it may be half of a letter
        path = path.replace("\\", "/")
        notes.add("backslashes_replaced", "the paths in the archive have backslashes: read as folders")
    while path.startswith("./"):
        path = path[2:]
    return Entry(info, path, is_known)


def are_utf_8(infos: Iterable[zipfile.ZipInfo]) -> bool:
    """Whether all names without the flag for UTF-8 are UTF-8 nevertheless."""
    try:
        for info in infos:
            if _is_unflagged(info):
                info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return False
    return True


def _is_unflagged(info: zipfile.ZipInfo) -> bool:
    return not info.flag_bits & UTF_8_FLAG and not info.orig_filename.isascii()


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """Return the name in UTF-8 that a program wrote beside the one in a code page; None if there is none.

    It is the field 0x7075 of Info-ZIP and WinZip: a version, the CRC-32 of the other name, and the name. The
    zipfile of Python 3.11 does not read it.
    """
    if not _is_unflagged(info):
        return None
    rest = info.extra
    while len(rest) >= FIELD_HEADER.size:
        kind, size = FIELD_HEADER.unpack_from(rest)
        field, rest = rest[FIELD_HEADER.size :][:size], rest[FIELD_HEADER.size + size :]
        if kind == UNICODE_PATH and field[:5] == struct.pack(
            "<BI", 1, zlib.crc32(info.orig_filename.encode("cp437"))
        ):
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


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
    Raises InvalidUpload for a file that is no picture and no document, for other folders, if the folders seem
    not to be named after labels, or if there are documents only.
    """
    pictures, documents = _pictures_and_documents(entries)
    if documents and not pictures:
        raise InvalidUpload(
            "too_few_images",
            f"the archive contains no image, and {_some(documents)} is not read; save images and labels with "
            "numpy.savez, or as LABEL/NAME.png",
        )
    note_documents(documents, notes)
    pictures.sort(key=lambda entry: entry.path)
    around, folders = _without_common([entry.parts[:-1] for entry in pictures])
    places = _places(pictures, folders, any(map(_is_table, documents)), notes)
    found = [(entry, label, part) for entry, (label, part) in zip(pictures, places, strict=True)]
    parts = {part for _, _, part in found}
    if is_test_folder(around) and parts == {""}:
        raise InvalidUpload(
            "too_few_images",
            f"all pictures are in {shorten('/'.join(around))}, which is read as pictures to test with, and "
            "they are never learned from; add train/LABEL/NAME.png, or give that folder another name",
        )
    if around:
        notes.add(
            "folders_around_ignored",
            f"the folder around all pictures was left out: {shorten('/'.join(around))}",
        )
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
    _refuse_unknown_letters(label for entry, label, _ in found if not entry.is_name_known)
    _refuse_folders_without_labels(labels, documents)
    if not has_split:
        _refuse_unread_split(labels, documents)
    composed = {label: unicodedata.normalize("NFC", label) for label in labels}
    if len(set(composed.values())) < len(composed):
        raise InvalidUpload(
            "invalid_name", "two labels have the same name in two forms of Unicode; merge them"
        )
    if any(label != name for label, name in composed.items()):
        notes.add("names_composed", "names of labels were decomposed, as macOS writes them: composed (NFC)")
    return [Picture(entry, composed[label], is_test_part(part)) for entry, label, part in found], has_split


def _pictures_and_documents(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    pictures, documents = [], []
    for entry in entries:
        suffix = PurePosixPath(entry.path).suffix.lower()
        if suffix in PICTURES and len(entry.parts) > 1:
            pictures.append(entry)
        elif suffix in OTHER_PICTURES:
            raise InvalidUpload("invalid_image", f"{entry.quoted} is neither PNG nor JPEG; save it as PNG")
        elif is_document(entry):
            documents.append(entry)
        elif suffix in PICTURES:
            raise InvalidUpload("invalid_path", f"{entry.quoted} is not of the form LABEL/NAME.png")
        else:
            raise InvalidUpload(
                "invalid_path",
                f"{entry.quoted} is no picture of the form LABEL/NAME.png; leave it out, or send images and "
                "labels as an npz (numpy.savez)",
            )
    return pictures, documents


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


def _places(
    pictures: Sequence[Entry], folders: Sequence[tuple[str, ...]], has_table: bool, notes: Conversions
) -> list[tuple[str, str]]:
    """Return the label and the part of the split ("" for none) of every picture, which is in these folders.

    A name such as `train` is that of a part, or of a label if the other folders of its level are no parts.
    has_table: whether a document names the labels, so that folders on one level may be anything.
    """
    depths = {len(each) for each in folders}
    names = [set(level) for level in zip(*folders, strict=True)] if len(depths) == 1 else []
    parts = [{name for name in level if part_of_folder(name)} for level in names]
    beside_labels = depths == {1} and parts[0] and parts[0] < names[0]
    if beside_labels and not has_table and all(map(may_be_label, parts[0])):
        notes.add(
            "parts_as_labels",
            f"read as labels, because the folders beside them are no parts of a split: {_quote(parts[0])}",
        )
        return [(label, "") for (label,) in folders]
    if depths == {2} and parts[0] == names[0] and parts[1] < names[1]:
        return [(label, part_of_folder(part) or "") for part, label in folders]
    if depths == {2} and parts[1] == names[1] and parts[0] < names[0]:
        return [(label, part_of_folder(part) or "") for label, part in folders]
    return [_place(entry, inner) for entry, inner in zip(pictures, folders, strict=True)]


def _place(entry: Entry, folders: tuple[str, ...]) -> tuple[str, str]:
    """Return the label and the part of a picture by its own folders. Raises InvalidUpload."""
    parts = [part_of_folder(folder) for folder in folders]
    if len(folders) == 1 and parts[0] is None:
        return folders[0], ""
    if len(folders) == 2:
        first, second = parts
        if first is not None and second is None:
            return folders[1], first
        if second is not None and first is None:
            return folders[0], second
    if len(folders) <= 2 and None not in parts:
        names = f"{_quote(folders)} {'is' if len(folders) == 1 else 'are'}"
        raise InvalidUpload(
            "invalid_path",
            f"{entry.quoted} is in no label: {names} read as a part of a split; use train/LABEL/NAME.png, or "
            "give a folder that is a label another name",
        )
    raise InvalidUpload(
        "invalid_path", f"{entry.quoted} is not of the form LABEL/NAME.png, or train/LABEL/NAME.png"
    )


def _refuse_unknown_letters(labels: Iterable[str]) -> None:
    """Raise InvalidUpload unless these labels, in paths of an unknown code page, are ASCII."""
    if unknown := {label for label in labels if not label.isascii()}:
        raise InvalidUpload(
            "invalid_name",
            f"the names of folders are in an unknown code page, of which 437 makes {_quote(unknown)}; pack "
            "the archive with names in UTF-8, or give the folders names of ASCII letters",
        )


def _refuse_folders_without_labels(labels: Collection[str], documents: Sequence[Entry]) -> None:
    """Raise InvalidUpload if the names of the folders seem not to be labels, but a table to have them."""
    tables = [entry for entry in documents if _is_table(entry)]
    sheets = _sheets(documents)
    are_containers = bool(labels) and all(is_container(label) for label in labels)
    if len(labels) != 1 and not (are_containers and sheets):
        return
    quoted = _quote(labels)
    if are_containers:
        unread = f"{_some(sheets)} is not read, and " if sheets else ""
        raise InvalidUpload(
            "invalid_path",
            f"all pictures are in {quoted}, which says nothing of their labels; {unread}labels are the names "
            "of folders: sort the pictures into LABEL/NAME.png, or give the folders other names if each is a "
            "label",
        )
    if tables:
        raise InvalidUpload(
            "invalid_path",
            f"all pictures have the label {quoted}; {_some(tables)} is not read, and labels are the names of "
            "folders: sort the pictures into LABEL/NAME.png, or leave that file out if the label is right",
        )


def _refuse_unread_split(labels: Collection[str], documents: Sequence[Entry]) -> None:
    """Raise InvalidUpload if the archive seems to have a split that is not in its folders.

    Its test pictures would be learned from.
    """
    lists = [
        entry
        for entry in documents
        if PurePosixPath(entry.path).suffix.lower() in TABLES and tells_split(PurePosixPath(entry.path).stem)
    ]
    if lists:
        raise InvalidUpload(
            "invalid_path",
            f"{_some(lists)} seems to say which pictures are to test with, and is not read: sort "
            "the pictures into train/LABEL/NAME.png and test/LABEL/NAME.png, or leave that file out",
        )
    if label := find_glued_parts(labels):
        raise InvalidUpload(
            "invalid_path",
            f"the folder {shorten(label)} seems to be a label and the part of a split; use "
            "train/LABEL/NAME.png and test/LABEL/NAME.png, or give it another name if it is a label",
        )


def is_document(entry: Entry) -> bool:
    """Whether the file is text beside the images, such as a README."""
    path = PurePosixPath(entry.path)
    suffix = path.suffix.lower()
    return suffix in DOCUMENTS or (path.stem.lower() in DOCUMENT_NAMES and not suffix)


def _is_table(entry: Entry) -> bool:
    """Whether the document seems to say which label each picture has."""
    path = PurePosixPath(entry.path)
    return path.suffix.lower() in TABLES and any(word in path.stem.lower() for word in TABLE_WORDS)


def _sheets(documents: Sequence[Entry]) -> list[Entry]:
    """Return the documents that seem to say which label each image has, or else all that may."""
    tables = [entry for entry in documents if _is_table(entry)]
    return tables or [entry for entry in documents if PurePosixPath(entry.path).suffix.lower() in SHEETS]


def name_unread(documents: Sequence[Entry]) -> str:
    """Return the end of a refusal, such as "; 'labels.csv' is not read"; "" if no document has labels."""
    sheets = _sheets(documents)
    return f"; {_some(sheets)} is not read" if sheets else ""


def note_documents(entries: Sequence[Entry], notes: Conversions) -> None:
    """Note the documents in the archive."""
    if entries:
        notes.add("documents_ignored", f"files that are no images were left out: {_some(entries)}")


def note_left_behind(entries: Sequence[Entry], notes: Conversions) -> None:
    """Note the files that operating systems and editors left in the archive."""
    if entries:
        notes.add(
            "hidden_files_ignored",
            f"hidden files and those of operating systems were left out: {_some(entries)}",
        )


def _quote(names: Iterable[str]) -> str:
    quoted = [shorten(name) for name in sorted(names)]
    return ", ".join(quoted[:3]) + (" and others" if len(quoted) > 3 else "")


def _some(entries: Sequence[Entry]) -> str:
    shown = ", ".join(entry.quoted for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3:,} more"
