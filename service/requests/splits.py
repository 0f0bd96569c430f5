"""The names that people give to the parts of a split: what is learned from, and what is held out."""

_PARTS = {
    "train": ("train", "training", "tr", "trainset", "traindata"),
    "test": ("test", "testing", "te", "tst", "t10k", "testset", "testdata", "eval", "evaluation", "holdout"),
    "validation": ("val", "valid", "validation", "dev"),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


def part_of(name: str) -> str | None:
    """Return `train`, `test` or `validation` for the name of a part; None for other names."""
    return _PART_OF.get(name.lower())


def is_test_part(part: str) -> bool:
    """Whether images of this part are never learned from: those to test, and those to validate with."""
    return part in ("test", "validation")
