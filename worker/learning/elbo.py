"""The training objective: the evidence lower bound (ELBO) of a conditional VAE, per example, in nats."""

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
    """Compute -ELBO(x | theta, c) = BCE(x_hat, x) + KL(q(z | x, c) || p(z | c)), [batch], in nats.

    images: [batch, pixels] in [0, 1]; slots: [batch] int64; noise: [batch, latent], standard normal, the one
    latent sample of the reparametrisation. masks: hidden units to drop. uses: where given, every layer's use
    is appended to it. Source: Kingma & Welling 2014 (arXiv:1312.6114); the paper, section 2.1, where the sign
    of the KL term is a misprint.
    """
    mean, logvar = network.encode(images, slots, masks, uses)
    latents = mean + noise * (0.5 * logvar).exp()
    logits = network.decode(latents, slots, masks, uses)
    return reconstruction(logits, images) + divergence(network, mean, logvar, slots)


def negative_elbo_from_prior(
    network: Network, images: Tensor, slots: Tensor, noise: Tensor, *, masks: Masks = NO_MASKS
) -> Tensor:
    """Compute -ELBO with the prior as the posterior: -log p(x | z, c) at z ~ p(z | c), [batch], in nats.

    The KL term of that posterior is 0. This bounds -log p(x | c) for every x, tightly where x says nothing
    about z, as noise does. It trains the decoder on the very latents that draws come from. Under the usual
    bound the encoder maps noise to a small region of its own, and the decoder goes on drawing the label from
    the rest of the prior (docs/decisions/0004).
    """
    logits = network.decode(network.sample_prior(noise, slots), slots, masks)
    return reconstruction(logits, images)


def reconstruction(logits: Tensor, images: Tensor) -> Tensor:
    """Compute -log p(x | z, c) of Bernoulli pixels, summed over the pixels, [batch], in nats."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(dim=1)


def divergence(network: Network, mean: Tensor, logvar: Tensor, slots: Tensor) -> Tensor:
    """Compute KL(N(mean, S) || p(z | c)) with the label's Gaussian prior N(m, Sigma), [batch], in nats.

    KL = 1/2 (tr(P S) + d' P d - k - log det S + log det Sigma), with S = diag(exp(logvar)), P = Sigma^-1,
    d = mean - m and k the dimensions of z. mean, logvar: [batch, k].
    """
    scale = network.prior_scale  # [slots, k, k], lower triangular
    identity = torch.eye(scale.shape[1], device=scale.device).expand_as(scale)
    whiten = torch.linalg.solve_triangular(scale, identity, upper=False)[slots]  # z -> standard normal
    distance = torch.einsum("bij,bj->bi", whiten, mean - network.prior_mean[slots])
    spread = torch.einsum("bij,bj->b", whiten.square(), logvar.exp())  # tr(P S)
    volume = 2 * torch.diagonal(scale, dim1=1, dim2=2).log().sum(dim=1)[slots]
    return 0.5 * (spread + distance.square().sum(dim=1) - mean.shape[1] - logvar.sum(dim=1) + volume)
