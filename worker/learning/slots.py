"""Label slots: the index of a label in every label embedding table and prior of a network."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label, Spec, Status
from worker.learning.mixtures import empty_priors
from worker.learning.networks.network import PRIORS


class LabelConflict(ValueError):
    """A label is learnt already, or is not temporary where the operation needs a temporary one."""


def with_slots(checkpoint: Checkpoint, names: Sequence[str], dataset: str, status: Status) -> Checkpoint:
    """Return the checkpoint with an empty slot for each name: a new slot, or the one it had before.

    An empty slot has zero label embeddings, zero Fisher information and the prior N(0, I), so that a label
    that is learnt again inherits nothing. Raises LabelConflict for a label that is learnt already.
    """
    returning = set(names) & {label.name for label in checkpoint.labels}
    learnt = sorted(returning & set(checkpoint.retained))
    if learnt:
        raise LabelConflict(f"already learnt: {learnt}")
    new = [name for name in names if name not in returning]
    spec = replace(checkpoint.spec, slots=checkpoint.spec.slots + len(new))
    emptied = [checkpoint.label(name).slot for name in sorted(returning)]
    labels = [
        replace(one, status=status, dataset=dataset, generation=one.generation + 1, renamed_from=None)
        if one.name in returning
        else one
        for one in checkpoint.labels
    ]
    labels += [Label(name, checkpoint.spec.slots + index, dataset, status) for index, name in enumerate(new)]
    weights = {
        name: _with_rows(name, tensor, spec, len(new), emptied) for name, tensor in checkpoint.weights.items()
    }
    fisher = checkpoint.fisher and {
        name: _with_rows(name, tensor, spec, len(new), emptied) for name, tensor in checkpoint.fisher.items()
    }
    return replace(checkpoint, spec=spec, weights=weights, labels=tuple(labels), fisher=fisher)


def with_new_labels(checkpoint: Checkpoint, names: Sequence[str], dataset: str) -> Checkpoint:
    """Return the checkpoint with a slot for each label to learn permanently, ready to be trained.

    Its embeddings start at the mean of the retained labels' embeddings, where the network already draws well;
    zero embeddings may be far from any such point (docs/decisions/0051). Raises LabelConflict for a label
    that is learnt already.
    """
    target = with_slots(checkpoint, names, dataset, "permanent")
    slots = [target.retained[name] for name in names]
    return with_mean_embeddings(target, slots, checkpoint.retained.values())


def with_mean_embeddings(checkpoint: Checkpoint, slots: Sequence[int], others: Collection[int]) -> Checkpoint:
    """Set the label embeddings of `slots` to the mean of those of the slots `others`; return the checkpoint.

    If there are no others, the checkpoint is returned unchanged.
    """
    if not others:
        return checkpoint
    weights = dict(checkpoint.weights)
    for name in filter(_is_label_table, weights):
        weights[name] = weights[name].clone()
        weights[name][slots] = weights[name][sorted(others)].mean(dim=0)
    return replace(checkpoint, weights=weights)


def in_slots_of(head: Checkpoint, ancestor: Checkpoint) -> Checkpoint:
    """Return the ancestor's network with the labels and the slots of the head; slots it lacked are empty.

    The slot of a label never changes, so a slot that both have belongs to the same label in both.
    """
    missing = head.spec.slots - ancestor.spec.slots
    weights = {
        name: _with_rows(name, tensor, ancestor.spec, missing, [])
        for name, tensor in ancestor.weights.items()
    }
    spec = replace(ancestor.spec, slots=head.spec.slots)
    return replace(head, spec=spec, weights=weights, fisher=None)


def in_slot(isolated: Checkpoint, slot: int, slots: int) -> Checkpoint:
    """Return an isolated network with its only label at `slot` of `slots`, where the main network has it."""
    weights = dict(isolated.weights)
    for name, tensor in isolated.weights.items():
        if _has_slots(name):
            weights[name] = _with_rows(name, tensor[:0], isolated.spec, slots, [])
            weights[name][slot] = tensor[0]
    labels = tuple(replace(label, slot=slot) for label in isolated.labels)
    return replace(isolated, spec=replace(isolated.spec, slots=slots), weights=weights, labels=labels)


def _has_slots(name: str) -> bool:
    """Whether the first axis of the tensor of that name is the slot."""
    return _is_label_table(name) or name in PRIORS


def _is_label_table(name: str) -> bool:
    return name.endswith(".label")


def _with_rows(name: str, tensor: Tensor, spec: Spec, new: int, emptied: Sequence[int]) -> Tensor:
    """Return the tensor of that name with `new` more rows, and with empty rows for the slots `emptied`."""
    if not _has_slots(name):
        return tensor
    slots = [*emptied, *range(len(tensor), len(tensor) + new)]
    longer = torch.cat([tensor, tensor.new_zeros(new, *tensor.shape[1:])])
    longer[slots] = empty_priors(slots, spec.latent, spec.components)[name] if name in PRIORS else 0.0
    return longer
