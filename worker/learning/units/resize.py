"""Adds and removes hidden units with all that is stored per unit: weights, label columns, Fisher."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import structure_of
from worker.learning.networks.network import PrunableLayer

UnitIndices = Mapping[str, Tensor]  # hidden layer -> sorted indices of units
UnitMask = Mapping[str, Tensor]  # hidden layer -> bool [units]


class TooWide(ValueError):
    """A layer would become wider than the service allows; the message says by how much."""


def prunable_layers(checkpoint: Checkpoint) -> list[PrunableLayer]:
    """List the hidden layers of the checkpoint's main network, in the order of its widths."""
    return structure_of(checkpoint.spec).prunable_layers()


def width(checkpoint: Checkpoint, layer: PrunableLayer) -> int:
    """Count the units of a hidden layer; a unit of a convolution is a channel."""
    return len(checkpoint.weights[f"{layer.name}.bias"]) // layer.rows


def grow(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) units to every hidden layer without changing the function.

    New units have He-normal incoming weights and zero outgoing ones, so outputs change by rounding alone, and
    every new parameter has a gradient within two steps: outgoing weights at the first, incoming ones at the
    second. The Fisher information of new parameters is set to 0, which is exact for incoming weights; callers
    that train next compute it anew. Source: the paper, section 4.2.2, whose small random outgoing weights
    would change the function. Raises TooWide.
    """
    return grow_by(checkpoint, units_to_add(checkpoint, share), generator)


def grow_by(
    checkpoint: Checkpoint, added: Mapping[PrunableLayer, int], generator: torch.Generator
) -> Checkpoint:
    """Add that many units to each hidden layer, as `grow` does. Raises TooWide."""
    check_room(checkpoint, added)
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for layer, units in added.items():
        present = weights[f"{layer.name}.weight"]
        incoming = present.new_empty(units * layer.rows, *present.shape[1:])
        incoming.normal_(0.0, math.sqrt(2 / present[0].numel()), generator=generator)
        _append(weights, layer, incoming)
        if fisher is not None:
            _append(fisher, layer, torch.zeros_like(incoming))
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def replicate(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) copies of units to every hidden layer without changing the function.

    A copy has its original's incoming weights, hence its activation. The outgoing weights are split between a
    unit and its copies in unequal parts a that sum to 1; equal parts would keep the copies equal for good.
    Outputs change by rounding alone. The Fisher information follows exactly: the gradient at a copy's
    activation is a times the original's, so F_in becomes a^2 F_in; the activation stays, and so does F_out.
    Source: Chen et al. 2016 (Net2WiderNet, arXiv:1511.05641). Raises TooWide.
    """
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    added = units_to_add(checkpoint, share)
    check_room(checkpoint, added)
    for layer, units in added.items():
        originals = _originals(width(checkpoint, layer), units, generator)
        parts = _unequal_parts(originals, generator)
        _select(weights, layer, originals)
        _scale_outgoing(weights, layer, parts)
        if fisher is not None:
            _select(fisher, layer, originals)
            scale_incoming(fisher, layer, parts.square())
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def duplicate(checkpoint: Checkpoint, units: UnitIndices) -> Checkpoint:
    """Add a copy of each of these units, with its incoming weights and zero outgoing ones.

    The copies stand behind all units of the layer, in the order of `units`. The result has no Fisher
    information. Raises TooWide.
    """
    check_room(checkpoint, {layer: len(units[layer.name]) for layer in prunable_layers(checkpoint)})
    weights = dict(checkpoint.weights)
    for layer in prunable_layers(checkpoint):
        chosen, before = units[layer.name], width(checkpoint, layer)
        _select(weights, layer, torch.cat([torch.arange(before), chosen]))
        outgoing = weights[f"{layer.following}.weight"].clone()
        outgoing[:, before * layer.columns :] = 0
        weights[f"{layer.following}.weight"] = outgoing
    return _with_widths(replace(checkpoint, weights=weights, fisher=None))


def units_to_add(checkpoint: Checkpoint, share: float) -> dict[PrunableLayer, int]:
    """Count the units that a growth by `share` adds to each hidden layer: ceil(share * width)."""
    return {layer: math.ceil(share * width(checkpoint, layer)) for layer in prunable_layers(checkpoint)}


def room(checkpoint: Checkpoint, layer: PrunableLayer) -> int:
    """Count the units that may still be added to a layer: none if it grew under an older, higher limit."""
    return max(0, layer.max_units - width(checkpoint, layer))


def check_room(checkpoint: Checkpoint, added: Mapping[PrunableLayer, int]) -> None:
    """Raise TooWide if a layer has no room for that many units more, before they take memory."""
    for layer, units in added.items():
        if units > room(checkpoint, layer):
            raise TooWide(
                f"{layer.name} would have {width(checkpoint, layer) + units} units, and {layer.max_units} is "
                f"the most; add fewer units, or prune first"
            )


def shrink(checkpoint: Checkpoint, kept: UnitIndices, mean_activation: Mapping[str, Tensor]) -> Checkpoint:
    """Remove the units that are not kept: their incoming weights, biases, label columns and outgoing weights.

    What a removed unit contributed on average is added to the next bias: b += W_out[:, removed] E[h]. (Of a
    kernel, the sum of its entries is used, which is exact but at the padded border.) The remaining weights,
    so compensated, are the new anchor, and their Fisher information is selected with the same indices.
    kept: a layer that it does not name stays as it is.
    mean_activation: hidden layer -> E[h] of each of its columns in the following layer, on the examples to
    retain: [units], or [units * columns] where a unit has several.
    """
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for layer in prunable_layers(checkpoint):
        if layer.name not in kept:
            continue
        removed = torch.ones(width(checkpoint, layer), dtype=torch.bool)
        removed[kept[layer.name]] = False
        columns = entries(removed.nonzero().flatten(), layer.columns)
        outgoing = weights[f"{layer.following}.weight"][:, columns]
        contribution = torch.einsum("oi...,i->o", outgoing, mean_activation[layer.name][columns])
        weights[f"{layer.following}.bias"] = weights[f"{layer.following}.bias"] + contribution
        _select(weights, layer, kept[layer.name])
        if fisher is not None:
            _select(fisher, layer, kept[layer.name])
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def entries(units: Tensor, each: int) -> Tensor:
    """List the indices of the units' entries along an axis where every unit has `each` consecutive ones."""
    return (units[:, None] * each + torch.arange(each)).flatten()


def scale_incoming(tensors: dict[str, Tensor], layer: PrunableLayer, factors: Tensor) -> None:
    """Multiply everything that enters each unit of a layer (weights, bias, label columns) by its factor.

    factors: [units]. Replaces the tensors of the dictionary; none is changed in place.
    """
    rows, weight = factors.repeat_interleave(layer.rows), tensors[f"{layer.name}.weight"]
    tensors[f"{layer.name}.weight"] = weight * rows.reshape(-1, *[1] * (weight.dim() - 1))
    tensors[f"{layer.name}.bias"] = tensors[f"{layer.name}.bias"] * rows
    if f"{layer.name}.label" in tensors:
        tensors[f"{layer.name}.label"] = tensors[f"{layer.name}.label"] * rows


def _append(tensors: dict[str, Tensor], layer: PrunableLayer, incoming: Tensor) -> None:
    rows, columns = len(incoming), len(incoming) // layer.rows * layer.columns
    weight, bias, label = f"{layer.name}.weight", f"{layer.name}.bias", f"{layer.name}.label"
    outgoing = tensors[f"{layer.following}.weight"]
    tensors[weight] = torch.cat([tensors[weight], incoming])
    tensors[bias] = torch.cat([tensors[bias], torch.zeros(rows)])
    if label in tensors:
        tensors[label] = torch.cat([tensors[label], torch.zeros(len(tensors[label]), rows)], dim=1)
    zeros = outgoing.new_zeros(len(outgoing), columns, *outgoing.shape[2:])
    tensors[f"{layer.following}.weight"] = torch.cat([outgoing, zeros], dim=1)


def _select(tensors: dict[str, Tensor], layer: PrunableLayer, kept: Tensor) -> None:
    rows, columns = entries(kept, layer.rows), entries(kept, layer.columns)
    tensors[f"{layer.name}.weight"] = tensors[f"{layer.name}.weight"][rows]
    tensors[f"{layer.name}.bias"] = tensors[f"{layer.name}.bias"][rows]
    tensors[f"{layer.following}.weight"] = tensors[f"{layer.following}.weight"][:, columns]
    if f"{layer.name}.label" in tensors:
        tensors[f"{layer.name}.label"] = tensors[f"{layer.name}.label"][:, rows]


def _originals(units: int, copies: int, generator: torch.Generator) -> Tensor:
    """List every unit, then the originals of the copies: at random, each unit once before any is repeated."""
    rounds = [torch.randperm(units, generator=generator) for _ in range(math.ceil(copies / units))]
    return torch.cat([torch.arange(units), torch.cat(rounds)[:copies]])


def _unequal_parts(originals: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the part of the original's outgoing weights that each unit gets: unequal parts, 1 in all."""
    drawn = 0.5 + torch.rand(len(originals), generator=generator)
    return drawn / torch.zeros(len(originals)).index_add_(0, originals, drawn)[originals]


def _scale_outgoing(tensors: dict[str, Tensor], layer: PrunableLayer, factors: Tensor) -> None:
    columns, weight = factors.repeat_interleave(layer.columns), tensors[f"{layer.following}.weight"]
    tensors[f"{layer.following}.weight"] = weight * columns.reshape(-1, *[1] * (weight.dim() - 2))


def _with_widths(checkpoint: Checkpoint) -> Checkpoint:
    """Set the spec's widths to those of the weights."""
    layers = prunable_layers(checkpoint)
    widths = {
        side: tuple(width(checkpoint, layer) for layer in layers if layer.name.startswith(side))
        for side in ("encoder", "decoder")
    }
    spec = replace(checkpoint.spec, encoder_widths=widths["encoder"], decoder_widths=widths["decoder"])
    return replace(checkpoint, spec=spec)
