"""What an honest judge needs: images enough of every label, none that drown the others, and few errors.

A feature network is held to as few.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from worker.learning.datasets import Dataset
from worker.learning.judging.judge import Judge, JudgeUnavailable
from worker.learning.strategy import Unavailable

LEAST_TRAIN, LEAST_TEST = 80, 20  # images a label; `digits`, whose judge is just good enough, has 139 and 34
LEAST_ACCURACY = 0.7  # a judge that errs more often says too much of itself and too little of what it judges
MOST_UNEQUAL = 4  # a label's images, in those of the rarest: else a batch may show but one label


def refuse_too_small(dataset: Dataset) -> None:
    """Raises JudgeUnavailable, with the reason, for a dataset no honest judge can be trained on."""
    if len(dataset.labels) < 2:
        raise JudgeUnavailable(
            f"the dataset {dataset.name!r} has but one label, and a judge tells labels apart"
        )
    train, test = (min(len(images) for images in split.values()) for split in (dataset.train, dataset.test))
    if train < LEAST_TRAIN or test < LEAST_TEST:
        raise JudgeUnavailable(
            f"the dataset {dataset.name!r} is too small for an honest judge: a label has {train} train and "
            f"{test} test images, and needs {LEAST_TRAIN} and {LEAST_TEST}"
        )


def balanced(dataset: Dataset) -> Dataset:
    """The dataset without the surplus of labels that have many times the images of the rarest."""
    return replace(dataset, train=_evened(dataset.train), test=_evened(dataset.test))


def refuse_too_wrong(judge: Judge) -> None:
    """Raises JudgeUnavailable for a judge that errs too often on real test images."""
    if reason := _too_wrong("judge", judge.dataset, judge.test_accuracy):
        raise JudgeUnavailable(reason)


def refuse_wrong_feature_network(dataset: str, test_accuracy: float) -> None:
    """Raises Unavailable for a feature network of the dataset likewise."""
    if reason := _too_wrong("feature_network", dataset, test_accuracy):
        raise Unavailable(reason)


def _too_wrong(what: str, dataset: str, test_accuracy: float) -> str | None:
    if test_accuracy >= LEAST_ACCURACY:
        return None
    return (
        f"the {what} trained on {dataset!r} names {test_accuracy:.1%} of its real test images rightly, "
        f"an honest one needs {LEAST_ACCURACY:.0%}"
    )


def _evened(split: Mapping[str, Tensor]) -> dict[str, Tensor]:
    most = MOST_UNEQUAL * min(len(images) for images in split.values())
    return {label: images[:most] for label, images in split.items()}
