"""Forgetting by distillation: a fresh network learns the old one's function, on the retained labels only."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, consolidate
from worker.learning.distillation import train_student
from worker.learning.networks import frozen, with_random_weights
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.capacity import Reserve, effective_ranks, units_needed
from worker.learning.units.removal import measured_loss_change, replay_sample


class DistillParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1500, learning_rate=4e-3)
    size: Literal["share", "auto"] = Field(
        "share",
        description="Size of the fresh network: `width_share` of the old one (`share`), or as many units as "
        "the rank of the retained labels needs (`auto`).",
    )
    width_share: float = Field(
        1.0, ge=0.1, le=1, description="Width of the fresh network, as a share of the old one's. For `share`."
    )
    rank_examples: int = Field(
        2000, ge=1, le=100_000, description="Number of draws that the rank is measured on. For `auto`."
    )
    reserve: Reserve = 0.45
    fisher_examples: FisherExamples = 10_000


@strategy(
    "forget",
    "distill",
    DistillParams,
    source="Functional distillation (Hinton et al. 2015, arXiv:1503.02531) on what is retained",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DistillParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training a fresh network to match the old one on the retained labels alone.

    No weight is inherited. Minimises E over retained labels c and z ~ p(z | c) of -log p(x | z, c), with x
    the old network's mean image, plus KL(q(z | x, c) || q_old(z | x, c)). The priors of the retained labels
    are copied; the slots of the forgotten ones stay empty.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    if params.size == "share":
        return distil(target, params.width_share, params, context)
    draws = replay_sample(target, params.rank_examples, context)
    ranks = effective_ranks(frozen(target, context.device), draws)
    units = sum((*target.spec.encoder_widths, *target.spec.decoder_widths))
    needed = units_needed(sum(ranks.values()), target.spec, reserve=params.reserve)
    student = distil(target, min(1.0, needed / units), params, context)
    context.findings["fresh_width"] = {
        "signals": {
            "labels": len(target.retained),
            "units": units,
            "effective_rank": ranks,
            "units_needed": needed,
        },
        "chosen": student.widths,
        "reason": f"what is retained needs {needed} hidden units, a reserve among them, of {units}; "
        "forgetting makes no network larger",
        "measured_loss_change": measured_loss_change(target, student, draws, context.device),
    }
    return student


def distil(
    target: Checkpoint, width_share: float, params: DistillParams, context: TrainingContext
) -> Checkpoint:
    """Train a fresh network, `width_share` times as wide, to match the old one on the retained labels."""
    start = with_random_weights(_scale_widths(target, width_share), context.generator("weights"))
    network = train_student(
        frozen(target, context.device),
        start,
        params.schedule,
        context,
        phase="forgetting",
        purpose="replay, forgetting",
    )
    return consolidate(start, network, context, examples=params.fisher_examples)


def _scale_widths(checkpoint: Checkpoint, share: float) -> Checkpoint:
    """Scale the hidden layers' widths in the spec, share in (0, 1]; the weights are not changed to fit."""

    def scaled(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(share * width)) for width in widths)

    encoder, decoder = checkpoint.spec.encoder_widths, checkpoint.spec.decoder_widths
    spec = replace(checkpoint.spec, encoder_widths=scaled(encoder), decoder_widths=scaled(decoder))
    return replace(checkpoint, spec=spec)
