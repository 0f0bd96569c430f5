"""Selective synaptic dampening: shrink the weights that matter more to forgotten than to retained labels."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, fisher_on_draws, with_trained_weights
from worker.learning.distillation import match_others
from worker.learning.fisher import Fisher
from worker.learning.networks import build, frozen, weights_of
from worker.learning.prior import reset_prior
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.weight_masks import restore_outside


class DampeningParams(StrategyParams):
    schedule: Schedule = Schedule(steps=200, learning_rate=4e-3)  # of the repair
    fisher_examples: FisherExamples = 10_000
    alpha: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="A weight is dampened if F_forget > alpha * F_retain, its Fisher information over the "
        "labels to forget and to retain. Published: 10, without repair. 1e6: only weights that the retained "
        "labels do not use.",
    )
    beta: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="A dampened weight is multiplied by beta * F_retain / F_forget, at most by 1.",
    )
    repair: bool = Field(
        True,
        description="Whether to train the other weights afterwards, by `schedule`, so that the network draws "
        "the retained labels as before. The labels to forget have no part in this training.",
    )


@strategy(
    "forget",
    "dampening",
    DampeningParams,
    source="Selective Synaptic Dampening (Foster et al. 2024, arXiv:2308.07707)",
)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: DampeningParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by shrinking the weights that matter more to them than to the others.

    theta_i <- min(1, beta F_retain,i / F_forget,i) theta_i if F_forget,i > alpha F_retain,i, with F_forget
    and F_retain the Fisher information over the labels to forget and to retain. The embeddings of the
    forgotten labels become zero, because F_retain is 0 there, and their priors N(0, I). Nothing is trained to
    make the network forget: the training that follows (`repair`) only matches what the network drew before
    for the other labels, and dampened weights keep their values in it.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    forgotten = [target.forgotten[name] for name in examples.labels]
    before = frozen(target, context.device)
    forget_fisher, retain_fisher = (
        fisher_on_draws(before, slots, context, params.fisher_examples, f"fisher of the {which}")
        for which, slots in (("forgotten", forgotten), ("retained", target.retained.values()))
    )
    weights = dampen(target.weights, forget_fisher, retain_fisher, alpha=params.alpha, beta=params.beta)
    network = build(replace(target, weights=weights), context.device)
    for slot in forgotten:
        reset_prior(network, slot)
    if not params.repair:
        return with_trained_weights(target, network)
    dampened = replace(target, weights=weights_of(network))
    untouched = {name: weights[name] == tensor for name, tensor in target.weights.items()}
    return match_others(
        checkpoint,
        examples.labels,
        dampened,
        params.schedule,
        context,
        keep_fixed=lambda network: restore_outside(untouched, network),
    )


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
