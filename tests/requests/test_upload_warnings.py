"""What looks wrong with an upload is said, with the labels that it is about, and does not refuse it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from service.requests.invalid_upload import InvalidUpload
from service.requests.upload_checks import JUDGE_TEST_IMAGES, JUDGE_TRAIN_IMAGES
from tests.requests.archives import as_arrays, drawings, npz, pngs, zipped
from tests.requests.reading import read
from worker.learning.judging.quality_gate import QualityGate

ENOUGH = 100
"""Of each label, for a judge."""


def warned(images: NDArray[np.uint8], labels: NDArray[np.str_]) -> dict[str, tuple[str, ...]]:
    """{code: labels} of the warnings about these images."""
    return {note.code: note.labels for note in read(npz(images=images, labels=labels)).warnings}


def test_good_images_are_not_warned_of() -> None:
    assert warned(*as_arrays(drawings(each=ENOUGH))) == {}


@pytest.mark.parametrize(
    ("code", "about", "change"),
    [
        ("inverted", ("0", "1"), lambda x, y: 255 - x),
        ("inverted", ("1",), lambda x, y: np.where((y == "1")[:, None, None], 255 - x, x)),
        ("dim", ("0", "1"), lambda x, y: x // 4),
        ("dim", ("0",), lambda x, y: np.where((y == "0")[:, None, None], x // 4, x)),
        ("repeated_images", ("0",), lambda x, y: np.where((y == "0")[:, None, None], x[:1], x)),
        ("same_under_two_labels", ("0", "1"), lambda x, y: np.concatenate([x[:-1], x[:1]])),
        ("blank_images", ("1",), lambda x, y: np.concatenate([x[:-1], x[:1] * 0])),
        ("blank_images", ("1",), lambda x, y: np.concatenate([x[:-1], x[:1] // 255])),
    ],
)
def test_what_looks_wrong_is_said(code: str, about: tuple[str, ...], change: object) -> None:
    images, labels = as_arrays(drawings(each=ENOUGH))
    assert warned(change(images, labels), labels) == {code: about}  # type: ignore[operator]


def test_ink_that_touches_the_border_is_not_a_bright_ground() -> None:
    images, labels = as_arrays(drawings(each=ENOUGH))
    images[:, 0, :] = 255
    assert warned(images, labels) == {}


def test_too_few_images_to_judge_are_said_at_once() -> None:
    images, labels = as_arrays({**drawings(each=ENOUGH), **drawings(each=99, labels=("2",), seed=1)})
    assert warned(images, labels) == {"too_few_to_judge": ("2",)}
    assert warned(*as_arrays(drawings(each=ENOUGH, labels=("a",)))) == {"too_few_labels": ("a",)}


def test_the_numbers_that_a_judge_needs_are_those_of_its_quality_gate() -> None:
    gate = QualityGate()
    assert (gate.train_images, gate.test_images) == (JUDGE_TRAIN_IMAGES, JUDGE_TEST_IMAGES)


def test_test_images_that_are_also_learned_from_are_said() -> None:
    images, labels = as_arrays(drawings(each=ENOUGH))
    other, other_labels = as_arrays(drawings(each=20, seed=1))
    other[0] = images[0]
    upload = read(npz(x_train=images, y_train=labels, x_test=other, y_test=other_labels))
    assert {note.code: note.labels for note in upload.warnings} == {"test_images_in_train": ("0",)}


def split(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> bytes:
    """A zip of these images of one label in two parts."""
    parts = {**pngs({"train/0": train}), **pngs({"test/0": test})}
    return zipped(parts)


DRAWN = drawings(each=ENOUGH, labels=("0",))["0"]
OTHER = drawings(each=20, labels=("0",), seed=1)["0"]


def test_a_dim_part_of_a_split_is_said_beside_a_bright_one() -> None:
    dim = {
        note.detail.partition(" is ")[0]
        for archive in (split(DRAWN // 4, OTHER), split(DRAWN, OTHER // 4))
        for note in read(archive).warnings
        if (note.code, note.labels) == ("dim", ("0",))
    }
    assert dim == {"no pixel", "no pixel of the test images"}


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (DRAWN // 255, OTHER, "of all images to learn from is 1 of 255, which is black; multiply by 255"),
        (DRAWN, OTHER // 255, "of all images to test with is 1 of 255, which is black; multiply by 255"),
        (DRAWN * 0, OTHER, "all 100 images to learn from have the brightness 0 everywhere"),
    ],
    ids=["train 0 and 1", "test 0 and 1", "train black"],
)
def test_a_black_part_of_a_split_is_refused_beside_a_bright_one(
    train: NDArray[np.uint8], test: NDArray[np.uint8], words: str
) -> None:
    with pytest.raises(InvalidUpload, match=words):
        read(split(train, test))
