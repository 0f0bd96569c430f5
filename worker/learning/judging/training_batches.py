"""The batches that an image classifier is trained on: augmented real images, and negatives to reject.

Both the judge and the feature network are trained on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from worker.learning.judging.augmentations import add_noisy_background, augment, blur_some
from worker.learning.judging.negatives import draw_negatives
from worker.learning.resuming import State


@dataclass(frozen=True)
class Training:
    """How an image classifier is trained."""

    seed: int = 0
    steps: int = 800
    real: int = 216  # real images in a batch
    negatives: int = 72  # negatives in a batch, about
    unaugmented: float = 0.2  # share of the real images that are shown as they are
    only_blurred: bool = False  # whether blur is the only augmentation of the others
    noisy_background: float = 0.15  # share of all images, negatives too, that are put on a noisy grey
    learning_rate: float = 4e-3  # at the peak of the one-cycle schedule
    weight_decay: float = 0.02


class TrainingBatches:
    """The batches of one training, in order.

    The real images come first in a batch, then the negatives. The real ones are drawn without replacement
    until all were shown, then again. A target is an index into labels; that of a negative is len(labels).
    """

    def __init__(self, images_of: Mapping[str, Tensor], labels: Sequence[str], training: Training) -> None:
        """images_of: label -> uint8 [n, pixels]."""
        self._training, self._rejected = training, len(labels)
        self._rng = Generator().manual_seed(training.seed)
        self._images = torch.cat([images_of[label] for label in labels])
        sizes = torch.tensor([len(images_of[label]) for label in labels])
        self._targets = torch.arange(len(sizes)).repeat_interleave(sizes)
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: images [batch, pixels] in [0, 1], targets [batch]."""
        training, rng = self._training, self._rng
        while len(self._order) < training.real:
            self._order = torch.cat([self._order, torch.randperm(len(self._images), generator=rng)])
        chosen, self._order = self._order[: training.real], self._order[training.real :]
        real, real_targets = self._images[chosen].float() / 255, self._targets[chosen]
        unaugmented = torch.rand(len(real), 1, generator=rng) < training.unaugmented
        augmented = blur_some(real, rng) if training.only_blurred else augment(real, rng)
        shown = torch.where(unaugmented, real, augmented)
        negatives = draw_negatives(shown, real_targets, training.negatives, rng)
        rejected = torch.full((len(negatives),), self._rejected)
        batch = torch.cat([shown, negatives])
        noisy = torch.rand(len(batch), 1, generator=rng) < training.noisy_background
        return (
            torch.where(noisy, add_noisy_background(batch, rng), batch),
            torch.cat([real_targets, rejected]),
        )

    def state(self) -> State:
        """Return what drawing a batch changes, for a snapshot."""
        return {"order": self._order, "rng": self._rng.get_state()}

    def restore(self, state: State) -> None:
        """Set it to what `state` returned."""
        self._order = state["order"]
        self._rng.set_state(state["rng"])
