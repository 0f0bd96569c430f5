"""Selective synaptic dampening: shrink the weights that matter more to forgotten than to retained labels."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, fisher_on_draws, with_trained_weights
from worker.learning.fisher import Fisher
from worker.learning.mapping import (
    MappingParams,
    NaiveSteps,
    SurrogateName,
    SurrogateShare,
    map_onto_surrogate,
)
from worker.learning.networks import build, frozen
from worker.learning.prior import reset_prior
from worker.learning.replay_losses import ReplayMatch
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule


class DampeningParams(MappingParams):
    schedule: Schedule = Schedule(steps=100, learning_rate=1e-2, label_rate=30)
    surrogate: SurrogateName = "never_learned"
    surrogate_share: SurrogateShare = 0.5
    naive_steps: NaiveSteps = 300
    replay_match: ReplayMatch = "function"
    fisher_examples: FisherExamples = 10_000
    alpha: float = Field(
        10.0,
        gt=0,
        le=1e6,
        description="A weight is dampened if F_forget > alpha * F_retain, its Fisher information over the "
        "labels to forget and to retain.",
    )
    beta: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="A dampened weight is multiplied by beta * F_retain / F_forget, at most by 1.",
    )
    polish: bool = Field(True, description="Whether to train the labels onto the surrogate afterwards.")


@strategy(
    "forget",
    "dampening",
    DampeningParams,
    source="Selective Synaptic Dampening (Foster et al. 2024, arXiv:2308.07707)",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DampeningParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by shrinking the weights that matter more to them than to the others, then train briefly.

    theta_i <- min(1, beta F_retain,i / F_forget,i) theta_i if F_forget,i > alpha F_retain,i, with F_forget
    and F_retain the Fisher information over the labels to forget and to retain. The embeddings of the
    forgotten labels become zero, because F_retain is 0 there. The brief training (`polish`) minimises the
    loss of the strategy `surrogate` without EWC; its teacher is the network before dampening.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    forgotten = [target.forgotten[name] for name in examples.labels]
    retained, teacher = target.retained.values(), frozen(target, context.device)
    forget_fisher = fisher_on_draws(
        teacher, forgotten, context, params.fisher_examples, "fisher of the forgotten"
    )
    retain_fisher = fisher_on_draws(
        teacher, retained, context, params.fisher_examples, "fisher of the retained"
    )
    weights = dampen(target.weights, forget_fisher, retain_fisher, alpha=params.alpha, beta=params.beta)
    network = build(replace(target, weights=weights), context.device)
    if params.polish:
        map_onto_surrogate(network, target, examples.labels, params, context)
    else:
        for slot in forgotten:
            reset_prior(network, slot)
    return with_trained_weights(target, network)


def dampen(
    weights: Mapping[str, Tensor],
    forget_fisher: Fisher,
    retain_fisher: Fisher,
    *,
    alpha: float,
    beta: float,
) -> dict[str, Tensor]:
    """Multiply weights by min(1, beta F_retain / F_forget) if F_forget > alpha F_retain.

    Tensors without Fisher information (the label priors) do not change.
    """

    def dampened(name: str, tensor: Tensor) -> Tensor:
        forget, retain = forget_fisher[name], retain_fisher[name]
        return torch.where(forget > alpha * retain, tensor * (beta * retain / forget).clamp(max=1), tensor)

    return {
        name: dampened(name, tensor) if name in forget_fisher else tensor for name, tensor in weights.items()
    }
