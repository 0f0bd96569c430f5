"""The recovery attack: search a network's inputs for images of a label that it should have forgotten.

An unrestricted search "finds" a digit even in a network that never saw it (99 % of the time). So latents are
restricted to the region that draws come from, conditions to mixtures of the existing ones, and the success
rate is compared with that of the same search in a retrained reference (docs/decisions/0032).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softmax

from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.networks.network import Network
from worker.learning.resuming import InPlace, OptimiserState
from worker.learning.strategy import TrainingContext

STARTING_LOGIT = 5.0
"""Added to the logit of the condition that a start begins at, which gives it nine tenths of the mixture."""
PLAUSIBLE_SHARE = 0.95
"""The share of a prior's draws within the radius that latents are restricted to."""


@dataclass(frozen=True)
class Search:
    """How many searches the attack makes, and how long each is."""

    starts: int = 256
    steps: int = 60
    learning_rate: float = 0.1  # of Adam


class Recovered(NamedTuple):
    """The result of each start of the search."""

    images: Tensor  # [starts, pixels] in [0, 1]
    noise: Tensor  # [starts, noise_size], the standard normal noise that gives the latents
    mixtures: Tensor  # [starts, slots + 1], the share of each slot's label embedding; last, of no label


def recover(
    network: Network,
    slot: int,
    kept: Sequence[int],
    *,
    label: str,
    feature_network: FeatureNetwork,
    search: Search,
    context: TrainingContext,
) -> Recovered:
    """Search for images of `label`; return the image that each start ends with, and the inputs that gave it.

    Minimises -log p(label | decode(z, c)) over z and c with Adam. p is given by the feature network: a second
    classifier, independent of the judge, whose hidden layer also gives the features for FID and coverage.
    z starts as a draw from the prior of one slot, `slot` or one of `kept`, chosen at random for each start:
    the prior's transform of noise u. Every step keeps |u|^2 below the 95 % point of chi^2 with `latent`
    degrees of freedom, so that z stays plausible.
    c, which the layers add for the condition, is a convex combination of all slots' label embeddings and
    zero. A third of the starts begins at the label's own condition, a third at zero (as in an empty slot),
    and a third at random.

    network: on the CPU, without gradients. slot: the label's own. kept: the slots of its other labels.
    label: what the feature network calls it.
    """
    rng = context.generator(f"recovery of {label}")
    slots = torch.tensor([slot, *kept])
    prior_slots = slots[torch.randint(len(slots), (search.starts,), generator=rng)]
    radius = plausible_radius(network.latent)
    noise = network.prior_noise(prior_slots, rng)
    logits = torch.randn(search.starts, len(network.prior_mean) + 1, generator=rng)  # the last: no condition
    third = search.starts // 3
    logits[:third, slot] += STARTING_LOGIT
    logits[third : 2 * third, -1] += STARTING_LOGIT
    noise, logits = noise.requires_grad_(), logits.requires_grad_()
    decoder = _MixtureDecoder(network)
    optimiser = torch.optim.Adam([noise, logits], lr=search.learning_rate)
    phase, searched = f"recovery of {label}", InPlace({"noise": noise, "logits": logits})
    with context.loop(phase, range(search.steps), [searched], scratch=[OptimiserState(optimiser)]) as steps:
        for step in steps:
            context.step(phase, step, search.steps)
            images = decoder.images(noise, prior_slots, logits)
            loss = feature_network.negative_log_probability(images, label).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                of_latent = noise[:, : network.latent]  # the number that chooses the component stays
                of_latent *= (radius / of_latent.norm(dim=1, keepdim=True)).clamp(max=1)
    with torch.no_grad():
        images = decoder.images(noise, prior_slots, logits)
    return Recovered(images, noise.detach(), softmax(logits.detach(), dim=1))


def plausible_radius(latent: int) -> float:
    """Return the length that PLAUSIBLE_SHARE of standard normal vectors of `latent` entries do not exceed."""
    from scipy import special  # not needed to start a worker

    return math.sqrt(2 * special.gammaincinv(latent / 2, PLAUSIBLE_SHARE))


class _MixtureDecoder(nn.Module):
    """A network's decoder for mixtures of its label embeddings.

    To decode n mixtures at once, the label tables [slots, ...] are replaced by tables of n rows, one mixed
    embedding for each example, and example i is decoded as slot i.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.label_tables = {
            name: tensor.detach()
            for name, tensor in self.named_parameters()
            if name.startswith("network.decoder.") and name.endswith(".label")
        }

    def forward(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents, torch.arange(len(latents))).sigmoid()

    def images(self, noise: Tensor, prior_slots: Tensor, logits: Tensor) -> Tensor:
        """Decode noise [n, noise_size] from the priors of slots [n] under the mixtures softmax(logits)."""
        shares = softmax(logits, dim=1)  # [n, slots + 1]
        mixed = {name: shares[:, :-1] @ table for name, table in self.label_tables.items()}
        images: Tensor = functional_call(self, mixed, (self.network.sample_prior(noise, prior_slots),))
        return images
