"""The batches that an image classifier is trained on: augmented real images, and negatives to reject.

Both the judge and the feature network are trained on them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from worker.learning.judging.augmentations import add_noisy_background, augment
from worker.learning.judging.negatives import draw_negatives

OnStep = Callable[[str, int, int], object]
"""Called with (phase, step, total) before every step; an exception it raises ends the training."""


def ignore_step(phase: str, step: int, total: int) -> None:
    """Do nothing: the default OnStep, for a training whose progress is not reported."""


@dataclass(frozen=True)
class Training:
    """How an image classifier is trained."""

    seed: int = 0
    steps: int = 800
    real: int = 216  # real images in a batch
    negatives: int = 72  # negatives in a batch, about
    unaugmented: float = 0.2  # share of the real images that are shown as they are
    noisy_background: float = 0.15  # share of all images, negatives too, that are put on a noisy grey
    learning_rate: float = 4e-3  # at the peak of the one-cycle schedule
    weight_decay: float = 0.02


def draw_batches(
    images_of: Mapping[str, Tensor], labels: Sequence[str], training: Training
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images [batch, pixels] in [0, 1], targets [batch]) for every step of the training.

    The real images come first in a batch, then the negatives. The real ones are drawn without replacement
    until all were shown, then again. A target is an index into labels; that of a negative is len(labels).
    images_of: label -> uint8 [n, pixels].
    """
    rng = Generator().manual_seed(training.seed)
    images = torch.cat([images_of[label] for label in labels])
    sizes = torch.tensor([len(images_of[label]) for label in labels])
    targets = torch.arange(len(sizes)).repeat_interleave(sizes)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(training.steps):
        while len(order) < training.real:
            order = torch.cat([order, torch.randperm(len(images), generator=rng)])
        chosen, order = order[: training.real], order[training.real :]
        real, real_targets = images[chosen].float() / 255, targets[chosen]
        unaugmented = torch.rand(len(real), 1, generator=rng) < training.unaugmented
        shown = torch.where(unaugmented, real, augment(real, rng))
        negatives = draw_negatives(shown, real_targets, training.negatives, rng)
        rejected = torch.full((len(negatives),), len(labels))
        batch = torch.cat([shown, negatives])
        noisy = torch.rand(len(batch), 1, generator=rng) < training.noisy_background
        yield (
            torch.where(noisy, add_noisy_background(batch, rng), batch),
            torch.cat([real_targets, rejected]),
        )
