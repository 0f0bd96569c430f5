"""Forgetting by distillation: a fresh network learns to be the old one, on the labels to retain only."""

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.memory import consolidated
from worker.learning.networks import build, fresh, frozen
from worker.learning.networks.network import Network
from worker.learning.replay import interleave, replay
from worker.learning.resizing.capacity import RESERVE, effective_ranks, units_needed
from worker.learning.resizing.taylor import measured_change
from worker.learning.resizing.taylor_prune import replay_set
from worker.learning.retention import distillation
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit


class DistillParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1500, learning_rate=4e-3)
    size: Literal["share", "auto"] = Field(
        "share", description="of the fresh network: `width_share`, or `auto`, what the rank of the rest needs"
    )
    width_share: float = Field(1.0, ge=0.1, le=1, description="width of the fresh network, of the old one's")
    rank_examples: int = Field(2000, ge=1, le=100_000, description="draws the rank is measured on (auto)")
    reserve: float = Field(
        RESERVE, ge=0, le=10, description="room for what is learnt next, of the architecture's default (auto)"
    )
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "forget",
    "distill",
    DistillParams,
    source="Functional distillation (Hinton et al. 2015) on what is retained",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DistillParams, context: TrainingContext
) -> Checkpoint:
    """Forget by training a fresh network to be the old one on the retained labels: no weight is inherited.

    Minimises E over c in K, z ~ p(z | c) of -log p(x | z, c) with x the teacher's mean image, plus
    KL(q(z | x, c) || q_teacher(z | x, c)). The priors of K are copied; the slots of the forgotten stay empty.
    """
    kept = checkpoint.with_status(examples.labels, "forgotten")
    if params.size == "share":
        return _distilled(kept, params.width_share, params, context)
    draws = replay_set(kept, params.rank_examples, context)
    ranks = effective_ranks(frozen(kept, context.device), draws)
    units = sum((*kept.spec.encoder_widths, *kept.spec.decoder_widths))
    needed = units_needed(sum(ranks.values()), kept.spec, reserve=params.reserve)
    after = _distilled(kept, min(1.0, needed / units), params, context)
    context.findings["fresh_width"] = {
        "signals": {
            "labels": len(kept.held),
            "units": units,
            "effective_rank": ranks,
            "units_needed": needed,
        },
        "chosen": after.widths,
        "reason": f"what is retained needs {needed} hidden units, a reserve among them, of {units}; "
        "forgetting makes no network larger",
        "measured_loss_change": measured_change(kept, after, draws, context.device),
    }
    return after


def _distilled(kept: Checkpoint, share: float, params: DistillParams, context: TrainingContext) -> Checkpoint:
    """A fresh network `share` times as wide that draws what `kept` holds as its network does."""
    start = fresh(_of_width(kept, share), context.generator("weights"))
    network = distilled(frozen(kept, context.device), start, params.schedule, context, phase="forgetting")
    return consolidated(start, network, context, examples=params.fisher_examples)


def distilled(
    teacher: Network, start: Checkpoint, schedule: Schedule, context: TrainingContext, *, phase: str
) -> Network:
    """The network of `start`, trained to be the teacher on the labels that `start` holds, and on no other."""
    kept = sorted(start.held.values())
    network = build(start, context.device)
    network.prior_mean[kept] = teacher.prior_mean[kept]
    network.prior_scale[kept] = teacher.prior_scale[kept]

    def loss(parts: Parts, done: float) -> Tensor:
        (replayed,) = parts
        return distillation(network, teacher, replayed).mean()

    source = replay(teacher, kept, context.generator(f"replay, {phase}"))
    batches = interleave([(source, 1.0)], schedule.batch_size, context.device)
    fit(network, loss, batches, schedule, context, phase=phase)
    return network


def _of_width(checkpoint: Checkpoint, share: float) -> Checkpoint:
    """The checkpoint's labels, and hidden layers `share` times as wide as its own, share in (0, 1]."""

    def scaled(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(share * width)) for width in widths)

    encoder, decoder = checkpoint.spec.encoder_widths, checkpoint.spec.decoder_widths
    spec = replace(checkpoint.spec, encoder_widths=scaled(encoder), decoder_widths=scaled(decoder))
    return replace(checkpoint, spec=spec)
