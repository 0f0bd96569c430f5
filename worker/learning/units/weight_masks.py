"""Masks of a network's parameters, by the units they belong to, and how to keep the others fixed."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks.network import Network
from worker.learning.units.resize import UnitMask, prunable_layers

WeightMask = Mapping[str, Tensor]  # parameter name -> bool, of the parameter's shape


def weights_between(
    network: Network, checkpoint: Checkpoint, units: UnitMask, slots: Sequence[int]
) -> dict[str, Tensor]:
    """Mark the subnetwork of these units: weights between them, biases, and embeddings of `slots`."""
    # parameter name -> bool, along the axis of the units
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    of_labels: dict[str, Tensor] = {}
    for layer in prunable_layers(checkpoint):
        out = units[layer.name].repeat_interleave(layer.rows_per_unit)
        rows |= dict.fromkeys(layer.incoming, out)
        of_labels[f"{layer.name}.label"] = out
        columns[f"{layer.following}.weight"] = units[layer.name].repeat_interleave(layer.columns_per_unit)
    found = {}
    for name, tensor in network.named_parameters():
        if name.endswith(".label"):
            mask = mask_rows(tensor, slots)
            found[name] = mask & of_labels[name] if name in of_labels else mask
            continue
        fixed = name.endswith(".bias") and name not in rows
        mask = empty_mask(tensor) if fixed else ~empty_mask(tensor)
        if name in rows:
            mask = mask & rows[name].view(-1, *[1] * (tensor.dim() - 1))
        if name in columns:
            mask = mask & columns[name].view(1, -1, *[1] * (tensor.dim() - 2))
        found[name] = mask
    return found


def weights_touching(
    network: Network, checkpoint: Checkpoint, units: UnitMask, slots: Sequence[int]
) -> dict[str, Tensor]:
    """Mark all weights of these units: incoming and outgoing ones, biases, and embeddings of `slots`."""
    found = {name: empty_mask(tensor) for name, tensor in network.named_parameters()}
    for layer in prunable_layers(checkpoint):
        chosen = units[layer.name].to(found[f"{layer.name}.bias"].device)
        out, into = (chosen.repeat_interleave(each) for each in (layer.rows_per_unit, layer.columns_per_unit))
        for name in layer.incoming:
            found[name] |= out.view(-1, *[1] * (found[name].dim() - 1))
        outgoing = found[f"{layer.following}.weight"]
        outgoing |= into.view(1, -1, *[1] * (outgoing.dim() - 2))
        if f"{layer.name}.label" in found:
            label = found[f"{layer.name}.label"]
            found[f"{layer.name}.label"] = mask_rows(label, slots) & out
    return found


def mask_rows(tensor: Tensor, chosen: Sequence[int]) -> Tensor:
    """Make a mask of the tensor's shape that is true in the chosen rows."""
    mask = empty_mask(tensor)
    mask[list(chosen)] = True
    return mask


def empty_mask(tensor: Tensor) -> Tensor:
    """Make a mask of the tensor's shape that is false everywhere."""
    return torch.zeros_like(tensor, dtype=torch.bool)


def restore_outside(trainable: WeightMask, network: Network) -> Callable[[], None]:
    """Make a function that sets every value outside the mask back, in place, to what it is now."""
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}

    @torch.no_grad()
    def restore() -> None:
        for name, tensor in network.named_parameters():
            tensor.copy_(torch.where(trainable[name], tensor, before[name]))

    return restore
