"""Make a network sparse: proximal steps of penalties without a gradient at zero, and a threshold.

Source: Parikh & Boyd 2014; Scardapane et al. 2017 (group lasso on units).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks.network import Network, PrunableLayer
from worker.learning.units.resize import UnitMask, prunable_layers, scale_incoming
from worker.learning.units.weight_masks import WeightMask

FIXED_POINT_STEPS = 5  # each shortens the error by about strength / |a_i|, which is small

Proximal = Callable[[Network, float], None]  # (network, learning rate): applies the proximal step, in place


def soft_threshold(trainable: WeightMask, strength: float) -> Proximal:
    """Make the proximal step of an l1 penalty: t <- sign(t) max(0, |t| - rate * strength) where trainable."""

    def step(network: Network, rate: float) -> None:
        for name, tensor in network.named_parameters():
            tensor.copy_(torch.where(trainable[name], shrunk(tensor, rate * strength), tensor))

    return step


def shrunk(values: Tensor, by: float) -> Tensor:
    """Move every value towards zero by `by`, and not past it: sign(t) max(0, |t| - by)."""
    return values.sign() * (values.abs() - by).clamp(min=0)


def shrinkage_beside(anchor: Tensor, norms: Tensor, strength: float) -> Tensor:
    """Compute the factors of the proximal step of sum_i |(a_i, w_i)|_2 in the rows w_i, where a_i is fixed.

    anchor: |a_i|_2; norms: |w_i|_2; both [rows]. The step multiplies w_i by the s >= 0 that minimises
    1/2 (1 - s)^2 |w_i|^2 + strength * sqrt(|a_i|^2 + s^2 |w_i|^2). Where a_i = 0 that is the group lasso's
    max(0, 1 - strength / |w_i|), which can be zero. Elsewhere it is not: an
    iteration solves s = 1 / (1 + strength / |(a_i, s w_i)|).
    """
    of_group = (1 - strength / norms.clamp(min=1e-12)).clamp(min=0)
    factors = torch.ones_like(norms)
    for _ in range(FIXED_POINT_STEPS):
        together = (anchor.square() + (factors * norms).square()).sqrt()
        factors = 1 / (1 + strength / together.clamp(min=1e-12))
    return torch.where(anchor == 0, of_group, factors)


def group_lasso(checkpoint: Checkpoint, units: UnitMask, strength: float) -> Proximal:
    """Make the proximal step of a group lasso on units: v <- max(0, 1 - rate * strength / |v|_2) v.

    v are the incoming weights, biases and label embeddings of one of the `units`."""
    layers = prunable_layers(checkpoint)

    def step(network: Network, rate: float) -> None:
        parameters = dict(network.named_parameters())
        shrunk: dict[str, Tensor] = dict(parameters)
        for layer in layers:
            norms = incoming_norms(parameters, layer)
            factors = (1 - rate * strength / norms.clamp(min=1e-12)).clamp(min=0)
            chosen = units[layer.name].to(norms.device)
            scale_incoming(shrunk, layer, torch.where(chosen, factors, torch.ones_like(factors)))
        for name, tensor in parameters.items():
            tensor.copy_(shrunk[name])

    return step


def incoming_norms(tensors: Mapping[str, Tensor], layer: PrunableLayer) -> Tensor:
    """Compute the l2 norm of the incoming weights, biases and label embeddings of each unit, [units]."""
    rows = [tensors[name] for name in layer.incoming]
    squares = torch.stack([one.square().reshape(len(one), -1).sum(dim=1) for one in rows]).sum(dim=0)
    if f"{layer.name}.label" in tensors:
        squares = squares + tensors[f"{layer.name}.label"].square().sum(dim=0)
    return squares.view(-1, layer.rows_per_unit).sum(dim=1).sqrt()


@torch.no_grad()
def clear_small_embeddings(
    network: Network, checkpoint: Checkpoint, slots: Sequence[int], share: float
) -> None:
    """Set the embeddings of `slots` to zero, in place, but for the fewest units of a layer that hold `share`.

    share: of the sum of their squares, over all slots and units of the layer.
    """
    parameters = dict(network.named_parameters())
    for layer in prunable_layers(checkpoint):
        embeddings = parameters.get(f"{layer.name}.label")
        if embeddings is None:
            continue
        of_unit = embeddings[slots].square().sum(dim=0).view(-1, layer.rows_per_unit).sum(dim=1)
        squares, order = of_unit.sort(descending=True, stable=True)
        held_before = squares.cumsum(0) - squares  # by all larger ones
        kept = torch.zeros_like(of_unit, dtype=torch.bool)
        kept[order] = (held_before < share * squares.sum()) & (squares > 0)
        embeddings[slots] = embeddings[slots] * kept.repeat_interleave(layer.rows_per_unit)
