"""The membership attack: can it be told from the network which images it was taught?

Shokri et al. 2017 with the losses of Yeom et al. 2018: what was taught costs less. Real train and test images
differ by themselves (other people wrote them), so an AUC speaks only beside a retrained reference's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from worker.learning.elbo import divergence, reconstruction
from worker.learning.networks.network import Network

SET = 32  # images a set attack looks at together
SETS = 500
CHUNK = 1000


def membership(
    network: Network, slot: int, members: Tensor, others: Tensor, rng: torch.Generator
) -> dict[str, float]:
    """The AUC of each attack: how often a member looks more taught than another image, 0.5 for a blind one.

    members, others: uint8 [n, pixels], what the label was taught with and real images it was not. Attacks:
    `elbo`, `reconstruction` on single images, and `elbo_set`, `reconstruction_set` on the means over sets.
    network: on the CPU, without gradients.
    """
    taught, unseen = costs(network, slot, members), costs(network, slot, others)
    single = {name: auc(taught[name], unseen[name]) for name in taught}
    sets = {f"{name}_set": auc(_sets(taught[name], rng), _sets(unseen[name], rng)) for name in taught}
    return single | sets


@torch.no_grad()
def costs(network: Network, slot: int, images: Tensor) -> Mapping[str, Tensor]:
    """Of every image, nats, [n]: -ELBO at the posterior mean, so without chance, and its first term."""
    bounds, terms = [], []
    for chunk in torch.split(images, CHUNK):
        real, slots = chunk.float() / 255, torch.full((len(chunk),), slot)
        mean, logvar = network.encode(real, slots)
        terms.append(reconstruction(network.decode(mean, slots), real))
        bounds.append(terms[-1] + divergence(network, mean, logvar, slots))
    return {"elbo": torch.cat(bounds), "reconstruction": torch.cat(terms)}


def auc(members: Tensor, others: Tensor) -> float:
    """P(a member's cost < another's) + 1/2 P(they are equal), over all pairs: Mann-Whitney's U."""
    _, which, ties = torch.unique(torch.cat([others, members]), return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0) - (ties - 1) / 2)[which].double()  # equal values share theirs
    wins = ranks[: len(others)].sum() - len(others) * (len(others) + 1) / 2
    return float(wins / (len(others) * len(members)))


def _sets(values: Tensor, rng: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), (SETS, SET), generator=rng)].mean(dim=1)
