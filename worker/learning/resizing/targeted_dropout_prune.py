"""Make a network smaller: train it on its own draws under targeted dropout, then give up what was dropped."""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen, weights_of
from worker.learning.networks.network import Network
from worker.learning.replay import replay, some
from worker.learning.resizing.targeted_dropout import (
    Mode,
    TargetedDropout,
    mean_activations,
    with_weights_masked,
)
from worker.learning.resizing.units import shrink
from worker.learning.retention import Match, holding, mean_cost, mixed, replay_loss
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit

ACTIVATION_EXAMPLES = 2000


class TargetedDropoutPruneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    share: float = Field(0.2, gt=0, le=0.9, description="given up in every hidden layer")
    mode: Mode = Field(
        "unit", description="remove whole units, or set single incoming weights of every unit to zero"
    )
    drop_probability: float = Field(
        1.0, ge=0, le=1, description="final probability of dropping what is at risk"
    )
    replay_match: Match = Field(
        "function", description="what replay holds: the function, or the paper's ELBO"
    )
    ewc_strength: float = Field(10.0, ge=0, le=1e6, description="lambda of the EWC penalty, per example")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "resize",
    "targeted_dropout_prune",
    TargetedDropoutPruneParams,
    source="Gomez et al. 2019; the paper, section 4.2.1",
    policy="prune",
    default=True,
)
def prune(
    checkpoint: Checkpoint, examples: Examples, params: TargetedDropoutPruneParams, context: TrainingContext
) -> Checkpoint:
    """Give up the least important units or weights of every hidden layer, after training to do without.

    Minimises the replay loss, E over draws (z, x, c) of the old network, of the network with a random part m
    of the bottom share dropped each step, theta * m, plus lambda/2 sum F (theta - theta*)^2. Units are
    removed at the end, which makes the network smaller; weights become zero, which makes it sparser.
    """
    network, teacher = build(checkpoint, context.device), frozen(checkpoint, context.device)
    penalty = quadratic_penalty(network, checkpoint.weights, checkpoint.fisher, params.ewc_strength)
    retain = replay_loss(params.replay_match, network, teacher, context.generator("latent noise"))
    dropout = TargetedDropout(
        network, params.share, params.drop_probability, context.generator("targeted dropout"), params.mode
    )

    kept, gone = sorted(checkpoint.held.values()), sorted(checkpoint.forgotten.values())
    streams = holding(network, teacher, kept, gone, retain, context)

    def loss(parts: Parts, done: float) -> Tensor:
        masks = dropout.masks(done)
        if params.mode == "unit":
            return mean_cost(streams, parts, masks) + penalty()
        return with_weights_masked(network, masks, mean_cost, streams, parts) + penalty()

    batches = mixed(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="pruning")
    if params.mode == "unit":
        smaller = without_dropped(checkpoint, network, dropout, context)
    else:
        smaller = with_weights_zeroed(checkpoint, network, dropout)
    return consolidated(smaller, build(smaller, context.device), context, examples=params.fisher_examples)


def without_dropped(
    checkpoint: Checkpoint, network: Network, dropout: TargetedDropout, context: TrainingContext
) -> Checkpoint:
    """The checkpoint with the trained network's weights, less the units that targeted dropout gave up.

    Where units were dropped at probability 1 the network has learnt to be without them, and their mean
    contribution must not come back: it is folded into the next bias only to the extent they still took part.
    """
    trained = replace(checkpoint, weights=weights_of(network))
    draws = replay(network, sorted(checkpoint.held.values()), context.generator("activations"))
    means = mean_activations(network, some(draws, ACTIVATION_EXAMPLES, context.device))
    contributed = {layer: dropout.still_took_part * mean for layer, mean in means.items()}
    kept = {layer: (~gone).nonzero().flatten() for layer, gone in dropout.given_up().items()}
    return shrink(trained, kept, contributed)


def with_weights_zeroed(checkpoint: Checkpoint, network: Network, dropout: TargetedDropout) -> Checkpoint:
    """The checkpoint with the trained network's weights, those that targeted dropout gave up at zero."""
    weights = weights_of(network)
    for layer, gone in dropout.given_up().items():
        weight = weights[f"{layer}.weight"]
        weights[f"{layer}.weight"] = weight.masked_fill(gone.view_as(weight), 0)
    return replace(checkpoint, weights=weights)
