"""The training loop: `fit` minimises a loss over batches, by a schedule."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from worker.learning.adam import Adam
from worker.learning.networks.network import Network
from worker.learning.strategy import Batch, StrategyParams, TrainingContext

Parts = Sequence[Batch]  # the examples of one step, a batch from each source
Loss = Callable[[Parts, float], Tensor]  # (parts, share of the steps done in [0, 1)) -> nats an example

Shape = Literal["one_cycle", "constant"]


class Schedule(StrategyParams):
    """How long and how fast to train, with the Adam optimiser."""

    steps: int = Field(1000, ge=1, le=100_000, description="Number of optimiser steps.")
    batch_size: int = Field(
        128, ge=1, le=4096, description="Examples a step, real and replayed ones together."
    )
    learning_rate: float = Field(2e-3, gt=0, le=0.1, description="Learning rate of Adam at its peak.")
    shape: Shape = Field(
        "one_cycle",
        description="How the learning rate changes: not at all (`constant`), or up linearly over the first "
        "tenth of the steps and then down to zero along a cosine (`one_cycle`).",
    )
    label_rate: float = Field(
        10.0, gt=0, le=100, description="Factor by which the label columns' learning rate is higher."
    )
    gradient_norm: float = Field(
        100.0,
        gt=0,
        le=1e9,
        description="Largest norm of the gradient, in nats per unit of weight; a longer one is scaled down.",
    )


def fit(
    network: Network,
    loss: Loss,
    batches: Iterator[Parts],
    schedule: Schedule,
    context: TrainingContext,
    *,
    phase: str,
    proximal: Callable[[float], None] = lambda rate: None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Minimise `loss` over `batches`, in place, by Adam; the optimiser's state is dropped at the end.

    phase: what the training is called where its progress is shown, as a gerund.
    proximal: takes the proximal step of a penalty without a gradient at zero, after every step of the
        optimiser, given that step's learning rate: of mu |theta|, rate * mu towards zero.
    after_step: runs last in every step, for example to put weights back that must not move.
    Raises Stopped within one step of the request to stop, and Diverged if the loss is not finite.
    """
    named = dict(network.named_parameters())
    labels = [tensor for name, tensor in named.items() if name.endswith(".label")]
    others = [tensor for name, tensor in named.items() if not name.endswith(".label")]
    optimiser = Adam([others, labels])
    network.precision = context.precision
    for step in range(schedule.steps):
        done = step / schedule.steps
        rate = schedule.learning_rate * (one_cycle(done) if schedule.shape == "one_cycle" else 1)
        value = loss(next(batches), done)
        optimiser.zero_grad()
        value.backward()
        # A safeguard: most gradients are some hundreds long (docs/decisions/0007).
        nn.utils.clip_grad_norm_(named.values(), schedule.gradient_norm)
        context.step(phase, step + 1, schedule.steps, value.item())
        optimiser.step([rate, rate * schedule.label_rate])
        with torch.no_grad():
            proximal(rate)
        after_step()
    network.precision = torch.float32


def one_cycle(done: float, warm_up: float = 0.1) -> float:
    """Return the share of the peak learning rate after the share `done` of the training, both in [0, 1]."""
    if done < warm_up:
        return 0.04 + 0.96 * done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))
