"""Measure how fast a network relearns a label: one that is much faster than a reference had not forgotten."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build
from worker.learning.networks.network import Network
from worker.learning.prior import fit_prior, reset_prior
from worker.learning.resuming import State
from worker.learning.sources import interleave, real_examples
from worker.learning.strategy import TrainingContext
from worker.learning.training import Parts, Schedule, fit

Curve = Sequence[tuple[int, float]]  # (optimiser steps, accuracy of the label's draws)
STEPS_BETWEEN = 4
"""How many optimiser steps lie between two points of a curve."""
LEARNED_ACCURACY = 0.9
"""The accuracy at which a label counts as learned again."""


class Relearning(Schedule):
    """A schedule with room for two points of a curve: with fewer, it could not show how fast it rises."""

    steps: int = Field(240, ge=2 * STEPS_BETWEEN, le=100_000, description="optimiser steps")


SLOW_RELEARNING = Relearning(
    steps=240, batch_size=128, learning_rate=3e-4, label_rate=10, shape="constant", gradient_norm=1e9
)
"""So slow that the curves of two networks differ by many steps."""


@dataclass(frozen=True)
class RelearningSetup:
    """How relearning is measured: the same for every network compared."""

    schedule: Schedule = SLOW_RELEARNING
    steps_between: int = STEPS_BETWEEN
    draws: int = 300  # judged for each point of the curve
    prior_images: int = 500  # on which the label's prior is fitted for each point


def relearn(
    checkpoint: Checkpoint,
    label: str,
    images: Tensor,
    accuracy: Callable[[Tensor], float],
    setup: RelearningSetup,
    context: TrainingContext,
) -> Curve:
    """Train the network on the label's real images alone, and return the curve of its draws' accuracy.

    The curve ends where it reaches LEARNED_ACCURACY, or with the schedule.
    The label's columns start at zero and its prior at N(0, I), whatever they were, so that only the other
    weights can make relearning faster. (A learn starts the columns at the mean of those of the retained
    labels: docs/decisions/0051.)

    images: uint8 [n, pixels]. accuracy: measures the accuracy of draws [n, pixels] of the label.
    """
    slot = checkpoint.label(label).slot
    network = build(checkpoint, context.device)
    _clear_slot(network, slot)
    noise, order = context.generator("relearning noise"), context.generator("relearning order")
    source = real_examples({label: images}, {label: slot}, order)
    of_prior = images[: setup.prior_images]
    curve = _GrowingCurve(0, [(0, accuracy(_draw(network, slot, setup.draws, context)))])

    def loss(parts: Parts, progress: float) -> Tensor:
        (batch,) = parts
        return negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, noise)).mean()

    def add_point() -> None:
        curve.steps += 1
        if curve.steps % setup.steps_between == 0:
            # One Gaussian: a mixture would cost more than the steps between two points.
            fit_prior(network, slot, of_prior, context.with_seed_for(f"prior after {curve.steps}"), most=1)
            curve.points.append((curve.steps, accuracy(_draw(network, slot, setup.draws, context))))

    batches = interleave([(source, 1.0)], setup.schedule.batch_size, context.device)
    fit(
        network,
        loss,
        batches,
        setup.schedule,
        context,
        phase=f"relearning {label}",
        after_step=add_point,
        is_done=lambda: curve.points[-1][1] >= LEARNED_ACCURACY,
        changed=[curve],
    )
    return curve.points


@dataclass
class _GrowingCurve:
    """The points of a curve so far, and the steps that were made."""

    steps: int
    points: list[tuple[int, float]]

    def state(self) -> State:
        return {"steps": self.steps, "points": self.points}

    def restore(self, state: State) -> None:
        self.steps, self.points = state["steps"], [(step, accuracy) for step, accuracy in state["points"]]


def steps_to_reach(target: float, curve: Curve) -> float | None:
    """Return after how many steps the accuracy reached the target; None if it never did.

    Between two points of the curve it is interpolated linearly.
    """
    before, accuracy_before = 0, 0.0
    for step, accuracy in curve:
        if accuracy >= target:
            rise = accuracy - accuracy_before
            return step if rise <= 0 else before + (step - before) * (target - accuracy_before) / rise
        before, accuracy_before = step, accuracy
    return None


def _clear_slot(network: Network, slot: int) -> None:
    for name, tensor in network.named_parameters():
        if name.endswith(".label"):
            tensor.data[slot] = 0
    reset_prior(network, slot)


@torch.no_grad()
def _draw(network: Network, slot: int, n: int, context: TrainingContext) -> Tensor:
    slots = torch.full((n,), slot, device=context.device)
    noise = network.prior_noise(slots, context.generator("relearning draws"))
    latents = network.sample_prior(noise, slots)
    return network.decode(latents, slots).sigmoid().cpu()
