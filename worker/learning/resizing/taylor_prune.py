"""Make a network smaller: remove the units that change the loss least, then train the rest to match it."""

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
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
    share: float = Field(0.2, gt=0, le=0.9, description="Share of the hidden units that is removed.")
    scope: Scope = Field(
        "layer",
        description="What the share refers to. `layer`: the units of every hidden layer. `network`: all "
        "hidden units of the network together.",
    )
    taylor_examples: TaylorExamples = 2000
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "resize",
    "taylor_prune",
    TaylorPruneParams,
    source="Molchanov et al. 2017 (arXiv:1611.06440), to second order (Gauss-Newton), for all pairs",
    policy="prune",
    default=True,
)
def prune(
    checkpoint: Checkpoint, examples: Examples, params: TaylorPruneParams, context: TrainingContext
) -> Checkpoint:
    """Remove the units predicted to change the loss least, then train the rest to match the old network.

    Removes units one by one, each time the one that adds least to the predicted loss change 1/2 d^T H d:
    d is the change of the units' outgoing weights, H the Hessian of the loss on replay of retained labels.
    Then minimises, over the remaining weights, E over draws (z, x, c) of the old network of
    -log p(x | z, c) + KL(q(z | x, c) || q_old(z | x, c)), with q_old the posterior of the old network.
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
    return match_function(checkpoint, smaller, params.schedule, context)
