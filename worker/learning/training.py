"""The training loop `fit`, and the schedule that it follows."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from worker.learning.adam import Adam
from worker.learning.networks.network import Network
from worker.learning.resuming import InPlace, Resumable
from worker.learning.strategy import Batch, StrategyParams, TrainingContext

Parts = Sequence[Batch]  # the examples of one step, a batch from each source
Loss = Callable[[Parts, float], Tensor]
"""(parts, share of the steps that is done, in [0, 1)) -> loss in nats per example."""

RateShape = Literal["one_cycle", "linear", "constant"]


class Schedule(StrategyParams):
    """How long and how fast to train, with the Adam optimiser."""

    def for_labels(self, retained: int, basis: int | None) -> "Schedule":
        """Return the schedule for that many retained labels: see `ScheduleLabels`. basis: its value."""
        if basis is None:
            return self
        return self.model_copy(update={"steps": max(1, round(self.steps * retained / basis))})

    @property
    def examples(self) -> int:
        """The number of examples in all steps together."""
        return self.steps * self.batch_size

    steps: int = Field(1000, ge=1, le=100_000, description="Number of optimiser steps.")
    batch_size: int = Field(
        128, ge=1, le=4096, description="Number of examples in a training step, real and replayed together."
    )
    learning_rate: float = Field(2e-3, gt=0, le=0.1, description="Peak learning rate of Adam.")
    shape: RateShape = Field(
        "one_cycle",
        description="How the learning rate changes. `constant`: not at all. `one_cycle`: it rises linearly "
        "over the first tenth of the steps and then falls to zero along a cosine. `linear`: it rises in the "
        "same way and then falls to zero along a line.",
    )
    beta2: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="How much of its running mean of squared gradients Adam keeps in a step.",
    )
    label_rate: float = Field(
        10.0,
        gt=0,
        le=100,
        description="The learning rate of the label embeddings, divided by that of the other weights.",
    )
    encoder_rate: float = Field(
        1.0,
        gt=0,
        le=100,
        description="The learning rate of the encoder, divided by that of the other weights.",
    )
    gradient_norm: float = Field(
        100.0,
        gt=0,
        le=1e9,
        description="Largest norm of the gradient, in nats per unit of weight; a larger one is clipped to "
        "it.",
    )


LEARN_SCHEDULE = Schedule(steps=700, learning_rate=1.2e-2, shape="linear", beta2=0.98, encoder_rate=0.35)
"""How a network learns from real images by default, alone or with replay (docs/decisions/0169 and 0170)."""


def _of_one_rate(schedule: Schedule) -> Schedule:
    if schedule.encoder_rate != 1:
        raise ValueError(
            "encoder_rate must be 1: the penalties of this strategy are applied at one learning rate"
        )
    return schedule


OneRateSchedule = Annotated[Schedule, AfterValidator(_of_one_rate)]
"""A schedule in which the encoder learns as fast as the decoder."""

ScheduleLabels = Annotated[
    Annotated[int, Field(ge=1, le=1000)] | None,
    Field(
        description="How many labels the steps of the schedule are for. They are multiplied by the number of "
        "labels retained after the job, divided by this: the paper trains longer the more labels a network "
        "retains (section 5.1). null: the steps do not depend on the labels.",
    ),
]


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
    is_done: Callable[[], bool] = lambda: False,
    changed: Sequence[Resumable] = (),
) -> None:
    """Train the network in place: minimise `loss` over `batches` with a new Adam optimiser.

    phase: the name under which progress is reported, as a gerund ("learning").
    proximal: takes the proximal step of a penalty that has no gradient at zero. It is called after every step
        of the optimiser with the learning rate r of that step, without `label_rate` and `encoder_rate`; for
        mu |theta|_1 it moves each value by r * mu towards zero.
    after_step: runs at the end of every step, for example to restore weights that must not change.
    is_done: asked after every step; if it says so, the training ends before its last step.
    changed: what the loss or `after_step` changes from step to step, besides the network and the random
        generators of the context. An attempt that resumes gets it back with them.
    Raises Stopped within one step of the request to stop, and Diverged if the loss is not finite.
    """
    named = dict(network.named_parameters())
    groups = _by_rate(named, schedule)
    optimiser = Adam(groups.values(), beta2=schedule.beta2)
    parts: list[Resumable] = [InPlace(network.state_dict()), *changed]
    network.precision = context.precision
    with context.loop(phase, range(schedule.steps), parts, scratch=[optimiser]) as steps:
        for step in steps:
            progress = step / schedule.steps
            rate = schedule.learning_rate * rate_share(schedule.shape, progress)
            value = loss(next(batches), progress)
            optimiser.zero_grad()
            value.backward()
            # Guards against rare norms of 1e5 (docs/decisions/0006); usual ones of some hundreds are clipped.
            nn.utils.clip_grad_norm_(named.values(), schedule.gradient_norm)
            context.step(phase, step + 1, schedule.steps, value.item())
            optimiser.step([rate * share for share in groups])
            with torch.no_grad():
                proximal(rate)
            after_step()
            if is_done():
                break
    network.precision = torch.float32


def _by_rate(named: Mapping[str, Tensor], schedule: Schedule) -> dict[float, list[Tensor]]:
    """Group weights by their learning rate, divided by that of the schedule.

    Those of the encoder have names that begin with "encoder."; those of label embeddings end with ".label".
    """
    groups: dict[float, list[Tensor]] = {}
    for name, tensor in named.items():
        share = schedule.encoder_rate if name.startswith("encoder.") else 1.0
        share *= schedule.label_rate if name.endswith(".label") else 1.0
        groups.setdefault(share, []).append(tensor)
    return groups


def rate_share(shape: RateShape, progress: float, warm_up: float = 0.1) -> float:
    """Return the learning rate as a share of its peak, in [0, 1]. progress: share of the steps done."""
    if shape == "constant":
        return 1.0
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    fallen = (progress - warm_up) / (1 - warm_up)
    return 1 - fallen if shape == "linear" else 0.5 * (1 + math.cos(math.pi * fallen))
