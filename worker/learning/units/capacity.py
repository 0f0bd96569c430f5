"""Measure how much of a network's capacity is used, on its own draws of the labels it retains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Spec
from worker.learning.networks import ARCHITECTURES
from worker.learning.networks.network import LayerCall, Network, PrunableLayer
from worker.learning.replay_losses import latents_of
from worker.learning.strategy import Batch
from worker.learning.units.removal import Curvature
from worker.learning.units.targeted_dropout import by_column

IDLE = 1e-3  # nats per example: a unit whose removal costs less is idle
DENSITY = 0.3  # effective rank for each hidden unit that a network needs
Reserve = Annotated[
    float,
    Field(
        ge=0,
        le=10,
        description="Hidden units kept for later learning, as a share of the units of the architecture's "
        "default network.",
    ),
]


@dataclass(frozen=True)
class Capacity:
    """The used capacity of each hidden layer of a network."""

    widths: Mapping[str, int]
    effective_rank: Mapping[str, float]  # directions in which activations vary, 1 ... width
    idle_units: Mapping[str, int]  # units whose removal, by itself, is predicted to cost less than IDLE

    @property
    def units(self) -> int:
        """All hidden units of the network."""
        return sum(self.widths.values())

    @property
    def rank(self) -> float:
        """The sum of the layers' effective ranks."""
        return sum(self.effective_rank.values())


def measure_capacity(network: Network, batches: Sequence[Batch], curvature: Curvature) -> Capacity:
    """Measure the used capacity on `batches`, the same draws of the retained labels as the curvature."""
    widths = curvature.widths
    layers = zip(widths, torch.split(curvature.removal_costs, list(widths.values())), strict=True)
    return Capacity(
        widths=widths,
        effective_rank=effective_ranks(network, batches),
        idle_units={layer: int((cost < IDLE).sum()) for layer, cost in layers},
    )


def units_needed(rank: float, spec: Spec, *, reserve: float, density: float = DENSITY) -> int:
    """Compute the hidden units that a network of that rank needs: rank / density + reserve * default units.

    Source: our measurements (docs/decisions/0008).
    """
    return math.ceil(rank / density + reserve * default_units(spec))


def default_units(spec: Spec) -> int:
    """Count the hidden units of the architecture's default network."""
    defaults = ARCHITECTURES[spec.architecture].Params().model_dump()
    return int(sum(defaults["encoder_widths"]) + sum(defaults["decoder_widths"]))


def effective_ranks(network: Network, batches: Sequence[Batch]) -> dict[str, float]:
    """Compute the effective rank of every hidden layer's activations on the draws in `batches`."""
    return {layer: effective_rank(one) for layer, one in covariances(network, batches).items()}


def effective_rank(covariance: Tensor) -> float:
    """Compute exp(H(p)), with p the shares of the variance along the principal axes and H the entropy.

    covariance: [units, units]. Returns a value in [1, units]; 1 if no unit varies. The rank depends on the
    function rather than on the width: networks of real digits that were pruned by a quarter and trained to
    match kept their rank within 4 %. It fell when labels were forgotten and rose when they were learnt again.
    Source: Roy & Vetterli 2007, on variances instead of singular values.
    """
    variances = torch.linalg.eigvalsh(covariance).clamp(min=0)
    if variances.sum() == 0:
        return 1.0
    entropy = torch.special.entr(variances / variances.sum()).sum()
    return float(entropy.exp())


def covariances(network: Network, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Compute the covariance of every hidden layer's units over examples, and over positions of a channel.

    Each is [units, units], float64, on the CPU. batches: replayed images with their latents.
    """
    moments: dict[str, Tensor] = {}
    with torch.no_grad():
        for batch in batches:
            calls: list[LayerCall] = []
            network.encode(batch.images, batch.slots, calls=calls)
            network.decode(latents_of(batch), batch.slots, calls=calls)
            inputs = {call.layer: call.inputs for call in calls}
            for layer in network.prunable_layers():
                values = _with_ones(_by_unit(layer, inputs[layer.following]).cpu().double())
                moments[layer.name] = moments.get(layer.name, 0) + values.T @ values
    return {layer: _covariance(moment) for layer, moment in moments.items()}


def _by_unit(layer: PrunableLayer, inputs: Tensor) -> Tensor:
    """Reshape the following layer's input to [examples * entries of a unit, units]."""
    values = by_column(inputs)  # [batch, columns, positions]
    entries = values.reshape(len(values), -1, layer.columns_per_unit * values.shape[2])
    return entries.transpose(1, 2).flatten(0, 1)


def _with_ones(values: Tensor) -> Tensor:
    """Append a column of ones, [n, units] -> [n, units + 1], so that the second moments give the mean too."""
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def _covariance(moment: Tensor) -> Tensor:
    """Compute the covariance from sum [h 1]'[h 1]."""
    mean = moment[:-1, -1] / moment[-1, -1]
    return moment[:-1, :-1] / moment[-1, -1] - torch.outer(mean, mean)
