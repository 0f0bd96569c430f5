"""Functional alignment: how likely each of two networks finds the other's draws (FADE, arXiv:2510.12981)."""

from collections.abc import Iterable, Mapping

import torch

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.judging.quick_report import Draw
from worker.learning.networks import frozen
from worker.learning.strategy import TrainingContext

CPU = torch.device("cpu")


def misalignment(
    one: Checkpoint,
    other: Checkpoint,
    labels: Iterable[str],
    *,
    draws: int,
    draw: Draw,
    context: TrainingContext,
) -> Mapping[str, float]:
    """Return, for each label, how much less likely each network finds the other's draws than its own, nats.

    It is the mean of both ways of E over x drawn by the one of -ELBO(x | other) + ELBO(x | one): about 0 for
    two equal networks. Both networks draw with the same noise.
    """
    return {
        name: (
            _excess(one, other, name, draws=draws, draw=draw, context=context)
            + _excess(other, one, name, draws=draws, draw=draw, context=context)
        )
        / 2
        for name in labels
    }


@torch.no_grad()
def _excess(
    drawer: Checkpoint, reader: Checkpoint, name: str, *, draws: int, draw: Draw, context: TrainingContext
) -> float:
    images = draw(drawer, name, draws, context.with_seed_for(f"alignment on {name}").seed)
    nats = []
    for checkpoint in (reader, drawer):
        network, slots = frozen(checkpoint, CPU), torch.full((draws,), checkpoint.label(name).slot)
        noise = network.noise(slots, context.generator(f"noise of the alignment on {name}"))
        nats.append(negative_elbo(network, images, slots, noise).mean())
    return float(nats[0] - nats[1])
