"""Holding on to what a network can draw: the loss on replayed examples."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from worker.learning.elbo import negative_elbo, reconstruction
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.strategy import Batch

Match = Literal["function", "elbo"]
ReplayLoss = Callable[[Batch, Masks], Tensor]  # (replayed batch, masks) -> nats, [batch]


def replay_loss(match: Match, network: Network, teacher: Network, generator: torch.Generator) -> ReplayLoss:
    """What a replayed example costs. `elbo`: the paper's, as if the draw were data. `function`: see below."""
    if match == "function":
        return lambda batch, masks: distillation(network, teacher, batch, masks=masks)
    return lambda batch, masks: negative_elbo(
        network, batch.images, batch.slots, network.noise(batch.slots, generator), masks=masks
    )


def distillation(network: Network, teacher: Network, batch: Batch, *, masks: Masks = NO_MASKS) -> Tensor:
    """Match the teacher's function on replayed (z, x, c), [batch], nats.

    -log p(x | z, c) at the very z the teacher drew x from, and KL(q(z | x, c) || q_teacher(z | x, c)). The
    ELBO of a draw forgets its z and pays the encoder to find another: each generation is a little softer than
    the last. Matching the function has no such drift (docs/decisions/0004).
    """
    if batch.latents is None:
        raise ValueError("distillation needs the latents the images were drawn from")
    mean, logvar = network.encode(batch.images, batch.slots, masks)
    with torch.no_grad():
        target_mean, target_logvar = teacher.encode(batch.images, batch.slots)
    logits = network.decode(batch.latents, batch.slots, masks)
    ratio = (logvar - target_logvar).exp() + (mean - target_mean).square() * (-target_logvar).exp()
    divergence = 0.5 * (ratio - 1 - logvar + target_logvar).sum(dim=1)
    return reconstruction(logits, batch.images) + divergence
