"""The names that people give to the parts of a split: what is learned from, and what is held out."""

import re
from collections.abc import Collection, Sequence

_PARTS = {
    "train": ("train", "training", "tr", "trainset", "traindata"),
    "test": ("test", "testing", "te", "tst", "t10k", "testset", "testdata", "eval", "evaluation", "holdout"),
    "validation": ("val", "valid", "validation", "dev"),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


_FILLING = frozenset(("set", "data", "dataset", "images", "imgs", "split", "folder"))
"""Words beside the name of a part that say nothing more, as in `training_set`."""
_CONTAINERS = _FILLING | frozenset(
    ("all", "image", "img", "picture", "pictures", "photo", "photos", "png", "pngs", "jpg", "jpgs", "jpeg",
     "jpegs", "file", "files", "sample", "samples", "input", "inputs", "raw", "pixels")
)  # fmt: skip
"""Words for a folder of images of whatever label."""
_SPLIT_WORDS = frozenset(("split", "splits", "fold", "folds", "partition", "partitions", "subset", "subsets"))
_ALSO_LABELS = frozenset(("train", "tr", "te", "dev", "val"))
"""Names of parts that are words for something else, too: a train, and languages such as Turkish."""


def part_of(name: str) -> str | None:
    """Return `train`, `test` or `validation` for the name of a part; None for other names."""
    return _PART_OF.get(name.lower())


def part_of_folder(name: str) -> str | None:
    """Return the part that a folder holds, such as `training_set` or `Test Images`; or None."""
    words = [word for word in _words(name) if word not in _FILLING]
    return part_of(words[0]) if len(words) == 1 else None


def tells_split(name: str) -> bool:
    """Whether a table or an array of this name seems to say which images are to test with.

    Such as `split`, `is_test` or `train_test_split`.
    """
    words = [word.rstrip("0123456789") for word in _words(name)]
    return any(
        word in _SPLIT_WORDS or (is_test_part(part_of(word) or "") and not may_be_label(word))
        for word in words
    )


def find_glued_parts(labels: Collection[str]) -> str | None:
    """Return a label that seems to be a part of a split and a label, such as `test_cat`, if all are; or None.

    Each that is to test with has its label to learn from: `train_station` beside `test_tube` are two labels.
    """
    rests: dict[bool, set[tuple[str, ...]]] = {True: set(), False: set()}
    found = None
    for label in sorted(labels):
        words = _words(label)
        parts = [part for word in words if (part := part_of(word)) is not None]
        if len(parts) != 1:
            return None
        is_test = is_test_part(parts[0])
        rests[is_test].add(tuple(word for word in words if part_of(word) is None))
        found = label if is_test else found
    return found if rests[True] <= rests[False] else None


def may_be_label(name: str) -> bool:
    """Whether a folder with the name of a part may hold a label instead, if the folders beside it do."""
    return name.lower() in _ALSO_LABELS


def is_test_folder(around: Sequence[str]) -> bool:
    """Whether the folders around all images, the outermost first, say that all are to test with."""
    named = [name for name in around if not is_container(name)]
    return bool(named) and is_test_part(part_of_folder(named[-1]) or "")


def is_container(name: str) -> bool:
    """Whether the name of a folder says only that images are in it, such as `images` or `all_data_01`."""
    words = [word.rstrip("0123456789") for word in _words(name) if not word.isdigit()]
    return bool(words) and all(word in _CONTAINERS for word in words)


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.split(r"[\s_/-]+|(?<=[a-z])(?=[A-Z])", name) if word]


def is_test_part(part: str) -> bool:
    """Whether images of this part are never learned from: those to test, and those to validate with."""
    return part in ("test", "validation")
