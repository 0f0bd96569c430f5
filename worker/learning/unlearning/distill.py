"""Forgetting by distillation: a fresh network learns to be the old one, on the labels to retain only."""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.memory import consolidated
from worker.learning.networks import build, fresh, frozen
from worker.learning.networks.network import Network
from worker.learning.replay import interleave, replay
from worker.learning.retention import distillation
from worker.learning.strategy import Examples, StrategyParams, Workbench, strategy
from worker.learning.training import Parts, Schedule, fit


class DistillParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1500, learning_rate=4e-3)
    width_share: float = Field(1.0, ge=0.1, le=1, description="width of the fresh network, of the old one's")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "forget",
    "distill",
    DistillParams,
    source="Functional distillation (Hinton et al. 2015) on what is retained",
)
def forget(checkpoint: Checkpoint, examples: Examples, params: DistillParams, bench: Workbench) -> Checkpoint:
    """Forget by training a fresh network to be the old one on the retained labels: no weight is inherited.

    Minimises E over c in K, z ~ p(z | c) of -log p(x | z, c) with x the teacher's mean image, plus
    KL(q(z | x, c) || q_teacher(z | x, c)). The priors of K are copied; the slots of the forgotten stay empty.
    """
    target = _narrowed(checkpoint.with_status(examples.labels, "forgotten"), params.width_share)
    start = fresh(target, bench.generator("weights"))
    network = distilled(frozen(checkpoint, bench.device), start, params.schedule, bench, phase="forgetting")
    return consolidated(start, network, bench, examples=params.fisher_examples)


def distilled(
    teacher: Network, start: Checkpoint, schedule: Schedule, bench: Workbench, *, phase: str
) -> Network:
    """The network of `start`, trained to be the teacher on the labels that `start` holds, and on no other."""
    kept = sorted(start.held.values())
    network = build(start, bench.device)
    network.prior_mean[kept] = teacher.prior_mean[kept]
    network.prior_scale[kept] = teacher.prior_scale[kept]

    def loss(parts: Parts, done: float) -> Tensor:
        (replayed,) = parts
        return distillation(network, teacher, replayed).mean()

    source = replay(teacher, kept, bench.generator(f"replay, {phase}"))
    batches = interleave([(source, 1.0)], schedule.batch_size, bench.device)
    fit(network, loss, batches, schedule, bench, phase=phase)
    return network


def _narrowed(checkpoint: Checkpoint, share: float) -> Checkpoint:
    def narrow(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(share * width)) for width in widths)

    encoder, decoder = checkpoint.spec.encoder_widths, checkpoint.spec.decoder_widths
    spec = replace(checkpoint.spec, encoder_widths=narrow(encoder), decoder_widths=narrow(decoder))
    return replace(checkpoint, spec=spec)
