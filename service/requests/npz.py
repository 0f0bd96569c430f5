"""Read an uploaded npz: which of its arrays are images and labels, and of which part of a split."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.requests import array_images
from service.requests.array_files import ArrayFile
from service.requests.array_images import Layout
from service.requests.array_labels import LabelCodes, read_labels
from service.requests.invalid_upload import InvalidUpload, shorten
from service.requests.splits import is_test_part, part_of, tells_split
from service.requests.upload_notes import Conversions

IMAGE_NAMES = frozenset(
    (
        "x",
        "images",
        "image",
        "imgs",
        "img",
        "data",
        "pictures",
        "pixels",
        "features",
        "inputs",
        "input",
        "samples",
    )
)
LABEL_NAMES = frozenset(
    ("y", "labels", "label", "targets", "target", "classes", "class", "outputs", "output", "categories")
)
WORDS = re.compile(r"[A-Z]?[a-z]+[0-9]*[a-z]*|[A-Z]+(?![a-z])|[0-9]+")
GLUED = re.compile(r"(x|y)(train|test|tr|te|val|valid)")
"""Names such as `xtrain`."""


Opener = Callable[[], ArrayFile]


class UnclearArrays(InvalidUpload):
    """It is not clear which arrays are images and labels."""


@dataclass(frozen=True)
class _Pair:
    """An array of images with that of their labels."""

    images: ArrayFile
    labels: ArrayFile
    is_test: bool


@dataclass(frozen=True)
class Arrays:
    """The images of an npz, with the label of each."""

    counts: dict[str, int]
    """{label: how many images it has}. The labels are in order: numbers by size, text by alphabet."""
    tests: dict[str, int] | None
    """{label: how many of them are in the file's own test part}; None if the file has no such part."""
    _parts: tuple[tuple[ArrayFile, Layout, NDArray[np.int16], bool], ...]
    _scale: Any

    def pieces(self, notes: Conversions) -> Iterator[tuple[str, bool, bytes]]:
        """Yield every label with the pixels of some of its images, and whether these are test images."""
        names = list(self.counts)
        for images, layout, codes, is_test in self._parts:
            for first, rows in array_images.read_images(images, layout, self._scale, notes):
                labels = codes[first : first + len(rows)]
                for label in np.unique(labels):
                    yield names[label], is_test, rows[labels == label].tobytes()


def read_arrays(arrays: Mapping[str, Opener], notes: Conversions, *, fitting: bool) -> Arrays:
    """Read the labels, and find out how the images are held. Raises InvalidUpload, such as UnclearArrays.

    arrays: {name, with the folders that it is in: the function that opens the array}; those that are neither
    images nor labels stay closed.
    fitting: whether images of other sizes than 28x28 are scaled.
    """
    pairs = _find_pairs(arrays, notes)
    known = LabelCodes()
    numbers = [read_labels(pair.labels, known, notes) for pair in pairs]
    layouts = [array_images.find_layout(pair.images, len(n)) for pair, n in zip(pairs, numbers, strict=True)]
    for pair, layout, labels in zip(pairs, layouts, numbers, strict=True):
        array_images.check_images(pair.images, layout, fitting=fitting)
        if layout.count != len(labels):
            raise InvalidUpload(
                "length_mismatch",
                f"the array {shorten(pair.labels.name)} must have the shape [{layout.count}], one label for "
                f"each image, not {list(pair.labels.shape)}",
            )
        array_images.note_layout(pair.images, layout, notes)
    images = [pair.images for pair in pairs]
    if len(images) == 1 and images[0].dtype == np.uint8:  # it is read once less
        scale = lambda piece: piece  # noqa: E731
    else:
        values = [array_images.measure_values(*one) for one in zip(images, layouts, strict=True)]
        scale = array_images.find_scaling(images, values, notes)
    order = known.ordered()
    ranks = np.empty(max(len(order), 1), np.int16)
    ranks[[known.codes[label] for label in order]] = np.arange(len(order))
    parts = tuple(
        (pair.images, layout, ranks[labels], pair.is_test)
        for pair, layout, labels in zip(pairs, layouts, numbers, strict=True)
    )
    names = [str(label) for label in order]
    if len(set(names)) < len(names):
        raise InvalidUpload("wrong_type", "the arrays of labels differ in their types; save all as text")

    def counted(*kinds: bool) -> dict[str, int]:
        sums = sum(
            (np.bincount(n, minlength=len(order)) for _, _, n, test in parts if test in kinds),
            start=np.zeros(len(order), np.int64),
        )
        return dict(zip(names, sums.tolist(), strict=True))

    tests = counted(True) if any(pair.is_test for pair in pairs) else None
    return Arrays(counted(True, False), tests, parts, scale)


def _find_pairs(arrays: Mapping[str, Opener], notes: Conversions) -> list[_Pair]:
    """Find images and labels by their names, or by their shapes if no name says so."""
    roles: dict[tuple[str, str], list[str]] = {}
    for name in arrays:
        if (role := _role_of(name)) is not None:
            roles.setdefault(role, []).append(name)
    for name in arrays:  # such as `train` beside `train_labels`
        part = part_of(name)
        if part is not None and (part, "labels") in roles:
            roles.setdefault((part, "images"), [name])
    if {"images", "labels"} <= set(arrays):  # the documented names win over others
        roles |= {("", "images"): ["images"], ("", "labels"): ["labels"]}
    parts = sorted({part for part, _ in roles})
    complete = [part for part in parts if (part, "images") in roles and (part, "labels") in roles]
    if complete:
        is_clear = all(part in complete or not part for part in parts) and not {"", "train"} <= set(complete)
        if not is_clear or any(
            len(roles[part, role]) > 1 for part in complete for role in ("images", "labels")
        ):
            raise _unclear(arrays)
        pairs = [
            _Pair(arrays[roles[part, "images"][0]](), arrays[roles[part, "labels"][0]](), is_test_part(part))
            for part in complete
        ]
    elif any(is_test_part(part) for name in arrays for part in parts_in(name)):  # it would be learned from
        raise _unclear(arrays)
    else:
        pairs = _find_by_shape(arrays)
    pairs.sort(key=lambda pair: pair.is_test)
    if all(pair.is_test for pair in pairs):
        raise InvalidUpload(
            "invalid_array",
            "the npz has test images only, which are never learned from; save them as `images` and `labels`",
        )
    used = {name for pair in pairs for name in (pair.images.name, pair.labels.name)}
    if names := used - {"images", "labels"}:
        notes.add("arrays_by_name", f"read as images and labels: {_list(sorted(names))}")
    if ignored := sorted(set(arrays) - used):
        notes.add(
            "arrays_ignored", f"arrays that are neither images nor labels were left out: {_list(ignored)}"
        )
    has_split = any(pair.is_test for pair in pairs)
    if not has_split and (unread := [name for name in ignored if tells_split(name)]):
        raise InvalidUpload(
            "invalid_array",
            f"{_list(unread)} seems to say which images are to test with, and is not read; save them as "
            "'x_test' and 'y_test' beside 'x_train' and 'y_train', or leave that array out",
        )
    if has_split:
        notes.add("split_kept", "the file's own split is kept: its test images are never learned from")
    return pairs


def _role_of(name: str) -> tuple[str, str] | None:
    """Return the part of a split ("" for none) and whether it is images or labels; None if neither.

    The part may stand in the names of folders, such as `test/x`. So may the rest if the name itself has the
    part only, such as `images/test`; otherwise folders may be called anything.
    """
    folders, _, file = name.rpartition("/")
    parts = parts_in(name)
    rest, around = ([word for word in _words(each) if part_of(word) is None] for each in (file, folders))
    rest = rest or around
    if len(parts) > 1 or len(rest) != 1:
        return None
    role = "images" if rest[0] in IMAGE_NAMES else "labels" if rest[0] in LABEL_NAMES else None
    return None if role is None else (next(iter(parts), ""), role)


def parts_in(name: str) -> set[str]:
    """Return all parts of a split that the name and its folders mention."""
    return {part for level in name.split("/") for word in _words(level) if (part := part_of(word))}


def _words(name: str) -> list[str]:
    glued = GLUED.fullmatch(name.lower())
    return list(glued.groups()) if glued else [word.lower() for word in WORDS.findall(name)]


def _find_by_shape(arrays: Mapping[str, Opener]) -> list[_Pair]:
    """Find the two of exactly two arrays, such as `arr_0` and `arr_1`."""
    if len(arrays) != 2:
        raise _unclear(arrays)
    smaller, larger = sorted((open_it() for open_it in arrays.values()), key=lambda array: len(array.shape))
    if len(larger.shape) == len(smaller.shape):
        smaller, larger = sorted((smaller, larger), key=lambda array: array.shape[-1:])
    return [_Pair(larger, smaller, is_test=False)]


def _unclear(arrays: Mapping[str, Opener]) -> UnclearArrays:
    return UnclearArrays(
        "invalid_array",
        "the npz must contain the arrays 'images' and 'labels', or 'x_train', 'y_train', 'x_test' and "
        f"'y_test'; it contains: {_list(sorted(arrays))}",
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
