"""The training objective: the evidence lower bound (ELBO) of a conditional VAE, per example, in nats."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.learning.networks.network import NO_MASKS, LayerCall, Masks, Network


def negative_elbo(
    network: Network,
    images: Tensor,
    slots: Tensor,
    noise: Tensor,
    *,
    masks: Masks = NO_MASKS,
    calls: list[LayerCall] | None = None,
) -> Tensor:
    """Compute -ELBO(x | theta, c) = -log p(x | z, c) + KL(q(z | x, c) || p(z | c)), [batch], in nats.

    images: [batch, pixels] in [0, 1]; slots: [batch] int64; noise: [batch, latent], standard normal: the eps
    of the one sample z = mean + exp(logvar / 2) * eps. masks: hidden units to drop. calls: if given, the call
    of every layer is appended to it. Source: Kingma & Welling 2014 (arXiv:1312.6114); the paper, section 2.1,
    where the sign of the KL term is a misprint.
    """
    mean, logvar = network.encode(images, slots, masks, calls)
    latents = mean + noise * (0.5 * logvar).exp()
    logits = network.decode(latents, slots, masks, calls)
    return reconstruction_loss(logits, images) + kl_to_prior(network, mean, logvar, slots)


def negative_elbo_from_prior(
    network: Network, images: Tensor, slots: Tensor, noise: Tensor, *, masks: Masks = NO_MASKS
) -> Tensor:
    """Compute -ELBO with q(z | x, c) = p(z | c): -log p(x | z, c) at z ~ p(z | c), [batch], in nats.

    The KL term is then 0. In expectation this is an upper bound of -log p(x | c), and a tight one if x says
    nothing about z, as for noise images. It trains the decoder on the same latents that draws come from. With
    the usual ELBO the encoder maps noise images to a small region of z, and the decoder still draws the label
    from the rest of the prior (docs/decisions/0004).
    """
    logits = network.decode(network.sample_prior(noise, slots), slots, masks)
    return reconstruction_loss(logits, images)


def reconstruction_loss(logits: Tensor, images: Tensor) -> Tensor:
    """Compute -log p(x | z, c) of Bernoulli pixels, summed over the pixels, [batch], in nats."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(dim=1)


def kl_to_prior(network: Network, mean: Tensor, logvar: Tensor, slots: Tensor) -> Tensor:
    """Compute KL(N(mean, S) || N(m, Sigma)) to the label's prior p(z | c) = N(m, Sigma), [batch], in nats.

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
