"""What a replayed example costs: losses that keep a network drawing what its teacher draws, per example."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.elbo import negative_elbo, reconstruction
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.strategy import Batch

Match = Literal["function", "elbo"]
ReplayMatch = Annotated[
    Match,
    Field(
        description="How replayed examples are trained on: the network matches the old network's decoder and "
        "posterior (`function`), or, as in the paper, takes them for data (`elbo`)."
    ),
]
ExampleLoss = Callable[[Batch, Masks], Tensor]  # (batch, masks) -> nats, [batch]

MIN_TEACHER_LOGVAR = -6.0  # under a prior that is about 1 wide, posteriors are usually wider than this


def replay_loss(match: Match, network: Network, teacher: Network, generator: torch.Generator) -> ExampleLoss:
    """Choose the loss of a replayed example: `distillation_loss`, or -ELBO as if the draw were data."""
    if match == "function":
        return lambda batch, masks: distillation_loss(network, teacher, batch, masks=masks)
    return lambda batch, masks: negative_elbo(
        network, batch.images, batch.slots, network.noise(batch.slots, generator), masks=masks
    )


def distillation_loss(network: Network, teacher: Network, batch: Batch, *, masks: Masks = NO_MASKS) -> Tensor:
    """Compute how far the network's function is from the teacher's on replayed (z, x, c), [batch], nats.

    -log p(x | z, c) at the very z that the teacher drew x from, plus KL(q(z | x, c) || q_teacher(z | x, c)).
    The ELBO of a draw does not know its z and pays the encoder to find another, so each generation is a
    little softer than the last; matching the function does not drift (docs/decisions/0004). The teacher's log
    variances are raised to MIN_TEACHER_LOGVAR, so that a posterior that collapsed to a point is not passed on
    (docs/decisions/0009). Source: Hinton et al. 2015 (arXiv:1503.02531), for functions of continuous outputs.
    """
    latents = latents_of(batch)
    mean, logvar = network.encode(batch.images, batch.slots, masks)
    with torch.no_grad():
        target_mean, target_logvar = teacher.encode(batch.images, batch.slots)
        target_logvar = target_logvar.clamp(min=MIN_TEACHER_LOGVAR)
    logits = network.decode(latents, batch.slots, masks)
    ratio = (logvar - target_logvar).exp() + (mean - target_mean).square() * (-target_logvar).exp()
    divergence = 0.5 * (ratio - 1 - logvar + target_logvar).sum(dim=1)
    return reconstruction(logits, batch.images) + divergence


def decoder_loss(network: Network) -> ExampleLoss:
    """Make the loss -log p(x | z, c) at the z that x was drawn from, which trains the decoder alone.

    The encoder plays no part in what a label draws, and its answer to a surrogate is arbitrary: matching it
    there gave gradients of a million, where those of the labels to learn are some hundreds long
    (docs/decisions/0007).
    """

    def loss(batch: Batch, masks: Masks) -> Tensor:
        return reconstruction(network.decode(latents_of(batch), batch.slots, masks), batch.images)

    return loss


def latents_of(batch: Batch) -> Tensor:
    """Return the latents of replayed images, [batch, latent]. Raises ValueError if there are none."""
    if batch.latents is None:
        raise ValueError(
            "this needs replayed images: the batch has no latents that its images were drawn from"
        )
    return batch.latents
