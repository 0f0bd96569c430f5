"""What a classifier of images is taught: real images in every legible form, and impostors to reject.

Who imports this knows nothing of the judge: the feature network (judging/feature_network.py) is taught likewise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from worker.learning.judging.augmentations import varied, veiled
from worker.learning.judging.negatives import impostors

Step = Callable[[str, int, int], object]  # told (phase, step, total) at every step; what it raises ends all


def unwatched(phase: str, step: int, total: int) -> None:
    """Nobody waits for this training."""


@dataclass(frozen=True)
class Training:
    """How a classifier is trained."""

    seed: int = 0
    steps: int = 800
    real: int = 216  # real images a step
    impostors: int = 72  # impostors a step
    untouched: float = 0.2  # share of the real images shown as they are
    veiled: float = 0.15  # share of all images, impostors too, shown behind a noisy grey
    rate: float = 4e-3  # peak of the one-cycle schedule
    decay: float = 0.02


def lessons(
    images_of: Mapping[str, Tensor], labels: Sequence[str], training: Training
) -> Iterator[tuple[Tensor, Tensor]]:
    """Real images with their targets, then impostors with the reject target; real ones in shuffled rounds.

    images_of: label -> uint8 [n, pixels]. A target is an index into `labels`; their number: none of these.
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
        real, named = images[chosen].float() / 255, targets[chosen]
        untouched = torch.rand(len(real), 1, generator=rng) < training.untouched
        shown = torch.where(untouched, real, varied(real, rng))
        strange = impostors(shown, named, training.impostors, rng)
        reject = torch.full((len(strange),), len(labels))
        both = torch.cat([shown, strange])
        behind = torch.rand(len(both), 1, generator=rng) < training.veiled
        yield torch.where(behind, veiled(both, rng), both), torch.cat([named, reject])
