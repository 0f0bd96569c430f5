"""Read the labels of an array: text, numbers, a column of them, or one-hot rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.requests.array_files import ArrayFile
from service.requests.invalid_upload import InvalidUpload, shorten
from service.requests.upload_notes import Conversions

MAX_TEXT_LENGTH = 1024
MAX_LABELS = 200
NOT_CHARACTERS = 0xD800, 0xDFFF
LAST_CHARACTER = 0x10FFFF


@dataclass
class LabelCodes:
    """The labels of all arrays in the order in which they were met."""

    codes: dict[str | int, int] = field(default_factory=dict)
    """{label: its number}."""

    def ordered(self) -> list[str | int]:
        """Return the labels: numbers by size, then text by alphabet."""
        return sorted(self.codes, key=lambda label: (isinstance(label, str), label))

    def number(self, labels: list[Any]) -> list[int]:
        """Return the number of each label. Raises InvalidUpload for too many different ones."""
        for label in labels:
            self.codes.setdefault(label, len(self.codes))
        refuse_too_many_labels(len(self.codes))
        return [self.codes[label] for label in labels]


def refuse_too_many_labels(count: int) -> None:
    """Raise InvalidUpload if an upload has more labels than allowed."""
    if count > MAX_LABELS:
        raise InvalidUpload(
            "too_many_labels", f"there are {count} labels, more than the {MAX_LABELS} allowed"
        )


def read_labels(array: ArrayFile, known: LabelCodes, notes: Conversions) -> NDArray[np.int16]:
    """Return the number in `known` of the label of each image, [n]. Raises InvalidUpload.

    New labels are added to `known`.
    """
    if len(array.shape) == 2 and 1 not in array.shape and array.dtype.kind in "biuf":
        return _read_one_hot(array, known, notes)
    if array.dtype.kind not in "USiuf":
        raise InvalidUpload(
            "wrong_type",
            f"the array {shorten(array.name)} must be text or integers, not {array.dtype}; save "
            "labels.astype(str)",
        )
    sides = [side for side in array.shape if side != 1]
    if len(array.shape) > 1 and len(sides) <= 1:
        notes.add("labels_flattened", f"the labels are {list(array.shape)}: read as one label for each image")
    elif len(array.shape) != 1:
        raise InvalidUpload(
            "length_mismatch",
            f"the array {shorten(array.name)} must have one label for each image, [n], not "
            f"{list(array.shape)}",
        )
    if array.dtype.kind in "US" and array.dtype.itemsize > MAX_TEXT_LENGTH * (
        4 if array.dtype.kind == "U" else 1
    ):
        raise InvalidUpload(
            "invalid_name", f"the array {array.name!r} has texts of more than {MAX_TEXT_LENGTH} characters"
        )
    if array.dtype.kind == "f":
        notes.add("labels_to_integers", "the labels are floats: read as whole numbers")
    elif array.dtype.kind == "S":
        notes.add("labels_decoded", "the labels are bytes: read as UTF-8")
    found = [number for piece in _flat_pieces(array) for number in known.number(_values(array, piece))]
    return np.array(found, np.int16)


def _flat_pieces(array: ArrayFile) -> Iterator[NDArray[Any]]:
    for _, piece in array.pieces():
        yield piece.reshape(-1)


def _values(array: ArrayFile, piece: NDArray[Any]) -> list[Any]:
    if array.dtype.kind == "U":
        _refuse_other_than_characters(array, piece)
        return list(piece.tolist())
    if array.dtype.kind == "S":
        try:
            return [text.decode("utf-8") for text in piece.tolist()]
        except UnicodeDecodeError as error:
            raise _not_unicode(array) from error
    if array.dtype.kind == "f":
        piece = piece.astype(np.float64)  # a half float has no 2**53
        if not (np.isfinite(piece).all() and (piece == np.rint(piece)).all() and (abs(piece) < 2**53).all()):
            raise InvalidUpload(
                "wrong_type",
                f"the array {shorten(array.name)} has labels that are no whole numbers; save them as text or "
                "integers",
            )
        return [int(label) for label in piece.tolist()]
    return list(piece.tolist())


def _read_one_hot(array: ArrayFile, known: LabelCodes, notes: Conversions) -> NDArray[np.int16]:
    """Read rows of which one number is 1, and the others 0."""
    found: list[int] = []
    for _, piece in array.pieces():
        if not ((piece == 0) | (piece == 1)).all() or not (np.count_nonzero(piece, axis=1) == 1).all():
            raise InvalidUpload(
                "length_mismatch",
                f"the array {shorten(array.name)} must have one label for each image, [n], or one-hot rows, "
                f"not {list(array.shape)}",
            )
        refuse_too_many_labels(array.shape[1])
        found += known.number(piece.argmax(axis=1).tolist())
    notes.add(
        "labels_from_one_hot", "the labels are one-hot rows: read as the number of the column with the 1"
    )
    return np.array(found, np.int16)


def _refuse_other_than_characters(array: ArrayFile, piece: NDArray[Any]) -> None:
    """Raise InvalidUpload for a number that is no character. numpy raises SystemError for one."""
    points = np.frombuffer(piece.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    surrogate = (points >= NOT_CHARACTERS[0]) & (points <= NOT_CHARACTERS[1])
    if (surrogate | (points > LAST_CHARACTER)).any():
        raise _not_unicode(array)


def _not_unicode(array: ArrayFile) -> InvalidUpload:
    return InvalidUpload(
        "invalid_name", f"the array {shorten(array.name)} contains a text that is not valid Unicode"
    )
