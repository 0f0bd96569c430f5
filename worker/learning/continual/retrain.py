"""The reference, the paper's "simple": a fresh network trained on real images of all it is to hold."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.networks import fresh
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule


class RetrainParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1000, learning_rate=1e-2)
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "retrain", RetrainParams, source="The paper, section 5: the simple model")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: RetrainParams, context: TrainingContext
) -> Checkpoint:
    """Train a fresh network of the same size on real images of every label, old and new: the reference.

    Minimises E over (x, c), c in K and L equally often, of -ELBO(x | theta, c). Needs the data of K.
    """
    held = {name: context.archive.images(checkpoint.label(name)) for name in checkpoint.held}
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    return trained_anew(target, {**held, **examples.images}, params, context)


def trained_anew(
    target: Checkpoint, images: Mapping[str, Tensor], params: RetrainParams, context: TrainingContext
) -> Checkpoint:
    """A fresh network with the spec and labels of `target`, trained on `images` alone."""
    start = fresh(target, context.generator("weights"))
    plain = HoldingParams(schedule=params.schedule, ewc_strength=0, fisher_examples=params.fisher_examples)
    return taught(start, images, [], plain, context)
