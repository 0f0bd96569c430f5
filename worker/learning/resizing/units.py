"""Adding and removing hidden units, with all that is kept per unit: weights, label columns and Fisher."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import outline
from worker.learning.networks.network import Seam

Kept = Mapping[str, Tensor]  # hidden layer -> sorted indices of the units that stay


class TooWide(ValueError):
    """The network would grow beyond what the service offers; the message says by how much."""


def seams_of(checkpoint: Checkpoint) -> list[Seam]:
    """The hidden layers of the checkpoint's network, each with the layer its units feed."""
    return outline(checkpoint.spec).seams()


def width(checkpoint: Checkpoint, seam: Seam) -> int:
    """The units of a hidden layer: of a convolution, its channels."""
    return len(checkpoint.weights[f"{seam.layer}.bias"]) // seam.rows


def grow(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) units to every hidden layer without changing the function.

    New units have He-normal incoming and zero outgoing weights, so outputs change by rounding only, and every
    new parameter has gradient within two steps: outgoing weights at the first, incoming ones at the second.
    The Fisher of new parameters is set to 0, which is exact for incoming weights; callers that train next
    take it anew. Paper: section 4.2.2, whose small random outgoing weights would change the function.
    Raises TooWide.
    """
    return grow_by(checkpoint, added(checkpoint, share), generator)


def grow_by(checkpoint: Checkpoint, extra: Mapping[Seam, int], generator: torch.Generator) -> Checkpoint:
    """As `grow`, by so many units for each hidden layer. Raises TooWide."""
    check_room(checkpoint, extra)
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for seam, units in extra.items():
        incoming = weights[f"{seam.layer}.weight"]
        fresh = incoming.new_empty(units * seam.rows, *incoming.shape[1:])
        fresh.normal_(0.0, math.sqrt(2 / incoming[0].numel()), generator=generator)
        _append(weights, seam, fresh)
        if fisher is not None:
            _append(fisher, seam, torch.zeros_like(fresh))
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def replicate(checkpoint: Checkpoint, share: float, generator: torch.Generator) -> Checkpoint:
    """Add ceil(share * width) copies of units to every hidden layer without changing the function: Net2Net.

    A copy has its original's incoming weights, so its activation; the outgoing weights are split among a unit
    and its copies, in unequal parts a that sum to 1 (equal ones would keep copies equal for ever). Outputs
    change by rounding only. The Fisher follows exactly: the gradient at a copy's activation is a times the
    original's, so F_in becomes a^2 F_in; h is the same, so F_out stays.
    Source: Chen et al. 2016 (Net2WiderNet). Raises TooWide.
    """
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    extra = added(checkpoint, share)
    check_room(checkpoint, extra)
    for seam, units in extra.items():
        originals = _spread(width(checkpoint, seam), units, generator)
        parts = _parts(originals, generator)
        _select(weights, seam, originals)
        _scale_outgoing(weights, seam, parts)
        if fisher is not None:
            _select(fisher, seam, originals)
            scale_incoming(fisher, seam, parts.square())
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def duplicate(checkpoint: Checkpoint, units: Kept) -> Checkpoint:
    """Add a copy of each of these units, with its incoming weights and no outgoing ones; no Fisher is kept.

    units: hidden layer -> indices. The copies come behind all units of the layer, in that order.
    Raises TooWide.
    """
    check_room(checkpoint, {seam: len(units[seam.layer]) for seam in seams_of(checkpoint)})
    weights = dict(checkpoint.weights)
    for seam in seams_of(checkpoint):
        chosen, before = units[seam.layer], width(checkpoint, seam)
        _select(weights, seam, torch.cat([torch.arange(before), chosen]))
        outgoing = weights[f"{seam.following}.weight"].clone()
        outgoing[:, before * seam.columns :] = 0
        weights[f"{seam.following}.weight"] = outgoing
    return _with_widths(replace(checkpoint, weights=weights, fisher=None))


def added(checkpoint: Checkpoint, share: float) -> dict[Seam, int]:
    """How many units a growth by `share` adds to each hidden layer."""
    return {seam: math.ceil(share * width(checkpoint, seam)) for seam in seams_of(checkpoint)}


def room(checkpoint: Checkpoint, seam: Seam) -> int:
    """How many units more a hidden layer may have; none where it grew under an older limit."""
    return max(0, seam.most - width(checkpoint, seam))


def check_room(checkpoint: Checkpoint, extra: Mapping[Seam, int]) -> None:
    """Raises TooWide where a hidden layer has no room for so many units more, before they take memory."""
    for seam, units in extra.items():
        if units > room(checkpoint, seam):
            raise TooWide(
                f"{seam.layer} would have {width(checkpoint, seam) + units} units, and {seam.most} is the "
                f"most; ask for fewer units to be added, or prune first"
            )


def shrink(checkpoint: Checkpoint, kept: Kept, mean_activation: Mapping[str, Tensor]) -> Checkpoint:
    """Remove the units that are not kept: their incoming row, bias, label column and outgoing column.

    What a removed unit contributed on average is folded into the next bias: b += W_out[:, removed] @ E[h]
    (of a kernel, the sum of its entries: exact but for the padded border).
    The weights that stay, so compensated, are the new anchor; their Fisher is selected with the same indices.
    mean_activation: hidden layer -> E[h] of each of its columns in the following layer, [units] where a unit
    has one, on what is to be retained.
    """
    weights = dict(checkpoint.weights)
    fisher = None if checkpoint.fisher is None else dict(checkpoint.fisher)
    for seam in seams_of(checkpoint):
        if seam.layer not in kept:
            continue
        removed = torch.ones(width(checkpoint, seam), dtype=torch.bool)
        removed[kept[seam.layer]] = False
        columns = entries(removed.nonzero().flatten(), seam.columns)
        outgoing, mean = weights[f"{seam.following}.weight"][:, columns], mean_activation[seam.layer][columns]
        contribution = torch.einsum("oi...,i->o", outgoing, mean)
        weights[f"{seam.following}.bias"] = weights[f"{seam.following}.bias"] + contribution
        _select(weights, seam, kept[seam.layer])
        if fisher is not None:
            _select(fisher, seam, kept[seam.layer])
    return _with_widths(replace(checkpoint, weights=weights, fisher=fisher))


def entries(units: Tensor, each: int) -> Tensor:
    """The indices along an axis on which every unit has `each` consecutive entries."""
    return (units[:, None] * each + torch.arange(each)).flatten()


def scale_incoming(tensors: dict[str, Tensor], seam: Seam, factors: Tensor) -> None:
    """Replace all that enters the units of a layer by itself times the unit's factor, [units]."""
    rows, weight = factors.repeat_interleave(seam.rows), tensors[f"{seam.layer}.weight"]
    tensors[f"{seam.layer}.weight"] = weight * rows.reshape(-1, *[1] * (weight.dim() - 1))
    tensors[f"{seam.layer}.bias"] = tensors[f"{seam.layer}.bias"] * rows
    if f"{seam.layer}.label" in tensors:
        tensors[f"{seam.layer}.label"] = tensors[f"{seam.layer}.label"] * rows


def _append(tensors: dict[str, Tensor], seam: Seam, incoming: Tensor) -> None:
    rows, columns = len(incoming), len(incoming) // seam.rows * seam.columns
    weight, bias, label = f"{seam.layer}.weight", f"{seam.layer}.bias", f"{seam.layer}.label"
    outgoing = tensors[f"{seam.following}.weight"]
    tensors[weight] = torch.cat([tensors[weight], incoming])
    tensors[bias] = torch.cat([tensors[bias], torch.zeros(rows)])
    if label in tensors:
        tensors[label] = torch.cat([tensors[label], torch.zeros(len(tensors[label]), rows)], dim=1)
    silent = outgoing.new_zeros(len(outgoing), columns, *outgoing.shape[2:])
    tensors[f"{seam.following}.weight"] = torch.cat([outgoing, silent], dim=1)


def _select(tensors: dict[str, Tensor], seam: Seam, kept: Tensor) -> None:
    rows, columns = entries(kept, seam.rows), entries(kept, seam.columns)
    tensors[f"{seam.layer}.weight"] = tensors[f"{seam.layer}.weight"][rows]
    tensors[f"{seam.layer}.bias"] = tensors[f"{seam.layer}.bias"][rows]
    tensors[f"{seam.following}.weight"] = tensors[f"{seam.following}.weight"][:, columns]
    if f"{seam.layer}.label" in tensors:
        tensors[f"{seam.layer}.label"] = tensors[f"{seam.layer}.label"][:, rows]


def _spread(units: int, extra: int, generator: torch.Generator) -> Tensor:
    """Every unit, then the originals of `extra` copies: at random, none again before all had a turn."""
    turns = [torch.randperm(units, generator=generator) for _ in range(math.ceil(extra / units))]
    return torch.cat([torch.arange(units), torch.cat(turns)[:extra]])


def _parts(originals: Tensor, generator: torch.Generator) -> Tensor:
    """The part of its original's outgoing weights that each unit gets: unequal, 1 in all, 1 where alone."""
    drawn = 0.5 + torch.rand(len(originals), generator=generator)
    return drawn / torch.zeros(len(originals)).index_add_(0, originals, drawn)[originals]


def _scale_outgoing(tensors: dict[str, Tensor], seam: Seam, factors: Tensor) -> None:
    columns, weight = factors.repeat_interleave(seam.columns), tensors[f"{seam.following}.weight"]
    tensors[f"{seam.following}.weight"] = weight * columns.reshape(-1, *[1] * (weight.dim() - 2))


def _with_widths(checkpoint: Checkpoint) -> Checkpoint:
    """The spec says what the weights are."""
    widths = {
        side: tuple(width(checkpoint, seam) for seam in seams_of(checkpoint) if seam.layer.startswith(side))
        for side in ("encoder", "decoder")
    }
    spec = replace(checkpoint.spec, encoder_widths=widths["encoder"], decoder_widths=widths["decoder"])
    return replace(checkpoint, spec=spec)
