"""Makes a network smaller: remove the units that the loss misses least, then train the rest to match it."""

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples
from worker.learning.distillation import match_function
from worker.learning.networks import build
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.removal import (
    Scope,
    TaylorExamples,
    least_important_units,
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    remove_units,
    replay_sample,
)


class TaylorPruneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    share: float = Field(0.2, gt=0, le=0.9, description="Share of the hidden units to remove.")
    scope: Scope = Field(
        "layer",
        description="What the share is of: every hidden layer's units (`layer`), or all of the network's "
        "together (`network`).",
    )
    taylor_examples: TaylorExamples = 2000
    fisher_examples: FisherExamples = 10_000


@strategy(
    "resize",
    "taylor_prune",
    TaylorPruneParams,
    source="Molchanov et al. 2017 (arXiv:1611.06440), to second order (Gauss-Newton), for all pairs",
    policy="prune",
)
def prune(
    checkpoint: Checkpoint, examples: Examples, params: TaylorPruneParams, context: TrainingContext
) -> Checkpoint:
    """Remove the units that replay is predicted to miss least, then train the rest to match the old network.

    Minimises, over sets of units, 1/2 d'Hd: the loss change to second order in their outgoing weights d, with
    H on replay of the retained labels. Then minimises, over the weights that remain, E over draws (z, x, c)
    of the old network of -log p(x | z, c) + KL(q(z | x, c) || q_old(z | x, c)).
    """
    draws = replay_sample(checkpoint, params.taylor_examples, context)
    curvature = measure_curvature(build(checkpoint, context.device), draws, context)
    removed = least_important_units(curvature, params.share, params.scope)
    smaller = remove_units(checkpoint, removed, curvature)
    context.findings["pruning"] = {
        "units_removed": {layer: int(units.sum()) for layer, units in removed.items()},
        "predicted_loss_change": predicted_loss_change(curvature, removed),
        "measured_loss_change": measured_loss_change(checkpoint, smaller, draws, context.device),
    }
    return match_function(checkpoint, smaller, params.schedule, params.fisher_examples, context)
