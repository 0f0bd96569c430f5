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
    """Compute KL(q || p) of q = N(mean, S) to the label's prior p(z | c), [batch], in nats.

    For one Gaussian p = N(m, Sigma) it is exact: KL = 1/2 (tr(P S) + d' P d - n - log det S + log det Sigma),
    with S = diag(exp(logvar)), P = Sigma^-1, d = mean - m and n the dimensions of z. For a mixture of
    Gaussians p_k with weights w_k it is the upper bound -log sum_k w_k exp(-KL(q || p_k)), so that the ELBO
    stays a lower bound. mean, logvar: [batch, n].
    Source of the bound: Hershey & Olsen 2007, equation 20, for a single Gaussian q.
    """
    weight = network.prior_weight[slots]  # [batch, components]
    used = 1 if network.components == 1 else int((weight > 0).sum(dim=1).max())
    scale = network.prior_scale[:, :used]  # [slots, used, n, n], lower triangular
    identity = torch.eye(scale.shape[2], device=scale.device).expand_as(scale)
    whiten = torch.linalg.solve_triangular(scale, identity, upper=False)  # z -> standard normal
    volume = 2 * torch.diagonal(scale, dim1=2, dim2=3).abs().log().sum(dim=2)[slots]  # [batch, used]
    moved = mean[:, None] - network.prior_mean[slots, :used]
    distance = torch.einsum("bkij,bkj->bki", whiten[slots], moved).square().sum(dim=2)
    spread = torch.einsum("bkj,bj->bk", whiten.square().sum(dim=2)[slots], logvar.exp())  # tr(P S)
    own = mean.shape[1] + logvar.sum(dim=1, keepdim=True)
    to_each = 0.5 * (spread + distance - own + volume)
    return to_each[:, 0] if used == 1 else -(weight[:, :used].log() - to_each).logsumexp(dim=1)
