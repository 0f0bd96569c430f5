"""Exact forgetting: go back to before the label was seen, and learn again what else has been learnt since."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.memory import remembered
from worker.learning.slots import amid, in_slots_of
from worker.learning.strategy import Examples, TrainingContext, strategy


@strategy(
    "forget",
    "retrain",
    HoldingParams,
    source="Bourtoule et al. 2021, with replay for the ancestor's labels",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: HoldingParams, context: TrainingContext
) -> Checkpoint:
    """Forget exactly: from the newest ancestor that never saw the labels, learn the others again.

    The labels the ancestor lacks are learnt from their real images, those it holds are kept by replay and
    EWC. Nothing forgotten earlier was seen by that ancestor either, nor an earlier life of a label that was
    learnt again, so no weight was ever touched by any of them; nor were the chances, which are keyed by what
    is asked and by the ancestor. Raises Unavailable when the data of a label to learn again is gone.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    learned_again = {
        one.name for one in target.labels if one.generation > 1
    }  # and once asked to be forgotten
    ancestor = context.archive.newest_without({*target.forgotten, *learned_again})
    context = context.with_seed_from(ancestor)
    lacking = sorted(set(target.held) - set(ancestor.held))
    images = {name: context.archive.images(target.label(name)) for name in lacking}
    start = in_slots_of(target, ancestor)
    old = sorted(target.held[name] for name in target.held if name in ancestor.held)
    start = amid(start, [target.held[name] for name in lacking], old)
    if old and (params.ewc_strength > 0 or not images):  # learning ends with a Fisher in any case
        start = remembered(start, old, context, examples=params.fisher_examples)
    context.findings["guarantee"] = "exact"
    return taught(start, images, old, params, context) if images else start
