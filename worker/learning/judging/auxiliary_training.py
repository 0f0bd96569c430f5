"""Relearning on auxiliary data: does training on anything but the label bring the label back?

A forget that only hides a label may be undone by fine-tuning on other images (DiMRA, arXiv:2512.03564).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build, weights_of
from worker.learning.slots import with_new_labels
from worker.learning.sources import interleave, real_examples
from worker.learning.strategy import TrainingContext
from worker.learning.training import Parts, Schedule, fit

AUXILIARY_SCHEDULE = Schedule(
    steps=200, batch_size=128, learning_rate=2e-3, label_rate=10, shape="constant", gradient_norm=100
)
AUXILIARY_LABEL = "auxiliary data"


@dataclass(frozen=True)
class AuxiliaryTraining:
    """How a network is trained on auxiliary data."""

    schedule: Schedule = AUXILIARY_SCHEDULE
    parts: int = 4  # the network is looked at after each of them


def train_on_auxiliary(
    checkpoint: Checkpoint,
    images: Mapping[str, Tensor],
    training: AuxiliaryTraining,
    context: TrainingContext,
) -> Iterator[Checkpoint]:
    """Train the network on images of other labels; yield it after each part of the training.

    images: label -> uint8 [n, pixels]. A retained label is trained in its own slot. All other labels share
    one new slot, whose column starts as that of a label to learn. No example is of a forgotten label, and no
    column of one changes.
    """
    assert not set(images) & set(checkpoint.forgotten), "auxiliary data are never of a forgotten label"
    retained = checkpoint.retained
    if not set(images) <= set(retained):
        checkpoint = with_new_labels(checkpoint, [AUXILIARY_LABEL], AUXILIARY_LABEL)
    other = checkpoint.retained.get(AUXILIARY_LABEL, -1)
    slots = {name: retained.get(name, other) for name in images}
    network = build(checkpoint, context.device)
    noise, order = context.generator("auxiliary noise"), context.generator("auxiliary order")
    source = real_examples(images, slots, order)
    batches = interleave([(source, 1.0)], training.schedule.batch_size, context.device)

    def loss(parts: Parts, progress: float) -> Tensor:
        (batch,) = parts
        return negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, noise)).mean()

    part = training.schedule.model_copy(update={"steps": training.schedule.steps // training.parts})
    for number in range(training.parts):
        fit(network, loss, batches, part, context, phase=f"auxiliary training, part {number + 1}")
        yield replace(checkpoint, weights=weights_of(network), fisher=None)
