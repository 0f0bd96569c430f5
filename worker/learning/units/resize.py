"""Add and remove hidden units: their weights, biases, label embeddings and Fisher information."""

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

LABELS_EXPONENT = 0.2
"""How a width follows the number of labels: 5 to 8 labels add a tenth, as one learn did before."""


class TooWide(ValueError):
    """A layer would exceed its maximum width; the message says by how much."""


def prunable_layers(checkpoint: Checkpoint) -> list[PrunableLayer]:
    """List the hidden layers of the checkpoint's main network, in the order of its widths."""
    return structure_of(checkpoint.spec).prunable_layers()


def width(checkpoint: Checkpoint, layer: PrunableLayer) -> int:
    """Count the units of a hidden layer; a unit of a convolution is a channel."""
    return len(checkpoint.weights[f"{layer.name}.bias"]) // layer.rows_per_unit


def grow(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) units to every hidden layer without changing the function.

    New units have He-normal incoming and zero outgoing weights, so outputs change by rounding errors only,
    and every new parameter has a gradient within two steps: outgoing weights in the first, incoming ones in
    the second. The Fisher information of new parameters is set to 0, which is exact for incoming weights;
    callers that train next recompute it. Source: the paper, section 4.2.2, whose small random outgoing
    weights would change the function. Raises TooWide.
    """
    return grow_by(checkpoint, units_to_add(checkpoint, share), generator)


def grow_by(
    checkpoint: Checkpoint, added: Mapping[PrunableLayer, int], generator: torch.Generator
) -> Checkpoint:
    """Add the given number of units to each hidden layer, as `grow` does. Raises TooWide."""
    check_room(checkpoint, added)
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for layer, units in added.items():
        present = weights[f"{layer.name}.weight"]
        incoming = present.new_empty(units * layer.rows_per_unit, *present.shape[1:])
        incoming.normal_(0.0, math.sqrt(2 / present[0].numel()), generator=generator)
        _append(weights, layer, incoming)
        if fisher is not None:
            _append(fisher, layer, torch.zeros_like(incoming))
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def replicate(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) copies of units to every hidden layer without changing the function.

    A copy has the incoming weights of its original, and so the same activation. The outgoing weights are
    split between a unit and its copies in unequal parts a that sum to 1; with equal parts, training would
    never make the copies different. Outputs change by rounding errors only. The Fisher information is
    transformed
    exactly: the gradient at the activation of a copy is a times that of the original, so F of incoming
    weights is multiplied by a^2; F of outgoing weights does not change, because the activation does not.
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

    The copies come after all other units of the layer, in the order of `units`. The result has no Fisher
    information. Raises TooWide.
    """
    check_room(checkpoint, {layer: len(units[layer.name]) for layer in prunable_layers(checkpoint)})
    weights = dict(checkpoint.weights)
    for layer in prunable_layers(checkpoint):
        chosen, before = units[layer.name], width(checkpoint, layer)
        _select(weights, layer, torch.cat([torch.arange(before), chosen]))
        outgoing = weights[f"{layer.following}.weight"].clone()
        outgoing[:, before * layer.columns_per_unit :] = 0
        weights[f"{layer.following}.weight"] = outgoing
    return _with_widths(replace(checkpoint, weights=weights, fisher=None))


def units_to_add(checkpoint: Checkpoint, share: float) -> dict[PrunableLayer, int]:
    """Count the units that growing by `share` adds to each hidden layer: ceil(share * width)."""
    return {layer: math.ceil(share * width(checkpoint, layer)) for layer in prunable_layers(checkpoint)}


def units_for_labels(checkpoint: Checkpoint, before: int, after: int) -> dict[PrunableLayer, int]:
    """Count the units by which each hidden layer changes as the number of retained labels does; < 0: fewer.

    Each width is multiplied by `width_factor`, and is 1 at least.
    """
    factor, changes = width_factor(before, after), {}
    for layer in prunable_layers(checkpoint):
        present = width(checkpoint, layer)
        changes[layer] = max(1, round(factor * present)) - present
    return changes


def width_factor(before: int, after: int) -> float:
    """Return by what the widths are multiplied as the number of retained labels changes.

    It is (after / before) ** LABELS_EXPONENT: so the width depends on how many labels are retained and not on
    how many jobs it took (docs/decisions/0149).
    """
    return float((after / before) ** LABELS_EXPONENT)


def room(checkpoint: Checkpoint, layer: PrunableLayer) -> int:
    """Count the units that may be added to a layer: 0 if it exceeds a limit that was once higher."""
    return max(0, layer.max_units - width(checkpoint, layer))


def check_room(checkpoint: Checkpoint, added: Mapping[PrunableLayer, int]) -> None:
    """Raise TooWide if a layer has no room for the added units, before memory for them is allocated."""
    for layer, units in added.items():
        if units > room(checkpoint, layer):
            raise TooWide(
                f"{layer.name} would have {width(checkpoint, layer) + units} units, but at most "
                f"{layer.max_units} are allowed; add fewer units, or prune first"
            )


def shrink(checkpoint: Checkpoint, kept: UnitIndices, mean_activation: Mapping[str, Tensor]) -> Checkpoint:
    """Remove the units that are not kept: their weights in and out, biases and label embeddings.

    The mean contribution of the removed units is added to the next bias: b += W_out[:, removed] E[h]. (For a
    kernel, the sum over its positions is used, which is exact except at the padded border.) The Fisher
    information of the remaining weights is selected with the same indices.
    kept: layers that it does not name do not change.
    mean_activation: hidden layer -> E[h] for each of its columns in the following weight, on examples of the
    retained labels: [units], or [units * columns_per_unit] if a unit has several columns.
    """
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for layer in prunable_layers(checkpoint):
        if layer.name not in kept:
            continue
        removed = torch.ones(width(checkpoint, layer), dtype=torch.bool)
        removed[kept[layer.name]] = False
        columns = entries(removed.nonzero().flatten(), layer.columns_per_unit)
        outgoing = weights[f"{layer.following}.weight"][:, columns]
        contribution = torch.einsum("oi...,i->o", outgoing, mean_activation[layer.name][columns])
        weights[f"{layer.following}.bias"] = weights[f"{layer.following}.bias"] + contribution
        _select(weights, layer, kept[layer.name])
        if fisher is not None:
            _select(fisher, layer, kept[layer.name])
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def entries(units: Tensor, each: int) -> Tensor:
    """List the indices of the units' entries along an axis on which each unit has `each` consecutive ones."""
    return (units[:, None] * each + torch.arange(each)).flatten()


def scale_incoming(tensors: dict[str, Tensor], layer: PrunableLayer, factors: Tensor) -> None:
    """Multiply the incoming weights, biases and label embeddings of each unit of a layer by its factor.

    factors: [units]. Replaces tensors in the dictionary; no tensor is changed in place.
    """
    rows = factors.repeat_interleave(layer.rows_per_unit)
    for name in layer.incoming:
        tensors[name] = tensors[name] * rows.reshape(-1, *[1] * (tensors[name].dim() - 1))
    if f"{layer.name}.label" in tensors:
        tensors[f"{layer.name}.label"] = tensors[f"{layer.name}.label"] * rows


def _append(tensors: dict[str, Tensor], layer: PrunableLayer, incoming: Tensor) -> None:
    rows, columns = len(incoming), len(incoming) // layer.rows_per_unit * layer.columns_per_unit
    weight, label = f"{layer.name}.weight", f"{layer.name}.label"
    outgoing = tensors[f"{layer.following}.weight"]
    for name in layer.incoming:
        added = incoming if name == weight else tensors[name].new_zeros(rows, *tensors[name].shape[1:])
        tensors[name] = torch.cat([tensors[name], added])
    if label in tensors:
        tensors[label] = torch.cat([tensors[label], torch.zeros(len(tensors[label]), rows)], dim=1)
    zeros = outgoing.new_zeros(len(outgoing), columns, *outgoing.shape[2:])
    tensors[f"{layer.following}.weight"] = torch.cat([outgoing, zeros], dim=1)


def _select(tensors: dict[str, Tensor], layer: PrunableLayer, kept: Tensor) -> None:
    rows, columns = entries(kept, layer.rows_per_unit), entries(kept, layer.columns_per_unit)
    for name in layer.incoming:
        tensors[name] = tensors[name][rows]
    tensors[f"{layer.following}.weight"] = tensors[f"{layer.following}.weight"][:, columns]
    if f"{layer.name}.label" in tensors:
        tensors[f"{layer.name}.label"] = tensors[f"{layer.name}.label"][:, rows]


def _originals(units: int, copies: int, generator: torch.Generator) -> Tensor:
    """List all units, then the originals of the copies: at random, every unit once before any is repeated."""
    rounds = [torch.randperm(units, generator=generator) for _ in range(math.ceil(copies / units))]
    return torch.cat([torch.arange(units), torch.cat(rounds)[:copies]])


def _unequal_parts(originals: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the part of the original's outgoing weights that each unit gets: unequal parts that sum to 1."""
    drawn = 0.5 + torch.rand(len(originals), generator=generator)
    return drawn / torch.zeros(len(originals)).index_add_(0, originals, drawn)[originals]


def _scale_outgoing(tensors: dict[str, Tensor], layer: PrunableLayer, factors: Tensor) -> None:
    columns, weight = factors.repeat_interleave(layer.columns_per_unit), tensors[f"{layer.following}.weight"]
    tensors[f"{layer.following}.weight"] = weight * columns.reshape(-1, *[1] * (weight.dim() - 2))


def _with_widths(checkpoint: Checkpoint) -> Checkpoint:
    """Set the widths in the spec to those of the weights."""
    layers = prunable_layers(checkpoint)
    widths = {
        side: tuple(width(checkpoint, layer) for layer in layers if layer.name.startswith(side))
        for side in ("encoder", "decoder")
    }
    spec = replace(checkpoint.spec, encoder_widths=widths["encoder"], decoder_widths=widths["decoder"])
    return replace(checkpoint, spec=spec)
