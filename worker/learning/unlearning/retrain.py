"""Exact forgetting: start from an ancestor that never saw the labels, and learn the later labels again."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over
from worker.learning.fisher import EwcStrength
from worker.learning.rehearsal import RehearsalParams, learn_with_rehearsal
from worker.learning.replay_losses import ReplayMatch
from worker.learning.slots import in_slots_of, with_mean_embeddings
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import LEARN_SCHEDULE, Schedule


class RetrainParams(RehearsalParams):
    schedule: Schedule = LEARN_SCHEDULE
    replay_match: ReplayMatch = "function"
    ewc_strength: EwcStrength = 1.0
    fisher_examples: FisherExamples = 10_000


@strategy(
    "forget",
    "retrain",
    RetrainParams,
    source="Bourtoule et al. 2021 (arXiv:1912.03817), with replay for the ancestor's labels",
    guarantee="exact",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: RetrainParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels exactly: start from the newest ancestor that never saw them, and learn the others again.

    Labels that the ancestor lacks are learnt from their real images; replay and EWC preserve those it has.
    The ancestor also never saw any label that was forgotten earlier, or forgotten and learnt again. So none
    of these labels ever influenced a weight, nor the random numbers, which depend on the request and the
    ancestor alone. Raises Unavailable if the images of a label to learn again are gone.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    # A generation above 1 means that the label was forgotten and learnt again: the ancestor must not have
    # seen it the first time either.
    relearnt = {one.name for one in target.labels if one.generation > 1}
    ancestor = context.archive.newest_without({*target.forgotten, *relearnt})
    context = context.with_seed_from(ancestor)
    missing = sorted(set(target.retained) - set(ancestor.retained))
    images = {name: context.archive.images(target.label(name)) for name in missing}
    start = in_slots_of(target, ancestor)
    old = sorted(target.retained[name] for name in target.retained if name in ancestor.retained)
    start = with_mean_embeddings(start, [target.retained[name] for name in missing], old)
    context.outcome.guarantee = "exact"
    if not images:
        return start
    if old and params.ewc_strength > 0:
        start = with_fisher_over(start, old, context, examples=params.fisher_examples)
    return learn_with_rehearsal(start, images, old, params, context)
