"""Losses of replayed examples, which train a network to keep drawing what its teacher draws."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.elbo import negative_elbo, reconstruction_loss
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.strategy import Batch

Match = Literal["function", "elbo"]
ReplayMatch = Annotated[
    Match,
    Field(
        description="Loss of replayed examples. `function`: the network matches the decoder and the "
        "posterior of the old network. `elbo`, as in the paper: it is trained on them as if "
        "they were real images."
    ),
]
ExampleLoss = Callable[[Batch, Masks], Tensor]  # (batch, masks) -> nats, [batch]

MIN_TEACHER_LOGVAR = -6.0  # for a prior with a scale of about 1, posteriors are usually wider than this


def replay_loss(match: Match, network: Network, teacher: Network, generator: torch.Generator) -> ExampleLoss:
    """Return the loss of replayed examples: `distillation_loss`, or -ELBO as if they were real images."""
    if match == "function":
        return lambda batch, masks: distillation_loss(network, teacher, batch, masks=masks)
    return lambda batch, masks: negative_elbo(
        network, batch.images, batch.slots, network.noise(batch.slots, generator), masks=masks
    )


def distillation_loss(network: Network, teacher: Network, batch: Batch, *, masks: Masks = NO_MASKS) -> Tensor:
    """Compute how far the network's function is from the teacher's on replayed (z, x, c), [batch], in nats.

    -log p(x | z, c) at the same z that the teacher drew x from, plus KL(q(z | x, c) || q_teacher(z | x, c)).
    Training on the ELBO of draws ignores that z and uses one from the network's own encoder, so each round of
    replay blurs the images a little more; this loss does not drift (docs/decisions/0004). The teacher's log
    variances are raised to MIN_TEACHER_LOGVAR, so that a posterior that collapsed to a point is not copied
    (docs/decisions/0009). A batch may bring the teacher's posteriors with it. Source: Hinton et al. 2015
    (arXiv:1503.02531), for continuous outputs.
    """
    latents = latents_of(batch)
    mean, logvar = network.encode(batch.images, batch.slots, masks)
    with torch.no_grad():
        target_mean, target_logvar = batch.posterior or teacher.encode(batch.images, batch.slots)
        target_logvar = target_logvar.clamp(min=MIN_TEACHER_LOGVAR)
    logits = network.decode(latents, batch.slots, masks)
    ratio = (logvar - target_logvar).exp() + (mean - target_mean).square() * (-target_logvar).exp()
    kl = 0.5 * (ratio - 1 - logvar + target_logvar).sum(dim=1)
    return reconstruction_loss(logits, batch.images) + kl


def decoder_loss(network: Network) -> ExampleLoss:
    """Make the loss -log p(x | z, c) at the z that x was drawn from, which trains the decoder alone.

    The encoder has no part in what a label draws, and its output for a surrogate image is arbitrary: matching
    it there gave gradients with a norm of a million; those of labels to learn have a norm of some hundreds
    (docs/decisions/0007).
    """

    def loss(batch: Batch, masks: Masks) -> Tensor:
        return reconstruction_loss(network.decode(latents_of(batch), batch.slots, masks), batch.images)

    return loss


def latents_of(batch: Batch) -> Tensor:
    """Return the latents of replayed images, [batch, latent]. Raises ValueError if there are none."""
    if batch.latents is None:
        raise ValueError(
            "the batch has no latents; this loss needs replayed images and the latents they were drawn from"
        )
    return batch.latents
