"""The names that people give to the parts of a split: what is learned from, and what is held out."""

import re

_PARTS = {
    "train": ("train", "training", "tr", "trainset", "traindata"),
    "test": ("test", "testing", "te", "tst", "t10k", "testset", "testdata", "eval", "evaluation", "holdout"),
    "validation": ("val", "valid", "validation", "dev"),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


_FILLING = frozenset(("set", "data", "dataset", "images", "imgs", "split", "folder"))
"""Words beside the name of a part that say nothing more, as in `training_set`."""


def part_of(name: str) -> str | None:
    """Return `train`, `test` or `validation` for the name of a part; None for other names."""
    return _PART_OF.get(name.lower())


def part_of_folder(name: str) -> str | None:
    """Return the part that a folder holds, such as `training_set` or `Test Images`; or None."""
    words = [word for word in re.split(r"[\s_-]+", name.lower()) if word not in _FILLING]
    return part_of(words[0]) if len(words) == 1 else None


def is_test_part(part: str) -> bool:
    """Whether images of this part are never learned from: those to test, and those to validate with."""
    return part in ("test", "validation")
