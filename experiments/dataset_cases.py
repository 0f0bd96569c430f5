"""The datasets that the default strategies are measured on: those offered, and uploads of several kinds.

The uploads are made of MNIST and Fashion-MNIST, always the same. An upload of a collection's test images is
measured with images of its train split, which neither the model nor the classifier has seen.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from service.requests.uploads import read_upload
from worker.learning import datasets
from worker.learning.datasets import Dataset

Images = Mapping[str, Tensor]
"""label -> uint8 [n, 784]"""
SPARE = 1000
"""Train images of each label of a collection that no classifier is trained on."""
UPLOAD_SIZES = (20, 100, 1000)
"""Images of a label in the uploads."""
TURNED_WAYS = {"0": 1, "1": 2, "2": 8, "3": 8, "4": 8, "5": 8, "6": 8, "7": 8, "8": 2, "9": 1}
"""How many of the eight ways to turn and mirror a digit are labels: those that look different.

0 looks the same in all of them, 1 and 8 upside down and in a mirror, and a 9 is nearly a 6 upside down.
"""
TURNED_POOL = 4000
"""Train images of a digit from which the upload of turned digits is made; the classifier gets the rest."""
TURNED_IMAGES = 1000
"""Images of each turned digit for the classifier, and at most as many to measure with."""
MAX_UPLOAD_BYTES = 1 << 30


@dataclass(frozen=True)
class CaseImages:
    """A dataset to learn, and other real images to measure with."""

    dataset: Dataset
    """What the model learns from: its train split."""
    classifier: str
    """Name of the classifier that measures: cases with the same name have the same one."""
    seen: Images
    """What the classifier is trained on."""
    unseen: Images
    """What neither the model nor the classifier has seen."""


@dataclass(frozen=True)
class Case:
    """A dataset by its name, and how to load it from the data folder."""

    name: str
    title: str
    load: Callable[[Path], CaseImages]


def all_cases() -> dict[str, Case]:
    """Return the cases of a whole run, by name, in their order."""
    cases = [
        Case("mnist", "MNIST", lambda folder: _collection("mnist", folder)),
        Case("fashion_mnist", "Fashion-MNIST", lambda folder: _collection("fashion_mnist", folder)),
        Case("digits", "digits, bundled", _digits),
        *(_upload_case(name, title, size) for name, title in _UPLOADED.items() for size in UPLOAD_SIZES),
        Case("turned_digits", "upload: digits turned and mirrored, 500 a label", _turned_digits),
    ]
    return {case.name: case for case in cases}


def upload_case(file: Path) -> Case:
    """Return the case of a file as the API takes it: an npz, or a zip of pictures in folders.

    The classifier is trained on the file's train images, as the model is.
    """

    def load(_folder: Path) -> CaseImages:
        with file.open("rb") as packed, tempfile.TemporaryFile() as pixels:
            upload = read_upload(packed, pixels, max_bytes=MAX_UPLOAD_BYTES)
            pixels.seek(0)
            dataset = datasets.uploaded(file.stem, upload.counts, pixels.read(), upload.held_out)
        content = sha256(file.read_bytes()).hexdigest()[:12]  # another file may have the same name
        return CaseImages(dataset, f"{file.stem}-{content}", dataset.train, dataset.test)

    return Case(file.stem, f"upload: {file.name}", load)


_UPLOADED = {"mnist": "MNIST's", "fashion_mnist": "Fashion-MNIST's"}


def _upload_case(name: str, whose: str, size: int) -> Case:
    title = f"upload: {whose} test images, {size:,} a label"
    return Case(f"{name}_{size}", title, lambda folder: _upload_of_test_images(name, size, folder))


def _collection(name: str, folder: Path) -> CaseImages:
    dataset = datasets.load(name, folder)
    return CaseImages(dataset, name, _without_spare(dataset.train), dataset.test)


def _digits(folder: Path) -> CaseImages:
    dataset = datasets.load("digits", folder)
    return CaseImages(dataset, "digits", dataset.train, dataset.test)


def _upload_of_test_images(name: str, size: int, folder: Path) -> CaseImages:
    """The first test images of each label as an upload; MNIST has a few less than 1,000 of some digits."""
    collection = datasets.load(name, folder)
    upload = _uploaded(f"{name}_{size}", {label: images[:size] for label, images in collection.test.items()})
    spare = {label: images[-SPARE:] for label, images in collection.train.items()}
    return CaseImages(upload, name, _without_spare(collection.train), spare)


def _turned_digits(folder: Path) -> CaseImages:
    """Digits turned and mirrored, 54 labels, each of other images."""
    mnist = datasets.load("mnist", folder)
    learned, seen, unseen = {}, {}, {}
    for digit, ways in TURNED_WAYS.items():
        train, test = mnist.train[digit], mnist.test[digit]
        for way in range(ways):
            label = _way_name(digit, way)
            learned[label] = turn(train[:TURNED_POOL][way::8], way)
            seen[label] = turn(train[TURNED_POOL:][:TURNED_IMAGES], way)
            unseen[label] = turn(test[:TURNED_IMAGES], way)
    return CaseImages(_uploaded("turned_digits", learned), "turned_digits", seen, unseen)


def turn(images: Tensor, way: int) -> Tensor:
    """Turn images [n, 784] by 90 degrees `way` times, and mirror them first if way is 4 or more."""
    square = images.view(-1, 28, 28)
    mirrored = square.flip(2) if way >= 4 else square
    return torch.rot90(mirrored, way % 4, (1, 2)).flatten(1).contiguous()


def _way_name(digit: str, way: int) -> str:
    mirrored = " mirrored" if way >= 4 else ""
    turned = f" turned {90 * (way % 4)}" if way % 4 else ""
    return f"{digit}{mirrored}{turned}"


def _uploaded(name: str, images: Images) -> Dataset:
    """Split the images as those of an upload are split: every fifth is a test image."""
    pixels = b"".join(one.numpy().tobytes() for one in images.values())
    return datasets.uploaded(name, {label: len(one) for label, one in images.items()}, pixels)


def _without_spare(train: Images) -> Images:
    return {label: images[:-SPARE] for label, images in train.items()}
