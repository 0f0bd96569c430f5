"""Make a dataset of the images that a client uploaded."""

import math
from collections.abc import Mapping

import torch

from worker.learning.datasets.dataset import Dataset, split_every_fifth

SHAPE = (28, 28)


def uploaded(
    name: str, counts: Mapping[str, int], pixels: bytes, held_out: Mapping[str, int] | None = None
) -> Dataset:
    """Make a dataset of uploaded pixels; every fifth image of a label is a test image.

    counts: label -> number of its images. pixels: all images, 28 x 28 bytes each, label by label in the order
    of `counts`, and in the order in which they were sent. held_out: label -> how many of its images, the last
    ones, are its test images, for labels of which the uploaded file had test images of its own.
    """
    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, math.prod(SHAPE))
    every = dict(zip(counts, torch.split(images, list(counts.values())), strict=True))
    train, test = split_every_fifth(every)
    for label, tests in (held_out or {}).items():
        if label in every:
            train[label], test[label] = every[label].split([counts[label] - tests, tests])
    return Dataset(name, tuple(counts), SHAPE, train, test)
