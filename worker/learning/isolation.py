"""Isolated networks: the small network of each temporary label, which is dropped to forget the label."""

from collections.abc import Collection

from worker.learning.checkpoint import Checkpoint
from worker.learning.slots import LabelConflict
from worker.learning.strategy import TrainingContext


def drop_isolated(checkpoint: Checkpoint, names: Collection[str], context: TrainingContext) -> Checkpoint:
    """Return the checkpoint less the isolated networks of these temporary labels.

    Adds `dropped` to the findings. The guarantee is exact unless the main network once learnt one of the
    labels and forgot it: then something of it may be left there. Raises LabelConflict for a label that is not
    temporary. Source: CLPU of Liu et al. 2022, case 4.
    """
    permanent = sorted(set(names) - set(checkpoint.temporary))
    if permanent:
        raise LabelConflict(f"not temporary, so there is no network to drop: {permanent}")
    context.findings["dropped"] = sorted(names)
    if not set(names) & set(checkpoint.forgotten):
        context.outcome.guarantee = "exact"
    return checkpoint.without_isolated(names)
