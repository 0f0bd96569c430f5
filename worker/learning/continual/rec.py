"""Regularize, Expand and Compress (REC): search a larger network, train it, and distil it to the old size."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over
from worker.learning.distillation import match_function
from worker.learning.fisher import EwcStrength
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.rehearsal import RehearsalParams, learn_with_rehearsal
from worker.learning.replay_losses import ReplayMatch
from worker.learning.slots import with_new_labels
from worker.learning.sources import generative_replay, real_examples
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import OneRateSchedule, Schedule
from worker.learning.units.halving import (
    ParameterPrice,
    Sources,
    ValidationExamples,
    children_of,
    successive_halving,
)
from worker.learning.units.removal import measure_curvature, removal_order, remove_units, replay_sample
from worker.learning.units.resize import prunable_layers, width
from worker.learning.units.sparsity import Proximal, shrinkage_beside, shrunk

TAYLOR_EXAMPLES = 2000


class RecParams(RehearsalParams):
    schedule: OneRateSchedule = Schedule(steps=1000, learning_rate=1e-2)
    replay_match: ReplayMatch = "function"
    ewc_strength: EwcStrength = 1.0
    fisher_examples: FisherExamples = 10_000
    search: Schedule = Schedule(steps=300)
    mu: ParameterPrice = 1e-6
    validation_examples: ValidationExamples = 2000
    compression: Schedule = Schedule(steps=500, learning_rate=4e-3)
    common_subset: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Strength a of the l2,1 norm over rows of old and new weights together, in nats per "
        "example.",
    )
    new_l1: float = Field(
        0.02,
        ge=0,
        le=100,
        description="Strength b of the l1 norm of added units and new label embeddings, in nats per example.",
    )


@strategy(
    "learn",
    "rec",
    RecParams,
    source="REC of Zhang et al. 2020 (WACV); halving as in Jamieson & Talwalkar 2016 (arXiv:1502.07943)",
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: RecParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels in the best of several larger networks, then prune and distil it to the old size.

    The larger network has 0 to 40 % more units: it is the candidate with the lowest validation -ELBO + mu *
    (number of parameters) after short trainings, found by successive halving. It minimises the loss of
    `replay_ewc`, plus a * sum over rows i of the hidden layers' weights of |(theta*_i, theta_i)|_2, plus
    b |theta_new|_1, with theta_new the weights of added units and the new label embeddings; theta*_i is 0 for
    an added unit. Both penalties are applied as proximal steps, so that values become exactly zero; the
    findings say how many. Then as many units as were added are removed, those whose removal is predicted to
    change the loss least, and the rest is trained to match the larger network on its own draws. The first
    labels of a model are learnt without search and compression.
    """
    target = with_new_labels(checkpoint, examples.labels, examples.dataset)
    old = sorted(checkpoint.retained.values())
    if not old:
        return learn_with_rehearsal(target, examples.images, old, params, context)
    teacher = frozen(target, context.device, precision=context.precision)
    train, validation = split_tenth(examples.images)

    def sources_for(purpose: str) -> Sources:
        images = validation if purpose == "validation" else train
        new = real_examples(images, target.retained, context.generator(f"examples of {purpose}"))
        replayed = generative_replay(teacher, old, context.generator(f"replay of {purpose}"))
        return [(new, float(len(examples.labels))), (replayed, float(len(old)))]

    children = children_of(target, context)
    chosen, rounds = successive_halving(
        children,
        sources_for,
        params.search,
        context,
        mu=params.mu,
        validation_examples=params.validation_examples,
    )
    context.findings["search"] = {"rungs": rounds, "chosen": chosen, "mu": params.mu}
    child = children[chosen]
    if params.ewc_strength > 0:
        child = with_fisher_over(child, old, context, examples=params.fisher_examples)
    new_slots = [target.retained[name] for name in examples.labels]
    larger = learn_with_rehearsal(
        child,
        examples.images,
        old,
        params,
        context,
        forgotten=sorted(target.forgotten.values()),
        proximal=consolidation_step(target, child, new_slots, params),
    )
    context.findings["zeros"] = count_zeros(target, larger, new_slots)
    return compress(larger, target, params, context)


def split_tenth(images: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split off the first tenth of each label's images: return (train, validation). One image is in both."""
    tenth = {name: max(1, len(one) // 10) for name, one in images.items()}
    train = {name: one[tenth[name] :] if len(one) > 1 else one for name, one in images.items()}
    return train, {name: one[: tenth[name]] for name, one in images.items()}


def consolidation_step(
    before: Checkpoint, child: Checkpoint, new_slots: Sequence[int], params: RecParams
) -> Proximal:
    """Make the proximal steps of a sum over rows i of |(theta*_i, theta_i)|_2 and of b |theta_new|_1.

    The rows are those of the weights of hidden layers of `child`; theta* are the weights of `child` where
    `before` has the row, and 0 where it lacks it. theta_new are the incoming weights of units that `before`
    lacks, and the embeddings of the new labels, whose steps are `label_rate` times as long.
    """
    old_rows = {layer.name: len(before.weights[f"{layer.name}.bias"]) for layer in prunable_layers(before)}
    anchors = {layer: child.weights[f"{layer}.weight"].flatten(1).norm(dim=1) for layer in old_rows}
    for layer, rows in old_rows.items():
        anchors[layer][rows:] = 0

    def step(network: Network, rate: float) -> None:
        for layer, rows in old_rows.items():
            weight = network.get_parameter(f"{layer}.weight")
            weight[rows:] = shrunk(weight[rows:], rate * params.new_l1)
            norms, anchor = weight.flatten(1).norm(dim=1), anchors[layer].to(weight.device)
            factors = shrinkage_beside(anchor, norms, rate * params.common_subset)
            weight.mul_(factors.view(-1, *[1] * (weight.dim() - 1)))
        for name, tensor in network.named_parameters():
            if name.endswith(".label"):
                by = rate * params.schedule.label_rate * params.new_l1
                tensor[new_slots] = shrunk(tensor[new_slots], by)

    return step


def count_zeros(before: Checkpoint, larger: Checkpoint, new_slots: Sequence[int]) -> dict[str, float | int]:
    """Count what is exactly zero: added units without incoming weights, and the share of the new values."""
    new, empty = [], 0
    for layer in prunable_layers(before):
        added = larger.weights[f"{layer.name}.weight"][len(before.weights[f"{layer.name}.bias"]) :]
        new.append(added.flatten())
        by_unit = added.reshape(width(larger, layer) - width(before, layer), -1)
        empty += int((by_unit == 0).all(dim=1).sum())
    new += [tensor[new_slots].flatten() for name, tensor in larger.weights.items() if name.endswith(".label")]
    return {"added_units": empty, "share_of_new_values": (torch.cat(new) == 0).float().mean().item()}


def compress(
    larger: Checkpoint, before: Checkpoint, params: RecParams, context: TrainingContext
) -> Checkpoint:
    """Prune the larger network to the widths of `before`, then train it to match the larger network."""
    surplus = {layer.name: width(larger, layer) - width(before, layer) for layer in prunable_layers(larger)}
    if not any(surplus.values()):
        return larger
    draws = replay_sample(larger, TAYLOR_EXAMPLES, context)
    curvature = measure_curvature(build(larger, context.device), draws, context)
    removed = removal_order(curvature, surplus).first(sum(surplus.values()), curvature.widths)
    smaller = remove_units(larger, removed, curvature)
    return match_function(larger, smaller, params.compression, context)
