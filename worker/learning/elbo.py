"""The objective: the evidence lower bound of a conditional VAE, per example, in nats."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.learning.networks.network import NO_MASKS, Masks, Network, Use


def negative_elbo(
    network: Network,
    images: Tensor,
    slots: Tensor,
    noise: Tensor,
    *,
    masks: Masks = NO_MASKS,
    uses: list[Use] | None = None,
) -> Tensor:
    """-ELBO(x | theta, c) = BCE(x_hat, x) + KL(q(z | x, c) || p(z | c)), one value an example, in nats.

    images: [batch, pixels] in [0, 1]; slots: [batch] int64; noise: [batch, latent] standard normal, the one
    latent draw of the reparametrisation. Paper: section 2.1 (whose sign of the KL term is a slip).
    """
    mean, logvar = network.encode(images, slots, masks, uses)
    latents = mean + noise * (0.5 * logvar).exp()
    logits = network.decode(latents, slots, masks, uses)
    return reconstruction(logits, images) + divergence(network, mean, logvar, slots)


def negative_elbo_from_prior(
    network: Network, images: Tensor, slots: Tensor, noise: Tensor, *, masks: Masks = NO_MASKS
) -> Tensor:
    """-ELBO with the prior itself as the posterior: E over z ~ p(z | c) of -log p(x | z, c), as its KL is 0.
    Per example, in nats.

    A bound for every x, and a tight one where x says nothing about z, as noise does. It trains the decoder on
    exactly the latents that are drawn: under the usual bound the encoder puts noise into a corner of its own,
    and the rest of the label's latents go on drawing the digit (docs/decisions/0004).
    """
    logits = network.decode(network.sample_prior(noise, slots), slots, masks)
    return reconstruction(logits, images)


def reconstruction(logits: Tensor, images: Tensor) -> Tensor:
    """-log p(x | z, c) of Bernoulli pixels, summed over the pixels, [batch]."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(dim=1)


def divergence(network: Network, mean: Tensor, logvar: Tensor, slots: Tensor) -> Tensor:
    """KL(N(mean, diag exp logvar) || p(z | c)) with the label's Gaussian prior, [batch].

    KL = 1/2 (tr(P S) + d' P d - k - log det S + log det Sigma), P = Sigma^-1, d = mean - prior mean.
    """
    scale = network.prior_scale  # [slots, k, k], lower triangular
    identity = torch.eye(scale.shape[1], device=scale.device).expand_as(scale)
    whiten = torch.linalg.solve_triangular(scale, identity, upper=False)[slots]  # z -> standard normal
    apart = torch.einsum("bij,bj->bi", whiten, mean - network.prior_mean[slots])
    spread = torch.einsum("bij,bj->b", whiten.square(), logvar.exp())  # tr(P S)
    volume = 2 * torch.diagonal(scale, dim1=1, dim2=2).log().sum(dim=1)[slots]
    return 0.5 * (spread + apart.square().sum(dim=1) - mean.shape[1] - logvar.sum(dim=1) + volume)
