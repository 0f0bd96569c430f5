"""Learning as in the paper: expand, then train on new images and replay of old labels, with EWC.

"The paper" is Bangar & Jakhotiya, Unifying Continual Learning and Machine Unlearning for Expressiveness
Aware Models.
"""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples
from worker.learning.fisher import EwcStrength
from worker.learning.rehearsal import (
    ExpandingRehearsalParams,
    ExpandShare,
    expand_before_learning,
    learn_with_rehearsal,
)
from worker.learning.replay_losses import ReplayMatch
from worker.learning.slots import with_new_labels
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import LEARN_SCHEDULE, Schedule, ScheduleLabels


class ReplayEwcParams(ExpandingRehearsalParams):
    schedule: Schedule = LEARN_SCHEDULE
    replay_match: ReplayMatch = "function"
    ewc_strength: EwcStrength = 1.0
    fisher_examples: FisherExamples = 2_000
    expand_share: ExpandShare = None
    schedule_labels: ScheduleLabels = None


@strategy("learn", "replay_ewc", ReplayEwcParams, source="The paper, sections 2.2 and 4", default=True)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: ReplayEwcParams, context: TrainingContext
) -> Checkpoint:
    """Expand the network, then learn new labels and preserve the old ones by generative replay and EWC.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus the replay loss over the old network's draws of
    the labels it retains, plus lambda/2 sum F (theta - theta*)^2. All labels, new and old, have equal
    shares.
    """
    old = sorted(checkpoint.retained.values())
    target = expand_before_learning(checkpoint, len(examples.labels), params, context)
    target = with_new_labels(target, examples.labels, examples.dataset)
    forgotten = sorted(target.forgotten.values())
    schedule = params.schedule.for_labels(len(target.retained), params.schedule_labels)
    params = params.model_copy(update={"schedule": schedule})
    return learn_with_rehearsal(target, examples.images, old, params, context, forgotten=forgotten)
