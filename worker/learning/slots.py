"""Label slots: room for new labels, emptied before a label returns."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label, Status


class LabelConflict(ValueError):
    """A label is held already, or is not held."""


def with_slots(checkpoint: Checkpoint, names: Sequence[str], dataset: str, status: Status) -> Checkpoint:
    """The checkpoint with an empty slot a name: new ones appended, a forgotten label's own one emptied.

    An empty slot has zero label columns, zero Fisher and the prior N(0, I): nothing of an earlier life stays.
    Raises LabelConflict for a label that is held.
    """
    again = set(names) & {label.name for label in checkpoint.labels}
    held = sorted(again & set(checkpoint.held))
    if held:
        raise LabelConflict(f"already learnt: {held}")
    fresh = [name for name in names if name not in again]
    spec = replace(checkpoint.spec, slots=checkpoint.spec.slots + len(fresh))
    emptied = [checkpoint.label(name).slot for name in sorted(again)]
    labels = [
        replace(one, status=status, dataset=dataset, generation=one.generation + 1, renamed_from=None)
        if one.name in again
        else one
        for one in checkpoint.labels
    ]
    labels += [
        Label(name, checkpoint.spec.slots + index, dataset, status) for index, name in enumerate(fresh)
    ]
    weights = {
        name: _with_rows(name, tensor, len(fresh), emptied) for name, tensor in checkpoint.weights.items()
    }
    fisher = checkpoint.fisher and {
        name: _with_rows(name, tensor, len(fresh), emptied) for name, tensor in checkpoint.fisher.items()
    }
    return replace(checkpoint, spec=spec, weights=weights, labels=tuple(labels), fisher=fisher)


def with_labels(checkpoint: Checkpoint, names: Sequence[str], dataset: str) -> Checkpoint:
    """With a slot for each label to be learnt for good, which starts amid those held; see `with_slots`.

    There the network works; zero columns may be far from it (docs/decisions/0051).
    """
    after = with_slots(checkpoint, names, dataset, "permanent")
    return amid(after, [after.held[name] for name in names], checkpoint.held.values())


def amid(checkpoint: Checkpoint, slots: Sequence[int], others: Collection[int]) -> Checkpoint:
    """With the mean of the other slots' label columns in `slots`; itself where there are no others."""
    if not others:
        return checkpoint
    weights = dict(checkpoint.weights)
    for name in filter(_is_columns, weights):
        weights[name] = weights[name].clone()
        weights[name][slots] = weights[name][sorted(others)].mean(dim=0)
    return replace(checkpoint, weights=weights)


def in_slots_of(head: Checkpoint, ancestor: Checkpoint) -> Checkpoint:
    """The ancestor's network with as many slots as the head's, the further ones empty, and the head's labels.

    A label keeps its slot for life, so the slots that both have mean the same.
    """
    fresh = head.spec.slots - ancestor.spec.slots
    weights = {name: _with_rows(name, tensor, fresh, []) for name, tensor in ancestor.weights.items()}
    spec = replace(ancestor.spec, slots=head.spec.slots)
    return replace(head, spec=spec, weights=weights, fisher=None)


def placed(isolated: Checkpoint, slot: int, slots: int) -> Checkpoint:
    """The isolated network with its only label at `slot` of `slots`, where another network has it."""
    weights = dict(isolated.weights)
    for name, tensor in isolated.weights.items():
        if _has_slots(name):
            weights[name] = _with_rows(name, tensor[:0], slots, [])
            weights[name][slot] = tensor[0]
    labels = tuple(replace(label, slot=slot) for label in isolated.labels)
    return replace(isolated, spec=replace(isolated.spec, slots=slots), weights=weights, labels=labels)


def _has_slots(name: str) -> bool:
    """Whether the slot is the first axis of the tensor."""
    return _is_columns(name) or name.startswith("prior_")


def _is_columns(name: str) -> bool:
    return name.endswith(".label")


def _with_rows(name: str, tensor: Tensor, fresh: int, emptied: Sequence[int]) -> Tensor:
    if not _has_slots(name):
        return tensor
    empty = torch.eye(tensor.shape[-1]) if name == "prior_scale" else torch.zeros(tensor.shape[1:])
    grown = torch.cat([tensor, empty.expand(fresh, *tensor.shape[1:])])
    for slot in emptied:
        grown[slot] = empty
    return grown
