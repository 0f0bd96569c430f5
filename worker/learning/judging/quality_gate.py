"""The quality gate of a judge or feature network: enough images to train it, and few enough errors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from worker.learning.datasets import Dataset
from worker.learning.judging.classifiers import ClassifierUnavailable

LARGEST_IMBALANCE = 4
"""How many times as many images as the rarest label a label may have.

With a larger ratio, a batch could contain a single label.
"""


@dataclass(frozen=True)
class QualityGate:
    """The minimum size of a dataset, and the minimum accuracy of the classifier trained on it.

    `digits`, whose judge is just good enough, has 139 train and 34 test images of each label. If a classifier
    is wrong about more than three images of ten, a figure measured with it says more about its own errors.
    """

    train_images: int = 80  # of each label
    test_images: int = 20  # of each label
    test_accuracy: float = 0.7

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise ClassifierUnavailable, with the reason, if the dataset is too small to train a good one."""
        if len(dataset.labels) < 2:
            raise ClassifierUnavailable(
                f"the dataset {dataset.name!r} has only one label, and a classifier needs two to distinguish"
            )
        train, test = (
            min(len(images) for images in split.values()) for split in (dataset.train, dataset.test)
        )
        if train < self.train_images or test < self.test_images:
            raise ClassifierUnavailable(
                f"the dataset {dataset.name!r} is too small to train a classifier on: "
                f"a label has {train} train and {test} test images, "
                f"and needs {self.train_images} and {self.test_images}"
            )

    def check_accuracy(self, kind: str, dataset: str, test_accuracy: float) -> None:
        """Raise ClassifierUnavailable if a classifier errs too often on the real test images.

        kind: what the message calls it, "judge" for example.
        """
        if test_accuracy < self.test_accuracy:
            raise ClassifierUnavailable(
                f"the {kind} trained on {dataset!r} classifies {test_accuracy:.1%} of its real test images "
                f"correctly, and at least {self.test_accuracy:.0%} are needed"
            )


def balanced(dataset: Dataset) -> Dataset:
    """Return the dataset with at most LARGEST_IMBALANCE times as many images a label as the rarest has."""
    return replace(dataset, train=_balanced(dataset.train), test=_balanced(dataset.test))


def _balanced(split: Mapping[str, Tensor]) -> dict[str, Tensor]:
    most = LARGEST_IMBALANCE * min(len(images) for images in split.values())
    return {label: images[:most] for label, images in split.items()}
