"""Forgetting by shrinking the weights that matter more to what is forgotten than to what stays."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import Fisher
from worker.learning.memory import consolidated, fisher_of
from worker.learning.networks import build, frozen
from worker.learning.prior import reset_prior
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.unlearning.surrogate import MappingParams, map_onto_surrogate


class DampeningParams(MappingParams):
    schedule: Schedule = Schedule(steps=100, learning_rate=1e-2, label_rate=30)
    alpha: float = Field(
        10.0, gt=0, le=1e6, description="a weight is dampened where F_forget > alpha F_retain"
    )
    beta: float = Field(1.0, ge=0, le=1e6, description="and keeps the share beta F_retain / F_forget")
    polish: bool = Field(True, description="then train briefly onto the surrogate, by the schedule")


@strategy("forget", "dampening", DampeningParams, source="Selective Synaptic Dampening (Foster et al. 2024)")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DampeningParams, context: TrainingContext
) -> Checkpoint:
    """Forget by shrinking the weights that the labels need more than the others do, then polish briefly.

    theta_i <- min(1, beta F_K,i / F_U,i) theta_i where F_U,i > alpha F_K,i, with F_U and F_K the Fisher over
    the labels to forget and to retain. The label columns of U, which K does not need at all, become zero.
    The polish minimises the loss of `surrogate` without EWC; its teacher is the network not yet dampened.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    gone = [target.forgotten[name] for name in examples.labels]
    teacher = frozen(target, context.device)
    of_gone = fisher_of(teacher, gone, context, params.fisher_examples, "fisher of the forgotten")
    of_kept = fisher_of(
        teacher, target.held.values(), context, params.fisher_examples, "fisher of the retained"
    )
    weights = dampened(target.weights, of_gone, of_kept, alpha=params.alpha, beta=params.beta)
    network = build(replace(target, weights=weights), context.device)
    if params.polish:
        map_onto_surrogate(network, target, examples.labels, params, context)
    else:
        for slot in gone:
            reset_prior(network, slot)
    return consolidated(target, network, context, examples=params.fisher_examples)


def dampened(
    weights: Mapping[str, Tensor], of_gone: Fisher, of_kept: Fisher, *, alpha: float, beta: float
) -> dict[str, Tensor]:
    """The weights, shrunk by min(1, beta F_K / F_U) where F_U > alpha F_K; the priors as they are."""

    def shrunk(name: str, tensor: Tensor) -> Tensor:
        gone, kept = of_gone[name], of_kept[name]
        return torch.where(gone > alpha * kept, tensor * (beta * kept / gone).clamp(max=1), tensor)

    return {name: shrunk(name, tensor) if name in of_gone else tensor for name, tensor in weights.items()}
