"""Figures with their uncertainty, and those a judge is held to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.learning.datasets import Dataset
from worker.learning.judging import negatives
from worker.learning.judging.augmentations import add_noisy_background, blur
from worker.learning.judging.judge import REJECT

Classify = Callable[[Tensor], Tensor]  # images [n, pixels] -> a label's index or REJECT, int64 [n]
Z_95 = 1.959963984540054  # the two-sided 95 % point of the standard normal


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, hits of n (Wilson 1927): never outside [0, 1], honest at both ends."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the bound is exact; the formula would leave a rounding error there.
    return (max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < n else 1.0)


def auc_interval(value: float, members: int, others: int) -> tuple[float, float]:
    """The normal 95 % interval of an AUC of so many members and others (Hanley & McNeil 1982), in [0, 1]."""
    one, two = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (members - 1) * (one - value**2) + (others - 1) * (two - value**2)
    half = Z_95 * math.sqrt(max(0.0, variance) / (members * others))
    return max(0.0, value - half), min(1.0, value + half)


@dataclass(frozen=True)
class Bar:
    """The limit a figure must keep."""

    limit: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit}"


BARS = {  # of any judge
    "test_accuracy": Bar(0.985),
    "test_rejected": Bar(0.01, at_most=True),
    "blur_0.7_kept": Bar(0.93),
    "blur_1.0_kept": Bar(0.93),
    "blur_1.2_kept": Bar(0.93),
    "veiled_kept": Bar(0.93),
    "uniform_noise_rejected": Bar(0.99),
    "flat_grey_rejected": Bar(0.99),
    "averages_rejected": Bar(0.99),
    "blends_rejected": Bar(0.90),
}
# 355 test images, a handful of which a person would reject too: one image is 0.3 %.
BARS_OF_DIGITS = BARS | {"test_accuracy": Bar(0.97), "test_rejected": Bar(0.03, at_most=True)}


def bars_of(dataset: str) -> dict[str, Bar]:
    """The bars the judge of a dataset is held to, figure -> bar."""
    return BARS_OF_DIGITS if dataset == "digits" else BARS


def judge_figures(classify: Classify, dataset: Dataset, *, seed: int) -> dict[str, dict[str, Any]]:
    """What a judge says of test images it has not seen, and of impostors made from those.

    Each figure: {value, n, interval [low, high], bar, held}; bar is null where the figure only informs.
    "kept" means named rightly; "rejected" means none of the labels was named. Deterministic for a seed.
    """
    images = torch.cat([dataset.test[label] for label in dataset.labels]).float() / 255
    sizes = torch.tensor([len(dataset.test[label]) for label in dataset.labels])
    targets = torch.arange(len(dataset.labels)).repeat_interleave(sizes)
    rng = torch.Generator().manual_seed(seed)

    answers = classify(images)
    hits = {"test_accuracy": answers == targets, "test_rejected": answers == REJECT}
    for sigma in (0.7, 1.0, 1.2):
        soft = classify(blur(images, torch.full((len(images),), sigma)))
        hits[f"blur_{sigma}_kept"] = soft == targets
        hits[f"blur_{sigma}_rejected"] = soft == REJECT
    hits["veiled_kept"] = classify(add_noisy_background(images, rng)) == targets
    for name, strange in _strange(images, targets, rng).items():
        hits[f"{name}_rejected"] = classify(strange) == REJECT
    bars = bars_of(dataset.name)
    return {name: _figure(hit, bars.get(name)) for name, hit in hits.items()}


def _strange(images: Tensor, targets: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """Images that show no label, by kind. The last kind occurs in no training."""
    return {
        "uniform_noise": negatives.uniform_noise(images, targets, 2000, rng),
        "flat_grey": (torch.arange(256)[:, None] / 255).expand(256, images.shape[1]),
        "averages": torch.cat([images.mean(0, keepdim=True), negatives.averages(images, targets, 999, rng)]),
        "blends": negatives.blends(images, targets, 5000, rng),
        "other_blends": negatives.other_blends(images, targets, 2000, rng),
        "other_noise": negatives.other_noise(images, targets, 1000, rng),
        "clouds": negatives.clouds(images, targets, 1000, rng),
        "waves": negatives.waves(images, targets, 1000, rng),
        "scrambled": negatives.scrambled(images, targets, 1000, rng),
        "shadows": negatives.shadows(images, targets, 1000, rng),
        "unseen_mosaics": negatives.mosaics(images, targets, 1000, rng),
    }


def _figure(hits: Tensor, bar: Bar | None) -> dict[str, Any]:
    count, n = int(hits.sum()), len(hits)
    return {
        "value": count / n,
        "n": n,
        "interval": list(wilson(count, n)),
        "bar": str(bar) if bar else None,
        "held": bar.holds(count / n) if bar else None,
    }
