"""fit(): the only training loop in the house."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from worker.learning.adam import Adam
from worker.learning.networks.network import Network
from worker.learning.strategy import Batch, StrategyParams, TrainingContext

Parts = Sequence[Batch]  # one step's examples, a batch from each source
Loss = Callable[[Parts, float], Tensor]  # (parts, share of the training done in [0, 1)) -> nats an example

Shape = Literal["one_cycle", "constant"]


class Schedule(StrategyParams):
    """How long and how fast, by Adam. one_cycle: a linear warm-up over the first tenth, a cosine to zero."""

    steps: int = Field(1000, ge=1, le=100_000, description="optimiser steps")
    batch_size: int = Field(128, ge=1, le=4096, description="examples a step, real and replayed together")
    learning_rate: float = Field(2e-3, gt=0, le=0.1, description="of Adam, at its peak")
    shape: Shape = Field("one_cycle", description="of the learning rate over the training")
    label_rate: float = Field(10.0, gt=0, le=100, description="the label columns learn so many times faster")
    gradient_norm: float = Field(
        100.0, gt=0, le=1e9, description="a longer gradient is shortened to this, nats a unit of weight"
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
    """Minimise `loss` over `batches` in place, by Adam with a fresh state that is dropped at the end.

    proximal: called after every step of the optimiser with the step's learning rate, to take the step of a
        penalty that has no gradient at zero: of mu |theta|, rate * mu towards zero.
    after_step: called then, to correct what it did to the weights.
    Raises Stopped within one step of being asked to, and Diverged when the loss is not finite.
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
        value.backward()  # type: ignore[no-untyped-call]
        # A guard: most gradients are some hundreds long (docs/decisions/0007).
        nn.utils.clip_grad_norm_(named.values(), schedule.gradient_norm)
        context.step(phase, step + 1, schedule.steps, value.item())
        optimiser.step([rate, rate * schedule.label_rate])
        with torch.no_grad():
            proximal(rate)
        after_step()
    network.precision = torch.float32


def one_cycle(done: float, warm_up: float = 0.1) -> float:
    """The share of the peak learning rate after the share `done` of the training."""
    if done < warm_up:
        return 0.04 + 0.96 * done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))
