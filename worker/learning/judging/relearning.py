"""How fast a network learns a label from its real images: one that learns it too fast remembers it."""

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
from worker.learning.replay import interleave, real
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.training import Parts, Schedule, fit

Curve = Sequence[tuple[int, float]]  # (optimiser steps, accuracy of the draws)
EVERY = 4  # steps between two looks


class Relearning(Schedule):
    """A schedule long enough to be looked at twice: before that, no step can be told from another."""

    steps: int = Field(240, ge=2 * EVERY, le=100_000, description="optimiser steps")


SLOW = Relearning(
    steps=240, batch_size=128, learning_rate=3e-4, label_rate=10, shape="constant", gradient_norm=1e9
)


@dataclass(frozen=True)
class Lesson:
    """The fine-tuning, the same for every network compared: slow enough that steps can be told apart."""

    schedule: Schedule = SLOW
    every: int = EVERY  # steps between two looks
    draws: int = 300  # judged at a look
    prior_images: int = 500  # the label's prior is fitted on, at a look


def relearned(
    checkpoint: Checkpoint,
    label: str,
    images: Tensor,
    accuracy: Callable[[Tensor], float],
    lesson: Lesson,
    context: TrainingContext,
) -> Curve:
    """The accuracy of the label's draws while its real images are learnt, and nothing else is.

    images: uint8 [n, pixels]; accuracy: of draws [n, pixels]. The label's columns start at zero and its prior
    at N(0, I), as whenever a label is learnt again: what could speed it up is in the other weights.
    """
    slot = checkpoint.label(label).slot
    network = build(checkpoint, context.device)
    _empty(network, slot)
    noise, order = context.generator("relearning noise"), context.generator("relearning order")
    source = real({label: images}, {label: slot}, order)
    some = images[: lesson.prior_images].float().div(255).to(context.device)
    looked_at = Batch(some, torch.full((len(some),), slot, device=context.device))
    curve = [(0, accuracy(_draws(network, slot, lesson.draws, context)))]
    taken = 0

    def loss(parts: Parts, done: float) -> Tensor:
        (batch,) = parts
        return negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, noise)).mean()

    def look() -> None:
        nonlocal taken
        taken += 1
        if taken % lesson.every == 0:
            fit_prior(network, slot, [looked_at])
            curve.append((taken, accuracy(_draws(network, slot, lesson.draws, context))))

    batches = interleave([(source, 1.0)], lesson.schedule.batch_size, context.device)
    fit(network, loss, batches, lesson.schedule, context, phase=f"relearning {label}", after_step=look)
    return curve


def steps_to(share: float, curve: Curve) -> float | None:
    """After how many steps the accuracy reached `share`, on a line between looks; None if it never did."""
    before = (0, 0.0)
    for step, accuracy in curve:
        if accuracy >= share:
            rise = accuracy - before[1]
            return step if rise <= 0 else before[0] + (step - before[0]) * (share - before[1]) / rise
        before = (step, accuracy)
    return None


def _empty(network: Network, slot: int) -> None:
    for name, tensor in network.named_parameters():
        if name.endswith(".label"):
            tensor.data[slot] = 0
    reset_prior(network, slot)


@torch.no_grad()
def _draws(network: Network, slot: int, n: int, context: TrainingContext) -> Tensor:
    slots = torch.full((n,), slot, device=context.device)
    latents = network.sample_prior(network.noise(slots, context.generator("relearning draws")), slots)
    return network.decode(latents, slots).sigmoid().cpu()
