"""Forgetting by distillation: a new network learns to match the old one on the retained labels only."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples, with_trained_weights
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
        description="Size of the new network. `share`: `width_share` times the width of the old one. "
        "`auto`: as many units as the effective rank of the activations on the retained labels "
        "needs.",
    )
    width_share: float = Field(
        1.0,
        ge=0.1,
        le=1,
        description="Width of the new network as a share of the old one's. Used if `size` is `share`.",
    )
    rank_examples: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Number of draws on which the rank is measured. Used if `size` is `auto`.",
    )
    reserve: Reserve = 0.45
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "forget",
    "distill",
    DistillParams,
    source="Distillation (Hinton et al. 2015, arXiv:1503.02531) on the retained labels",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DistillParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training a new network to match the old one on the retained labels alone.

    The new network starts from random weights. Minimises E over retained labels c and z ~ p(z | c) of
    -log p(x | z, c) + KL(q(z | x, c) || q_old(z | x, c)), with x the old network's mean image at z and q_old
    its posterior. The priors of the retained labels are copied; the slots of the forgotten labels stay empty.
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
        "reason": f"the retained labels need {needed} hidden units, reserve included; the old network has "
        f"{units}, and the new one is not made larger",
        "measured_loss_change": measured_loss_change(target, student, draws, context.device),
    }
    return student


def distil(
    target: Checkpoint, width_share: float, params: DistillParams, context: TrainingContext
) -> Checkpoint:
    """Train a new network, `width_share` times as wide, to match the old one on the retained labels."""
    start = with_random_weights(_scale_widths(target, width_share), context.generator("weights"))
    network = train_student(
        frozen(target, context.device, precision=context.precision),
        start,
        params.schedule,
        context,
        phase="forgetting",
        purpose="replay, forgetting",
    )
    return with_trained_weights(start, network)


def _scale_widths(checkpoint: Checkpoint, share: float) -> Checkpoint:
    """Scale the widths in the spec by `share` in (0, 1]; the weights keep their old shapes."""

    def scaled(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(share * width)) for width in widths)

    encoder, decoder = checkpoint.spec.encoder_widths, checkpoint.spec.decoder_widths
    spec = replace(checkpoint.spec, encoder_widths=scaled(encoder), decoder_widths=scaled(decoder))
    return replace(checkpoint, spec=spec)
