"""Forgetting temporary labels exactly: their isolated networks are dropped."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.isolation import drop_isolated
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy


class DropParams(StrategyParams):
    """There is nothing to choose."""


@strategy(
    "forget",
    "drop",
    DropParams,
    source="CLPU of Liu et al. 2022 (arXiv:2203.12817), case 4",
    retention="temporary",
    default=True,
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DropParams, context: TrainingContext
) -> Checkpoint:
    """Forget temporary labels exactly: drop their isolated networks; no bit of another network changes.

    Nothing is trained. If the main network once learnt such a label permanently and forgot it, something of
    it may be left there; the version then has no guarantee of exactness. Raises LabelConflict for a label
    that is not temporary.
    """
    return drop_isolated(checkpoint, examples.labels, context)
