"""From one checkpoint to the next, main network and isolated ones together: the cases of CLPU."""

from dataclasses import replace

from pydantic import BaseModel

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import fresh
from worker.learning.strategy import Diverged, Examples, Strategy, TrainingContext
from worker.learning.unlearning import drop


def change(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    """What the strategy makes of the checkpoint, whatever the labels' retention.

    Forgetting drops the networks of temporary labels and leaves the others to the strategy; with no permanent
    label left to retain, the main network starts from random weights again. Learning a temporary label
    permanently ends its isolated network. Liu et al. 2022, table 1. Raises Diverged also where it was the
    last step of a training, whose loss nobody saw, that made a weight or the Fisher infinite.
    """
    changed = _changed(checkpoint, chosen, examples, params, context)
    for one in (changed, *changed.isolated):
        _check_finite(one)
    return changed


def _changed(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    if chosen.operation == "forget":
        return _forgotten(checkpoint, chosen, examples, params, context)
    changed = chosen.run(checkpoint, examples, params, context)
    if chosen.operation == "resize" or chosen.retention == "temporary":
        return changed
    promoted = sorted(set(examples.labels) & set(checkpoint.temporary))
    if promoted:
        context.findings["promoted"] = promoted
    return changed.without_isolated(promoted)


def _forgotten(
    checkpoint: Checkpoint, chosen: Strategy, examples: Examples, params: BaseModel, context: TrainingContext
) -> Checkpoint:
    temporary = tuple(name for name in examples.labels if name in checkpoint.temporary)
    permanent = tuple(name for name in examples.labels if name not in temporary)
    if temporary:
        gone = replace(examples, labels=temporary)
        checkpoint = drop.forget(checkpoint, gone, drop.DropParams(), context)
    if not permanent:
        return checkpoint
    context.findings.pop("guarantee", None)  # that of the dropped; what follows has its own
    target = checkpoint.with_status(permanent, "forgotten")
    if target.held:
        return chosen.run(checkpoint, replace(examples, labels=permanent), params, context)
    context.findings["guarantee"] = "exact"
    return fresh(target, context.with_seed_from(None).generator("weights"))


def _check_finite(checkpoint: Checkpoint) -> None:
    for kind, tensors in (("weights", checkpoint.weights), ("Fisher", checkpoint.fisher or {})):
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise Diverged(f"the {kind} of {name} are no longer finite numbers; lower the learning rate")
