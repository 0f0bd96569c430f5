"""Retraining (the paper's "simple" model): a new network is trained on all labels at once."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.retraining import train_from_scratch
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import LEARN_SCHEDULE, Schedule


class RetrainParams(StrategyParams):
    schedule: Schedule = LEARN_SCHEDULE
    fisher_examples: UnusedFisherExamples = 10_000


@strategy("learn", "retrain", RetrainParams, source="The paper, section 5: the simple model")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: RetrainParams, context: TrainingContext
) -> Checkpoint:
    """Train a new network of the same size on real images of every label, old and new: the reference.

    Minimises E over (x, c) of -ELBO(x | theta, c), with equal shares of all labels, from random weights. It
    needs the real images of the old labels: raises Unavailable if they are gone.
    """
    old = {name: context.archive.images(checkpoint.label(name)) for name in checkpoint.retained}
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    return train_from_scratch(
        target,
        {**old, **examples.images},
        params.schedule,
        context,
    )
