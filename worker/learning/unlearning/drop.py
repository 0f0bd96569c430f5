"""Forget temporary labels exactly, by dropping their isolated networks."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.isolation import drop_isolated
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy


class DropParams(StrategyParams):
    """This strategy has no params."""


@strategy(
    "forget",
    "drop",
    DropParams,
    source="CLPU of Liu et al. 2022 (arXiv:2203.12817), case 4",
    retention="temporary",
    default=True,
    guarantee="exact",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DropParams, context: TrainingContext
) -> Checkpoint:
    """Forget temporary labels exactly by dropping their isolated networks; no other network changes.

    Nothing is trained. If the main network learnt such a label permanently and forgot it earlier, its weights
    may still contain something of it; the guarantee of the version is then not exact. Raises LabelConflict
    for a label that is not temporary.
    """
    return drop_isolated(checkpoint, examples.labels, context)
