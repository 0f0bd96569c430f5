"""The membership attack: it tries to tell which images a network was trained on, from their losses.

It is the attack of Shokri et al. 2017 with the losses of Yeom et al. 2018: an image that the network was
trained on (a member) has a smaller loss. Train and test images also differ for another reason, because other
people wrote them, so compare an AUC with that of a retrained reference.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from worker.learning.elbo import kl_to_prior, reconstruction_loss
from worker.learning.networks.network import Network

SET_SIZE = 32
"""How many images there are in a set, over which a set attack averages the losses."""
SETS = 500
"""How many sets are drawn of the members, and as many of the others."""
CHUNK = 1000


def measure_membership(
    network: Network, slot: int, members: Tensor, others: Tensor, rng: torch.Generator
) -> dict[str, float]:
    """Return the AUC of each attack: how often a member has the smaller loss; 0.5 is chance.

    The attacks are `elbo` and `reconstruction` on single images, and `elbo_set` and `reconstruction_set` on
    the mean losses of random sets. members, others: uint8 [n, pixels], the label's train images and real
    images that it was not trained on. network: on the CPU, without gradients.
    """
    of_members, of_others = losses(network, slot, members), losses(network, slot, others)
    single = {name: auc(of_members[name], of_others[name]) for name in of_members}
    sets = {
        f"{name}_set": auc(_set_means(of_members[name], rng), _set_means(of_others[name], rng))
        for name in of_members
    }
    return single | sets


@torch.no_grad()
def losses(network: Network, slot: int, images: Tensor) -> Mapping[str, Tensor]:
    """Return two losses of every image (uint8 [n, pixels]), nats, [n]: `elbo` and `reconstruction`.

    `elbo` is -ELBO at the posterior mean, which needs no random draw; `reconstruction` is its first term.
    """
    negative_elbos, reconstructions = [], []
    for chunk in torch.split(images, CHUNK):
        real, slots = chunk.float() / 255, torch.full((len(chunk),), slot)
        mean, logvar = network.encode(real, slots)
        reconstructions.append(reconstruction_loss(network.decode(mean, slots), real))
        negative_elbos.append(reconstructions[-1] + kl_to_prior(network, mean, logvar, slots))
    return {"elbo": torch.cat(negative_elbos), "reconstruction": torch.cat(reconstructions)}


def auc(members: Tensor, others: Tensor) -> float:
    """Return P(a member's loss < another's) + 1/2 P(they are equal), over all pairs of losses.

    members, others: losses, [n] and [m]. This is Mann & Whitney's U over n m (1947).
    """
    _, values, ties = torch.unique(torch.cat([others, members]), return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0) - (ties - 1) / 2)[values].double()  # equal values share the mean of their ranks
    wins = ranks[: len(others)].sum() - len(others) * (len(others) + 1) / 2
    return float(wins / (len(others) * len(members)))


def _set_means(values: Tensor, rng: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), (SETS, SET_SIZE), generator=rng)].mean(dim=1)
