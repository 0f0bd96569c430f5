"""The label priors p(z | c): for each label Gaussians that are fitted to its aggregate posterior."""

from collections.abc import Mapping

import torch
from torch import Tensor

from worker.learning.mixtures import NotFinite, Posteriors, empty_priors, fit_best_mixture
from worker.learning.networks.network import Network
from worker.learning.resuming import InPlace
from worker.learning.strategy import Diverged, TrainingContext

EXAMPLES = 4000  # images of a label that its prior is fitted to, at most
BATCH = 500  # images that are encoded at a time


def fit_prior(
    network: Network, slot: int, images: Tensor, context: TrainingContext, *, most: int | None = None
) -> None:
    """Set p(z | c = slot), in place, to a mixture of Gaussians fitted to the label's aggregate posterior.

    images: the label's, uint8 [n, pixels]. The aggregate posterior is the mean of q(z | x, c) over EXAMPLES
    of them at most, and the number of Gaussians the one that is most likely for held-out images
    (decision 0148), `most` of them at most, or as many as the network has room for. With one Gaussian its
    moments are mean = E[m(x)] and covariance = Cov[m(x)] + E[diag v(x)], where
    q(z | x, c) = N(m(x), diag v(x)). Raises Diverged if the encoder's outputs are not finite numbers.
    """
    generator = context.generator("prior")
    chosen = torch.randperm(len(images), generator=generator)[:EXAMPLES].sort().values
    try:
        fitted = fit_best_mixture(
            _posteriors(network, slot, images[chosen], context), most or network.components, generator
        )
    except NotFinite as error:
        raise Diverged(
            "no prior can be fitted: the encoder's outputs are not finite; lower the learning rate"
        ) from error
    reset_prior(network, slot)
    used = len(fitted.weight)
    network.prior_weight[slot, :used] = fitted.weight.float()
    network.prior_mean[slot, :used] = fitted.mean.float()
    network.prior_scale[slot, :used] = fitted.scale.float()


@torch.no_grad()
def _posteriors(network: Network, slot: int, images: Tensor, context: TrainingContext) -> Posteriors:
    means, variances = [], []
    for chunk in torch.split(images, BATCH):
        slots = torch.full((len(chunk),), slot, device=context.device)
        mean, logvar = network.encode(chunk.to(context.device).float().div_(255), slots)
        means.append(mean.double().cpu())
        variances.append(logvar.double().exp().cpu())
    return Posteriors(torch.cat(means), torch.cat(variances))


def fit_priors(
    network: Network, images: Mapping[str, Tensor], slots: Mapping[str, int], context: TrainingContext
) -> None:
    """Fit the prior of every label of `images` (label -> uint8 [n, pixels]), in place.

    Does nothing if the network's spec has the standard prior N(0, I).
    """
    names = [] if network.prior == "standard" else sorted(images)
    priors = InPlace(network.priors())
    with context.loop("fitting priors", range(len(names)), [priors]) as indices:
        for name in (names[index] for index in indices):
            fit_prior(network, slots[name], images[name], context.with_seed_for(f"prior of {name}"))


def reset_prior(network: Network, slot: int) -> None:
    """Set a label's prior to N(0, I), in place: a fitted prior would reveal the images it was fitted to."""
    for name, tensor in empty_priors([slot], network.latent, network.components).items():
        network.get_buffer(name)[slot] = tensor[0]
