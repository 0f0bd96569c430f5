"""Training from scratch on real images: the reference that other networks are compared with."""

from collections.abc import Mapping

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import with_random_weights
from worker.learning.rehearsal import learn_from_images
from worker.learning.strategy import TrainingContext
from worker.learning.training import Schedule


def train_from_scratch(
    target: Checkpoint,
    images: Mapping[str, Tensor],
    schedule: Schedule,
    context: TrainingContext,
) -> Checkpoint:
    """Train a network with the spec and labels of `target` on `images`, from random weights.

    The weights of `target` are not used. images: label -> uint8 [n, pixels]. Source: the paper, section 5
    (the "simple" model).
    """
    start = with_random_weights(target, context.generator("weights"))
    return learn_from_images(start, images, schedule, context)
