"""Write the files that torchvision keeps of MNIST and the datasets like it, in the size a test needs."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from worker.learning.datasets.emnist import BALANCED, LETTERS
from worker.learning.datasets.fashion_mnist import FASHION_MNIST
from worker.learning.datasets.kmnist import KMNIST
from worker.learning.datasets.torchvision_files import Collection, file_names

COLLECTIONS = {
    "fashion_mnist": FASHION_MNIST,
    "kmnist": KMNIST,
    "emnist": BALANCED,
    "emnist_letters": LETTERS,
}
RAMP = torch.arange(784, dtype=torch.uint8).view(28, 28)
"""An image that a rotation or reflection changes."""


def small(collection: Collection) -> Collection:
    """Return the collection with two train images and one test image of each label."""
    return replace(collection, train=2 * len(collection.labels), test=len(collection.labels))


def idx(values: Tensor) -> bytes:
    """Return uint8 values in LeCun's IDX format."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.numpy().tobytes()


def write(collection: Collection, folder: Path) -> None:
    """Write the images of the collection: RAMP, with the target in the first pixel. Labels take turns."""
    raw = folder / collection.name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in file_names(collection):
        count = collection.train if "train" in name else collection.test
        targets = torch.arange(count) % len(collection.labels) + collection.first_target
        if "labels" in name:
            (raw / name).write_bytes(idx(targets.to(torch.uint8)))
        else:
            images = RAMP.repeat(count, 1, 1)
            images[:, 0, 0] = targets.to(torch.uint8)
            (raw / name).write_bytes(idx(images))
