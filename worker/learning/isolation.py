"""Drop isolated networks: each temporary label has one, and dropping it forgets the label."""

from collections.abc import Collection

from worker.learning.checkpoint import Checkpoint
from worker.learning.slots import LabelConflict
from worker.learning.strategy import TrainingContext


def drop_isolated(checkpoint: Checkpoint, names: Collection[str], context: TrainingContext) -> Checkpoint:
    """Return the checkpoint without the isolated networks of these temporary labels.

    Adds `dropped` to the findings. The guarantee is exact unless the main network learnt and forgot one of
    the labels earlier: then its weights may still contain something of that label. Raises LabelConflict for a
    label that is not temporary. Source: CLPU of Liu et al. 2022, case 4.
    """
    permanent = sorted(set(names) - set(checkpoint.temporary))
    if permanent:
        raise LabelConflict(
            f"these labels are not temporary, so they have no isolated network to drop: {permanent}"
        )
    context.findings["dropped"] = sorted(names)
    if not set(names) & set(checkpoint.forgotten):
        context.outcome.guarantee = "exact"
    return checkpoint.without_isolated(names)
