"""The recovery attack: search the plausible inputs of a network for images of a label it should not know.

Unrestricted, such a search "finds" a digit in a network that never saw it (99 % of the time). So the latents
stay where the network's own draws come from, the condition stays among the conditions it knows, and what is
found counts only beside what the same search finds in a retrained reference (docs/decisions/0032).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy import special
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softmax

from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.networks.network import Network
from worker.learning.strategy import TrainingContext

CERTAIN = 5.0  # added to a logit: nine tenths of a start's condition, before the search moves it
PLAUSIBLE = 0.95  # of a prior's draws lie within the radius that latents are held to


@dataclass(frozen=True)
class Search:
    """How hard the attacker tries."""

    starts: int = 256
    steps: int = 60
    rate: float = 0.1  # of Adam


class Recovered(NamedTuple):
    images: Tensor  # [starts, pixels] in [0, 1]
    u: Tensor  # [starts, latent], where in the home slot's prior, as standard normal noise
    conditions: Tensor  # [starts, slots + 1], the share of each slot's columns, and of none


def recovered(
    network: Network,
    slot: int,
    kept: Sequence[int],
    *,
    label: str,
    feature_network: FeatureNetwork,
    search: Search,
    context: TrainingContext,
) -> Recovered:
    """The likeliest images of `label` that the search found, one a start, and where it found them.

    network: on the CPU, without gradients. slot: the label's own; kept: those of the labels it may draw.
    label: as the feature network knows it.
    Minimises the feature network's disbelief over z and c. z = the prior of a start's home slot (`slot`, or one of
    `kept`) at u, |u|^2 held below the 95 % point of chi^2; c, what is added for the condition, is a convex
    combination of all slots' label columns and of none. A third of the starts begins at the label's own
    condition, a third at none, which is what an empty slot adds, a third anywhere.
    """
    rng = context.generator(f"recovery of {label}")
    slots = torch.tensor([slot, *kept])
    home = slots[torch.randint(len(slots), (search.starts,), generator=rng)]
    radius = plausible_radius(network.latent)
    u = torch.randn(search.starts, network.latent, generator=rng)
    mixture = torch.randn(search.starts, len(network.prior_mean) + 1, generator=rng)  # the last: no condition
    third = search.starts // 3
    mixture[:third, slot] += CERTAIN
    mixture[third : 2 * third, -1] += CERTAIN
    u, mixture = u.requires_grad_(), mixture.requires_grad_()
    decoding = _Decoding(network)
    optimiser = torch.optim.Adam([u, mixture], lr=search.rate)
    for step in range(search.steps):
        context.step(f"recovery of {label}", step, search.steps)
        doubt = feature_network.disbelief(decoding.images(u, home, mixture), label).sum()
        optimiser.zero_grad()
        doubt.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            u *= (radius / u.norm(dim=1, keepdim=True)).clamp(max=1)
    with torch.no_grad():
        images = decoding.images(u, home, mixture)
    return Recovered(images, u.detach(), softmax(mixture.detach(), dim=1))


def plausible_radius(latent: int) -> float:
    """The length that PLAUSIBLE of standard normal vectors do not exceed."""
    return math.sqrt(2 * special.gammaincinv(latent / 2, PLAUSIBLE))


class _Decoding(nn.Module):
    """A network's decoder with mixtures of its conditions: each example's stands in a slot of its own."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.columns = {
            name: tensor.detach()
            for name, tensor in self.named_parameters()
            if name.startswith("network.decoder.") and name.endswith(".label")
        }

    def forward(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents, torch.arange(len(latents))).sigmoid()

    def images(self, u: Tensor, home: Tensor, mixture: Tensor) -> Tensor:
        share = softmax(mixture, dim=1)  # [batch, slots + 1]
        own = {name: share[:, :-1] @ column for name, column in self.columns.items()}
        drawn: Tensor = functional_call(self, own, (self.network.sample_prior(u, home),))
        return drawn
