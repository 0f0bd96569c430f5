"""Fine-tuning on the new labels alone: the baseline that shows catastrophic forgetting."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.rehearsal import learn_from_images
from worker.learning.slots import with_new_labels
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import LEARN_SCHEDULE, Schedule


class FinetuneParams(StrategyParams):
    schedule: Schedule = LEARN_SCHEDULE
    fisher_examples: UnusedFisherExamples = 10_000


@strategy("learn", "finetune", FinetuneParams, source="The baseline of McCloskey & Cohen 1989")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: FinetuneParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels from their images alone, without protecting the old ones: the baseline of comparisons.

    Minimises E over new (x, c) of -ELBO(x | theta, c). It forgets the old labels catastrophically; every
    other strategy must do better on them.
    """
    target = with_new_labels(checkpoint, examples.labels, examples.dataset)
    return learn_from_images(target, examples.images, params.schedule, context)
