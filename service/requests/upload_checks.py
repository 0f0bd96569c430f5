"""Look at the images of an upload, and say what looks wrong: nothing is refused that can be learned from.

The file is read once, a label at a time, and of every image a hash and its brightest pixel are kept.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.registry.datasets import SAME_UNDER_TWO_LABELS
from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload
from service.requests.upload_notes import Note

CHUNK = 1000
"""How many images are looked at together."""
JUDGE_TRAIN_IMAGES, JUDGE_TEST_IMAGES = 80, 20
"""How many images of each label a judge needs (worker/learning/judging/quality_gate.py)."""
BRIGHT_BORDER = 96
"""How bright the border of an image is, on average, when the ground is taken to be bright."""
BRIGHTER_BORDER = 16
"""By how much it is then brighter than the rest of the image."""
INVERTED = 0.1
"""The share of a label's images that may have a bright ground without a warning. No image of
MNIST and Fashion-MNIST has one."""
DIM = 128
"""A label whose brightest pixel is below this is dim. Ink of MNIST has 255."""
REPEATED = 0.1
"""The share of a label's images that may be copies of others without a warning."""


@dataclass(frozen=True)
class Looks:
    """What was found in the images."""

    label_digests: dict[str, str]
    """{label: a hash of its images, whatever their order}."""
    warnings: tuple[Note, ...]


@dataclass(frozen=True)
class _Label:
    """What was found in the images of a label."""

    digests: NDArray[np.uint64]
    """The beginning of the hash of every image, in their order."""
    peaks: NDArray[np.uint8]
    """The brightest pixel of every image."""
    is_flat: NDArray[np.bool_]
    """Whether an image has only one brightness, or none above 1 of 255, which is black."""
    held_out: int
    inverted: int

    @property
    def count(self) -> int:
        return len(self.digests)

    @property
    def train(self) -> slice:
        """Which images may be learned from. Those that the file holds out come after them."""
        return slice(0, self.count - self.held_out)

    @property
    def test(self) -> slice:
        """Which images the file holds out."""
        return slice(self.count - self.held_out, self.count)

    @property
    def flat(self) -> int:
        return int(self.is_flat.sum())

    @property
    def copies(self) -> int:
        return self.count - len(np.unique(self.digests))


def look(pixels: BinaryIO, counts: Mapping[str, int], tests: Mapping[str, int] | None) -> Looks:
    """Look at all images. Raises InvalidUpload if there is nothing to learn in them.

    tests: {label: how many of its images, the last ones, are of the file's own test part}, as in `Upload`.
    """
    pixels.seek(0)
    labels, digests = {}, {}
    for label, count in counts.items():
        labels[label], digests[label] = _look_at_label(pixels, count, (tests or {}).get(label, 0))
    pixels.seek(0)
    _refuse_nothing_to_learn(labels)
    checks: list[Callable[[Mapping[str, _Label]], Iterator[Note]]] = [
        _inverted, _dim, _flat, _repeated, _under_two_labels, _tests_that_are_learned,
    ]  # fmt: skip
    warnings = [note for check in checks for note in check(labels)]
    warnings += _without_tests(labels, tests)
    warnings += _too_few(labels)
    return Looks(digests, tuple(warnings))


def _look_at_label(pixels: BinaryIO, count: int, held_out: int) -> tuple[_Label, str]:
    hashes = bytearray()
    peaks, is_flat = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
    inverted = 0
    for first in range(0, count, CHUNK):
        data = pixels.read(min(CHUNK, count - first) * PIXELS)
        images = np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE)
        for image in images:
            hashes += sha256(image.tobytes()).digest()
        these = slice(first, first + len(images))
        peaks[these] = images.max(axis=(1, 2))
        is_flat[these] = (peaks[these] == images.min(axis=(1, 2))) | (peaks[these] <= 1)
        inverted += int(_has_bright_ground(images).sum())
    each = np.frombuffer(bytes(hashes), np.uint8).reshape(-1, 32)
    in_order = sorted(row.tobytes() for row in each)
    digest = sha256(b"".join(in_order)).hexdigest()
    beginnings = np.ascontiguousarray(each[:, :8]).view(np.uint64).reshape(-1)
    return _Label(beginnings, peaks, is_flat, held_out, inverted), digest


def _has_bright_ground(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    inner = images[:, 1:-1, 1:-1]
    inner_sum = inner.sum(axis=(1, 2), dtype=np.int64)
    border_size = PIXELS - inner[0].size
    border = (images.sum(axis=(1, 2), dtype=np.int64) - inner_sum) / border_size
    return np.asarray((border > BRIGHT_BORDER) & (border > inner_sum / inner[0].size + BRIGHTER_BORDER))


def _refuse_nothing_to_learn(labels: Mapping[str, _Label]) -> None:
    train = np.concatenate([label.peaks[label.train] for label in labels.values()])
    test = np.concatenate([label.peaks[label.test] for label in labels.values()])
    to_learn_from = " to learn from" if len(test) else ""
    for peaks, which in ((train, to_learn_from), (test, " to test with")):
        if peaks.max(initial=0) == 1:
            raise InvalidUpload(
                "wrong_range",
                f"the brightest pixel of all images{which} is 1 of 255, which is black; multiply by 255",
            )
    is_flat = all(label.is_flat[label.train].all() for label in labels.values())
    digests = np.concatenate([label.digests[label.train] for label in labels.values()])
    if is_flat and len(np.unique(digests)) == 1:
        raise InvalidUpload(
            "nothing_to_learn",
            f"all {len(train):,} images{to_learn_from} have the brightness {train[0]} everywhere, so there "
            "is nothing to learn; check how they were saved, and whether the ink was transparent",
        )


def _inverted(labels: Mapping[str, _Label]) -> Iterator[Note]:
    if found := [name for name, label in labels.items() if label.inverted > INVERTED * label.count]:
        yield Note(
            "inverted",
            "the border of the images is bright, as if the ink were dark on a bright ground; ink should be "
            "bright on black: upload 255 - images instead",
            tuple(found),
        )


def _dim(labels: Mapping[str, _Label]) -> Iterator[Note]:
    def peaks_below(part: Callable[[_Label], slice]) -> dict[str, int]:
        peaks = {name: label.peaks[part(label)] for name, label in labels.items()}
        return {name: int(some.max()) for name, some in peaks.items() if len(some) and some.max() < DIM}

    if train := peaks_below(lambda label: label.train):
        yield Note(
            "dim",
            f"no pixel is brighter than {max(train.values())} of 255, so that draws will be dark; scale the "
            "brightness so that ink is about 255",
            tuple(train),
        )
    test = peaks_below(lambda label: label.test)
    if only_test := {name: peak for name, peak in test.items() if name not in train}:
        yield Note(
            "dim",
            f"no pixel of the test images is brighter than {max(only_test.values())} of 255, and those to "
            "learn from are brighter, so that figures will be wrong; scale both parts alike",
            tuple(only_test),
        )


def _flat(labels: Mapping[str, _Label]) -> Iterator[Note]:
    if found := [name for name, label in labels.items() if label.flat]:
        count = sum(labels[name].flat for name in found)
        yield Note(
            "blank_images", f"{_images(count)} of one brightness or black, without any ink", tuple(found)
        )


def _repeated(labels: Mapping[str, _Label]) -> Iterator[Note]:
    if found := [name for name, label in labels.items() if label.copies > REPEATED * label.count]:
        count = sum(labels[name].copies for name in found)
        yield Note(
            "repeated_images",
            f"{_images(count)} a copy of another one of the same label; images to test with are then among "
            "those to learn from, and figures look better than they are",
            tuple(found),
        )


def _under_two_labels(labels: Mapping[str, _Label]) -> Iterator[Note]:
    distinct = [np.unique(label.digests) for label in labels.values()]
    digests = np.concatenate(distinct)
    of_label = np.repeat(np.arange(len(labels)), [len(one) for one in distinct])
    order = np.argsort(digests, kind="stable")
    digests, of_label = digests[order], of_label[order]
    same = digests[1:] == digests[:-1]
    if same.any():
        names = list(labels)
        found = np.unique(np.concatenate([of_label[1:][same], of_label[:-1][same]]))
        count = len(np.unique(digests[1:][same]))
        yield Note(
            SAME_UNDER_TWO_LABELS,
            f"{_images(count)} under several labels, which cannot be told apart by it",
            tuple(names[index] for index in found),
        )


def _tests_that_are_learned(labels: Mapping[str, _Label]) -> Iterator[Note]:
    found, count = [], 0
    for name, label in labels.items():
        if same := int(np.isin(label.digests[label.test], label.digests[label.train]).sum()):
            found.append(name)
            count += same
    if found:
        yield Note(
            "test_images_in_train",
            f"{_images(count)} in both parts of the split, to learn from and to test with; figures look "
            "better than they are",
            tuple(found),
        )


def _without_tests(labels: Mapping[str, _Label], tests: Mapping[str, int] | None) -> Iterator[Note]:
    if tests is None:
        return
    if found := [name for name, label in labels.items() if not label.held_out]:
        yield Note(
            "no_test_images",
            "the test part has no image, so that every fifth image is held out instead",
            tuple(found),
        )


def _too_few(labels: Mapping[str, _Label]) -> Iterator[Note]:
    def is_too_few(label: _Label) -> bool:
        test = label.held_out or label.count // 5
        return test < JUDGE_TEST_IMAGES or label.count - test < JUDGE_TRAIN_IMAGES

    if found := [name for name, label in labels.items() if is_too_few(label)]:
        yield Note(
            "too_few_to_judge",
            f"too few images for a judge, which needs {JUDGE_TRAIN_IMAGES} to learn from and "
            f"{JUDGE_TEST_IMAGES} to test with of every label: what is learned and forgotten is not measured",
            tuple(found),
        )
    if len(labels) == 1:
        yield Note(
            "too_few_labels",
            "a judge needs two labels to tell apart: what is learned and forgotten is not measured",
            tuple(labels),
        )


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"
