"""Functional alignment: how likely each of two networks finds the other's draws (FADE, arXiv:2510.12981)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.judging.quick_report import Draw
from worker.learning.networks import frozen
from worker.learning.networks.network import Network
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
    networks = [frozen(checkpoint, CPU) for checkpoint in (one, other)]
    found = {}
    for name in labels:
        seed = context.with_seed_for(f"alignment on {name}").seed
        excess = []
        for own, drawer in enumerate((one, other)):
            images = draw(drawer, name, draws, seed)
            nats = [
                _nats(network, images, checkpoint.label(name).slot, name, context)
                for network, checkpoint in zip(networks, (one, other), strict=True)
            ]
            excess.append(nats[1 - own] - nats[own])
        found[name] = sum(excess) / 2
    return found


@torch.no_grad()
def _nats(network: Network, images: Tensor, slot: int, name: str, context: TrainingContext) -> float:
    """-ELBO of the images [n, pixels] as the label's, nats, the mean."""
    slots = torch.full((len(images),), slot)
    noise = network.noise(slots, context.generator(f"noise of the alignment on {name}"))
    return negative_elbo(network, images, slots, noise).mean().item()
