"""Images a client sent, in the order they came."""

import math
from collections.abc import Mapping

import torch

from worker.learning.datasets.dataset import Dataset, each_fifth_for_testing

SHAPE = (28, 28)


def uploaded(name: str, counts: Mapping[str, int], pixels: bytes) -> Dataset:
    """The dataset of so many images a label, whose bytes (28 x 28 each) follow each other in that order."""
    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, math.prod(SHAPE))
    every = dict(zip(counts, torch.split(images, list(counts.values())), strict=True))
    return Dataset(name, tuple(counts), SHAPE, *each_fifth_for_testing(every))
