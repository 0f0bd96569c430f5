"""The control that forgets: train on the new labels alone."""

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.slots import with_labels
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule


class FinetuneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1000, learning_rate=1e-2)
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "finetune", FinetuneParams, source="The control of McCloskey & Cohen 1989")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: FinetuneParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels from their images alone, with nothing to hold the old ones: the control that forgets.

    Minimises E over new (x, c) of -ELBO(x | theta, c). What every other strategy must beat on the old labels.
    """
    target = with_labels(checkpoint, examples.labels, examples.dataset)
    plain = HoldingParams(schedule=params.schedule, ewc_strength=0, fisher_examples=params.fisher_examples)
    return taught(target, examples.images, [], plain, context)
