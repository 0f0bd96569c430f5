"""The label priors p(z | c): for each label a full-covariance Gaussian, fitted to its aggregate posterior."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from worker.learning.networks.network import Network
from worker.learning.resuming import InPlace
from worker.learning.sources import draw_batches, real_examples
from worker.learning.strategy import Batch, Diverged, TrainingContext

EXAMPLES = 4000  # images of a label that its prior is fitted to
JITTER = 1e-4  # added to the variances: keeps the covariance of a collapsed latent positive definite


def fit_prior(network: Network, slot: int, batches: Iterable[Batch]) -> None:
    """Set p(z | c = slot), in place, to the Gaussian with the moments of the label's aggregate posterior.

    mean = E[m(x)] and covariance = Cov[m(x)] + E[diag v(x)] over the label's images in `batches`, where
    q(z | x, c) = N(m(x), diag v(x)): the maximum-likelihood Gaussian prior for a trained encoder. Of all the
    ways to improve draws that were tried, it was the cheapest. Raises Diverged if the encoder's outputs are
    not finite numbers.
    """
    with torch.no_grad():
        encoded = [network.encode(batch.images, batch.slots) for batch in batches]
        means = torch.cat([mean for mean, _ in encoded]).double()
        spread = torch.cat([logvar for _, logvar in encoded]).double().exp().mean(dim=0)
        centred = means - means.mean(dim=0)
        covariance = centred.T @ centred / len(means) + torch.diag(spread + JITTER)
        network.prior_mean[slot] = means.mean(dim=0).float()
        network.prior_scale[slot] = _cholesky_factor(covariance).float()


def _cholesky_factor(covariance: Tensor) -> Tensor:
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed or not root.isfinite().all():
        raise Diverged(
            "no prior can be fitted: the encoder's outputs are not finite; lower the learning rate"
        )
    return root


def fit_priors(
    network: Network, images: Mapping[str, Tensor], slots: Mapping[str, int], context: TrainingContext
) -> None:
    """Fit the prior of every label of `images` (label -> uint8 [n, pixels]), in place.

    Does nothing if the network's spec has the standard prior N(0, I).
    """
    names = sorted(images) if network.prior == "fitted" else []
    priors = InPlace({"mean": network.prior_mean, "scale": network.prior_scale})
    with context.loop("fitting priors", range(len(names)), [priors]) as indices:
        for name in (names[index] for index in indices):
            source = real_examples({name: images[name]}, slots, context.generator(f"prior of {name}"))
            fit_prior(network, slots[name], draw_batches(source, EXAMPLES, context.device))


def reset_prior(network: Network, slot: int) -> None:
    """Set a label's prior to N(0, I), in place: a fitted prior would reveal the images it was fitted to."""
    network.prior_mean[slot] = 0
    network.prior_scale[slot] = torch.eye(network.prior_scale.shape[1], device=network.prior_scale.device)
