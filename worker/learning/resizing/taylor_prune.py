"""Make a network smaller: remove the units that the loss misses least, then train what stays to match it."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen
from worker.learning.replay import replay, some
from worker.learning.resizing.taylor import (
    Curvature,
    Removed,
    curvature,
    measured_change,
    predicted_change,
    removal_order,
    without,
)
from worker.learning.retention import holding, mean_cost, mixed, replay_loss
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit

Scope = Literal["layer", "network"]


class TaylorPruneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    share: float = Field(0.2, gt=0, le=0.9, description="units removed")
    scope: Scope = Field(
        "layer", description="the share of every hidden layer, or of all hidden units together"
    )
    taylor_examples: int = Field(2000, ge=1, le=20_000, description="draws the loss change is predicted on")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "resize",
    "taylor_prune",
    TaylorPruneParams,
    source="Molchanov et al. 2017, to second order (Gauss-Newton), with all pairs of units",
    policy="prune",
)
def prune(
    checkpoint: Checkpoint, examples: Examples, params: TaylorPruneParams, context: TrainingContext
) -> Checkpoint:
    """Remove the units that replay is predicted to miss least, then match the old function without them.

    Minimises over sets of units 1/2 d'Hd, the loss change to second order of their outgoing weights d, H on
    replay of the labels held; then, over the weights that stay, E over draws (z, x, c) of the old network of
    -log p(x | z, c) + KL(q(z | x, c) || q_old(z | x, c)).
    """
    draws = replay_set(checkpoint, params.taylor_examples, context)
    around = curvature(build(checkpoint, context.device), draws, context)
    removed = least_missed(around, params.share, params.scope)
    smaller = without(checkpoint, removed, around)
    context.findings["pruning"] = {
        "units_removed": {layer: int(gone.sum()) for layer, gone in removed.items()},
        "predicted_loss_change": predicted_change(around, removed),
        "measured_loss_change": measured_change(checkpoint, smaller, draws, context.device),
    }
    return matched(checkpoint, smaller, params.schedule, params.fisher_examples, context)


def replay_set(checkpoint: Checkpoint, count: int, context: TrainingContext) -> Sequence[Batch]:
    """A fixed set of the checkpoint's draws of the labels it holds."""
    teacher = frozen(checkpoint, context.device)
    source = replay(teacher, sorted(checkpoint.held.values()), context.generator("replay for the curvature"))
    draws: list[Batch] = []
    for batch in some(source, count, context.device):
        draws.append(batch)
        context.step("drawing replay", sum(len(one.slots) for one in draws), count)
    return draws


def least_missed(around: Curvature, share: float, scope: Scope) -> Removed:
    """The share of units, of every layer or of all together, that is predicted to be missed least."""
    widths = around.widths
    if scope == "layer":
        order = removal_order(around, {layer: int(share * width) for layer, width in widths.items()})
    else:
        order = removal_order(around, widths, int(share * sum(widths.values())))
    return order.first(len(order.units), widths)


def matched(
    checkpoint: Checkpoint,
    smaller: Checkpoint,
    schedule: Schedule,
    fisher_examples: int,
    context: TrainingContext,
) -> Checkpoint:
    """`smaller` after training it to be the checkpoint's function on the checkpoint's draws."""
    network, teacher = build(smaller, context.device), frozen(checkpoint, context.device)
    retain = replay_loss("function", network, teacher, context.generator("latent noise"))
    kept, gone = sorted(checkpoint.held.values()), sorted(checkpoint.forgotten.values())
    streams = holding(network, teacher, kept, gone, retain, context)

    def loss(parts: Parts, done: float) -> Tensor:
        return mean_cost(streams, parts)

    batches = mixed(streams, schedule.batch_size, context.device)
    fit(network, loss, batches, schedule, context, phase="matching")
    return consolidated(smaller, network, context, examples=fisher_examples)
