"""The label prior p(z | c): one full-covariance Gaussian a label, where the encoder puts its images."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from worker.learning.networks.network import Network
from worker.learning.replay import real, some
from worker.learning.strategy import Batch, Diverged, TrainingContext

EXAMPLES = 4000  # of a label, for the moments of its prior
JITTER = 1e-4  # keeps the covariance of a collapsed latent positive definite


def fit_prior(network: Network, slot: int, batches: Iterable[Batch]) -> None:
    """Set p(z | c = slot), in place, to the Gaussian with the moments of the aggregated posterior.

    mean = E[m(x)], covariance = Cov[m(x)] + E[diag v(x)], over the label's images in
    `batches`: the maximum-likelihood Gaussian prior for the trained encoder, and the cheapest gain in the
    quality of draws. Raises Diverged where the encoder's answers are not finite numbers.
    """
    with torch.no_grad():
        encoded = [network.encode(batch.images, batch.slots) for batch in batches]
        means = torch.cat([mean for mean, _ in encoded]).double()
        spread = torch.cat([logvar for _, logvar in encoded]).double().exp().mean(dim=0)
        apart = means - means.mean(dim=0)
        covariance = apart.T @ apart / len(means) + torch.diag(spread + JITTER)
        network.prior_mean[slot] = means.mean(dim=0).float()
        network.prior_scale[slot] = _root(covariance).float()


def _root(covariance: Tensor) -> Tensor:
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed or not root.isfinite().all():
        raise Diverged(
            "the encoder puts a label's images nowhere finite, so they have no prior; lower the learning rate"
        )
    return root


def fit_priors(
    network: Network, images: Mapping[str, Tensor], slots: Mapping[str, int], context: TrainingContext
) -> None:
    """Fit the prior of every label of `images` (label -> uint8 [n, pixels]), in place; a standard one is."""
    for name in images if network.prior == "fitted" else ():
        alone = real({name: images[name]}, slots, context.generator(f"prior of {name}"))
        fit_prior(network, slots[name], some(alone, EXAMPLES, context.device))


def reset_prior(network: Network, slot: int) -> None:
    """Back to N(0, I): what was fitted to a forgotten label's images leaves with it."""
    network.prior_mean[slot] = 0
    network.prior_scale[slot] = torch.eye(network.prior_scale.shape[1], device=network.prior_scale.device)
