"""Proximal steps of penalties that make a network sparse: they have no gradient where a value is zero.

Source: Parikh & Boyd 2014; Scardapane et al. 2017 (group lasso on units).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks.network import Network, PrunableLayer
from worker.learning.units.resize import UnitMask, prunable_layers, scale_incoming
from worker.learning.units.weight_masks import WeightMask

Proximal = Callable[[Network, float], None]  # (network, learning rate): takes a penalty's step, in place


def soft_threshold(trainable: WeightMask, strength: float) -> Proximal:
    """Make the proximal step of an l1 penalty: every trainable value moves towards zero and stops there."""

    def step(network: Network, rate: float) -> None:
        for name, tensor in network.named_parameters():
            nearer = tensor.sign() * (tensor.abs() - rate * strength).clamp(min=0)
            tensor.copy_(torch.where(trainable[name], nearer, tensor))

    return step


def group_lasso(checkpoint: Checkpoint, units: UnitMask, strength: float) -> Proximal:
    """Make the proximal step of a group lasso: the vector of all that enters each unit gets shorter."""
    layers = prunable_layers(checkpoint)

    def step(network: Network, rate: float) -> None:
        parameters = dict(network.named_parameters())
        shorter: dict[str, Tensor] = dict(parameters)
        for layer in layers:
            norms = incoming_norms(parameters, layer)
            factors = (1 - rate * strength / norms.clamp(min=1e-12)).clamp(min=0)
            chosen = units[layer.name].to(norms.device)
            scale_incoming(shorter, layer, torch.where(chosen, factors, torch.ones_like(factors)))
        for name, tensor in parameters.items():
            tensor.copy_(shorter[name])

    return step


def incoming_norms(tensors: Mapping[str, Tensor], layer: PrunableLayer) -> Tensor:
    """Compute the L2 norm of all that enters each unit (weights, bias, label columns), [units]."""
    squares = tensors[f"{layer.name}.weight"].square().flatten(1).sum(dim=1)
    squares = squares + tensors[f"{layer.name}.bias"].square()
    if f"{layer.name}.label" in tensors:
        squares = squares + tensors[f"{layer.name}.label"].square().sum(dim=0)
    return squares.view(-1, layer.rows).sum(dim=1).sqrt()
