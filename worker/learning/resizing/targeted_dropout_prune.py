"""Make a network smaller: train it on its own draws with targeted dropout, then remove what was dropped."""

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.networks import build, frozen
from worker.learning.replay_losses import ReplayMatch, replay_loss
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.streams import mean_loss, mixed_batches, replay_streams
from worker.learning.training import Parts, Schedule, fit
from worker.learning.units.targeted_dropout import (
    DropProbability,
    Mode,
    TargetedDropout,
    remove_dropped_units,
    with_weights_masked,
    zero_dropped_weights,
)


class TargetedDropoutPruneParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    share: float = Field(
        0.2, gt=0, le=0.9, description="Share of every hidden layer's units or weights to remove."
    )
    mode: Mode = Field(
        "unit",
        description="What is removed. `unit`: whole units. `weight`: single incoming weights of every unit, "
        "which are set to zero.",
    )
    drop_probability: DropProbability = 1.0
    replay_match: ReplayMatch = "function"
    ewc_strength: EwcStrength = 10.0
    fisher_examples: FisherExamples = 10_000


@strategy(
    "resize",
    "targeted_dropout_prune",
    TargetedDropoutPruneParams,
    source="Gomez et al. 2019 (arXiv:1905.13678); the paper, section 4.2.1",
    policy="prune",
)
def prune(
    checkpoint: Checkpoint, examples: Examples, params: TargetedDropoutPruneParams, context: TrainingContext
) -> Checkpoint:
    """Remove the least important units or weights of each hidden layer, after training with targeted dropout.

    Minimises E over draws (z, x, c) of the old network of the replay loss at theta * m, plus
    lambda/2 sum F (theta - theta*)^2. The mask m drops a random part of the least important share in every
    step. At the end that share is removed: units, which makes the network smaller, or weights, which are set
    to zero and make it sparser.
    """
    network = build(checkpoint, context.device)
    teacher = frozen(checkpoint, context.device, precision=context.precision)
    anchor = checkpoint
    if params.ewc_strength > 0:
        slots = checkpoint.retained.values()
        anchor = with_fisher_over(checkpoint, slots, context, examples=params.fisher_examples)
    penalty = quadratic_penalty(network, anchor.weights, anchor.fisher, params.ewc_strength)
    retained_loss = replay_loss(params.replay_match, network, teacher, context.generator("latent noise"))
    dropout = TargetedDropout(
        network, params.share, params.drop_probability, context.generator("targeted dropout"), params.mode
    )
    retained, forgotten = sorted(checkpoint.retained.values()), sorted(checkpoint.forgotten.values())
    streams = replay_streams(
        network, teacher, retained, forgotten, retained_loss, context, draws=params.schedule.examples
    )

    def loss(parts: Parts, progress: float) -> Tensor:
        masks = dropout.masks(progress)
        if params.mode == "unit":
            return mean_loss(streams, parts, masks) + penalty()
        return with_weights_masked(network, masks, mean_loss, streams, parts) + penalty()

    batches = mixed_batches(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="pruning", changed=[dropout])
    if params.mode == "unit":
        return remove_dropped_units(checkpoint, network, dropout, context)
    return zero_dropped_weights(checkpoint, network, dropout)
