"""Forgetting what is temporary: its network is thrown away."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.slots import LabelConflict
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy


class DropParams(StrategyParams):
    """There is nothing to choose."""


@strategy(
    "forget",
    "drop",
    DropParams,
    source="CLPU of Liu et al. 2022, case 4",
    retention="temporary",
    default=True,
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DropParams, context: TrainingContext
) -> Checkpoint:
    """Forget temporary labels exactly: drop their isolated networks; no bit of another network changes.

    Nothing is minimised. What the main network learned of such a label in an earlier life stays in it: then
    exactness is no guarantee of the version's. Raises LabelConflict for a label that is not temporary.
    """
    permanent = sorted(set(examples.labels) - set(checkpoint.temporary))
    if permanent:
        raise LabelConflict(f"not temporary, so there is no network to drop: {permanent}")
    context.findings["dropped"] = sorted(examples.labels)
    if not set(examples.labels) & set(checkpoint.forgotten):
        context.findings["guarantee"] = "exact"
    return checkpoint.without_isolated(examples.labels)
