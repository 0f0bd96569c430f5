"""How full a network is: what its hidden units do on its own draws of the labels it holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.checkpoint import Spec
from worker.learning.networks import ARCHITECTURES
from worker.learning.networks.network import Network, Seam, Use
from worker.learning.resizing.targeted_dropout import by_column
from worker.learning.resizing.taylor import Curvature
from worker.learning.strategy import Batch

IDLE = 1e-3  # nats an example: a unit whose removal costs less does nothing
DENSITY = 0.3  # of the effective rank, that a hidden unit can carry
RESERVE = 0.45  # room for what is learnt next, as a share of the architecture's default width


@dataclass(frozen=True)
class Capacity:
    """The signals of a network, hidden layer -> figure."""

    widths: Mapping[str, int]
    effective_rank: Mapping[str, float]  # the directions in which a layer's activations vary, 1 ... width
    idle_units: Mapping[str, int]  # units whose removal, alone, is predicted to cost less than IDLE

    @property
    def units(self) -> int:
        return sum(self.widths.values())

    @property
    def rank(self) -> float:
        return sum(self.effective_rank.values())


def capacity(network: Network, batches: Sequence[Batch], around: Curvature) -> Capacity:
    """The signals on `batches`, the draws of the labels held that `around` was taken on."""
    layers = zip(around.widths, torch.split(around.alone, list(around.widths.values())), strict=True)
    return Capacity(
        widths=around.widths,
        effective_rank=effective_ranks(network, batches),
        idle_units={layer: int((cost < IDLE).sum()) for layer, cost in layers},
    )


def units_needed(rank: float, spec: Spec, *, density: float = DENSITY, reserve: float = RESERVE) -> int:
    """The hidden units below which a network of that rank is tight (docs/decisions/0008)."""
    return math.ceil(rank / density + reserve * usual_units(spec))


def usual_units(spec: Spec) -> int:
    """The hidden units of the architecture's default network."""
    usual = ARCHITECTURES[spec.architecture].Params().model_dump()
    return int(sum(usual["encoder_widths"]) + sum(usual["decoder_widths"]))


def effective_ranks(network: Network, batches: Sequence[Batch]) -> dict[str, float]:
    """The effective rank of every hidden layer's activations on the draws in `batches`."""
    return {layer: effective_rank(one) for layer, one in covariances(network, batches).items()}


def effective_rank(covariance: Tensor) -> float:
    """exp(H(p)), p the variances along the principal directions as shares of their sum, in 1 ... units.

    covariance: [units, units]; of units that never vary the rank is 1. It follows the function, not the
    width: networks of real digits, pruned by a quarter and trained to match, kept their rank within 4 %; it
    fell as labels were forgotten and rose again.
    Source: Roy & Vetterli 2007, on variances instead of singular values.
    """
    variances = torch.linalg.eigvalsh(covariance).clamp(min=0)
    if variances.sum() == 0:
        return 1.0
    entropy = torch.special.entr(variances / variances.sum()).sum()
    return float(entropy.exp())


def covariances(network: Network, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Of every hidden layer's units over the examples (and places), [units, units] float64 on the CPU."""
    moments: dict[str, Tensor] = {}
    with torch.no_grad():
        for batch in batches:
            if batch.latents is None:
                raise ValueError("the decoder's activations need the latents the images were drawn from")
            uses: list[Use] = []
            network.encode(batch.images, batch.slots, uses=uses)
            network.decode(batch.latents, batch.slots, uses=uses)
            entered = {use.layer: use.entered for use in uses}
            for seam in network.seams():
                one = with_one(by_unit(seam, entered[seam.following]).cpu().double())
                moments[seam.layer] = moments.get(seam.layer, 0) + one.T @ one
    return {layer: central(moment) for layer, moment in moments.items()}


def by_unit(seam: Seam, entered: Tensor) -> Tensor:
    """What the following layer receives as [examples * entries of a unit, units]."""
    values = by_column(entered)  # [batch, columns, places]
    entries = values.reshape(len(values), -1, seam.columns * values.shape[2])
    return entries.transpose(1, 2).flatten(0, 1)


def with_one(values: Tensor) -> Tensor:
    """[n, units] -> [n, units + 1], the last column 1: its second moments are all that a covariance needs."""
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def central(moment: Tensor) -> Tensor:
    """The covariance from sum [h 1]'[h 1]."""
    mean = moment[:-1, -1] / moment[-1, -1]
    return moment[:-1, :-1] / moment[-1, -1] - torch.outer(mean, mean)
