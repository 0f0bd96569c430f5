"""Proximal steps of penalties that make a network sparse; these penalties have no gradient at zero.

Source: Parikh & Boyd 2014; Scardapane et al. 2017 (group lasso on units).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks.network import Network, PrunableLayer
from worker.learning.units.resize import UnitMask, prunable_layers, scale_incoming
from worker.learning.units.weight_masks import WeightMask

Proximal = Callable[[Network, float], None]  # (network, learning rate): applies the proximal step, in place


def soft_threshold(trainable: WeightMask, strength: float) -> Proximal:
    """Make the proximal step of an l1 penalty: t <- sign(t) max(0, |t| - rate * strength) where trainable."""

    def step(network: Network, rate: float) -> None:
        for name, tensor in network.named_parameters():
            nearer = tensor.sign() * (tensor.abs() - rate * strength).clamp(min=0)
            tensor.copy_(torch.where(trainable[name], nearer, tensor))

    return step


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
    squares = tensors[f"{layer.name}.weight"].square().flatten(1).sum(dim=1)
    squares = squares + tensors[f"{layer.name}.bias"].square()
    if f"{layer.name}.label" in tensors:
        squares = squares + tensors[f"{layer.name}.label"].square().sum(dim=0)
    return squares.view(-1, layer.rows_per_unit).sum(dim=1).sqrt()
