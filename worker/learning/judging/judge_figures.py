"""Measure how good a judge is, on images it was not trained on; and the thresholds of these figures."""

from collections.abc import Callable

import torch
from torch import Tensor

from reports import Figure, Threshold, at_least, at_most
from worker.learning.datasets import Dataset
from worker.learning.judging import negatives
from worker.learning.judging.augmentations import add_noisy_background, blur
from worker.learning.judging.estimates import share
from worker.learning.judging.judge import REJECT

Classify = Callable[[Tensor], Tensor]  # images [n, pixels] -> a label's index or REJECT, int64 [n]

THRESHOLDS = {
    "test_accuracy": at_least(0.985),
    "test_rejected": at_most(0.01),
    "blur_0.7_kept": at_least(0.93),
    "blur_1.0_kept": at_least(0.93),
    "blur_1.2_kept": at_least(0.93),
    "veiled_kept": at_least(0.93),
    "uniform_noise_rejected": at_least(0.99),
    "flat_grey_rejected": at_least(0.99),
    "averages_rejected": at_least(0.99),
    "blends_rejected": at_least(0.90),
}
THRESHOLDS_OF_DIGITS = THRESHOLDS | {"test_accuracy": at_least(0.97), "test_rejected": at_most(0.03)}
"""Looser: there are only 355 test images (one is 0.3 %), and a person would reject some of them, too."""


def thresholds_of(dataset: str) -> dict[str, Threshold]:
    """Return the thresholds of a dataset's judge, by figure."""
    return THRESHOLDS_OF_DIGITS if dataset == "digits" else THRESHOLDS


def measure_judge_figures(classify: Classify, dataset: Dataset, *, seed: int) -> dict[str, Figure]:
    """Measure a judge on real test images and on negatives made from them. Deterministic for a seed.

    A figure named `..._kept` is the share of images that the judge gives their label, `..._rejected` the
    share that it gives no label. Some figures have no threshold.
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
    for name, without_label in _images_without_label(images, targets, rng).items():
        hits[f"{name}_rejected"] = classify(without_label) == REJECT
    thresholds = thresholds_of(dataset.name)
    return {name: share(int(hit.sum()), len(hit)).figure(thresholds.get(name)) for name, hit in hits.items()}


def _images_without_label(images: Tensor, targets: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """Images that show no label, by kind. Judges are never trained on the last kind."""
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
