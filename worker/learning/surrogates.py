"""Surrogates: what a forgotten label is trained to draw instead."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build, with_random_weights
from worker.learning.networks.network import NO_MASKS, Network
from worker.learning.replay_losses import decoder_loss, latents_of
from worker.learning.sources import Source, draw_batches, generative_replay, interleave
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.training import Parts, Schedule, fit

Picture = Literal["uniform_noise", "blank", "mean_image"]
MEAN_IMAGE_DRAWS = 2000
SURROGATE_DRAWS = 1024  # a fixed pool, from which every step of one forget samples


def picture_surrogate(
    name: Picture,
    forgotten: Sequence[int],
    retained: Sequence[int],
    teacher: Network,
    generator: torch.Generator,
) -> Source:
    """Make a source of surrogate pictures x ~ q(x | c) for the slots to forget, in equal shares.

    `uniform_noise`: every pixel is U(0, 1), as in Selective Amnesia and the paper. `blank`: all black.
    `mean_image`: the mean of the teacher's draws of the retained labels.
    """
    slot_of, pixels = torch.tensor(forgotten), teacher.pixels
    picture = torch.zeros(pixels)
    if name == "mean_image":
        draws = generative_replay(teacher, retained, generator)(MEAN_IMAGE_DRAWS)
        picture = draws.images.mean(dim=0)

    def draw(count: int) -> Batch:
        chosen = slot_of[torch.randint(len(slot_of), (count,), generator=generator)]
        noise = torch.rand((count, pixels), generator=generator)
        return Batch(noise if name == "uniform_noise" else picture.expand(count, pixels), chosen)

    return draw


def naive_network(
    target: Checkpoint, replayed: Source, steps: int, batch_size: int, context: TrainingContext
) -> Network:
    """Train a naive network: one that never saw the forgotten labels. Only its decoder is trained.

    It starts from random weights and is distilled on draws of the labels that `target` retains, `replayed`
    with their latents. In the untrained slots of the forgotten labels it draws what a network retrained
    without them would draw. Nothing reads its encoder.
    """
    schedule = Schedule(steps=steps, batch_size=batch_size, learning_rate=4e-3)
    start = with_random_weights(target, context.generator("weights of the naive network"))
    student = build(start, context.device)
    example_loss = decoder_loss(student)

    def loss(parts: Parts, progress: float) -> Tensor:
        (batch,) = parts
        return example_loss(batch, NO_MASKS).mean()

    batches = interleave([(replayed, 1.0)], batch_size, context.device)
    fit(student, loss, batches, schedule, context, phase="training naive network")
    return student.requires_grad_(False)


def unrecognised(
    source: Source,
    teacher: Network,
    forgotten: Sequence[int],
    retained: Sequence[int],
    generator: torch.Generator,
) -> Source:
    """Replace those of a naive network's draws that the teacher recognises as a label to forget.

    An untrained slot draws mixtures of the retained labels, and some of them look like a label to forget: a
    mixture of 4 and 7 can look like a 9. Such a draw is replaced by the mean of all draws of its slot that
    were not recognised. It is the same picture for the whole slot, because a target that changes from step to
    step keeps moving the shared weights (docs/decisions/0052). Each slot has its own, so that labels that are
    forgotten together do not draw the same picture. The teacher recognises a draw by the label with the
    highest ELBO. Where it recognises every draw of a slot, the mean is that of all slots; where it recognises
    every draw, nothing is replaced.
    source: draws with their latents. SURROGATE_DRAWS are drawn once and sampled in every step.
    """
    pool = list(draw_batches(source, SURROGATE_DRAWS, teacher.prior_mean.device))
    images, slots = torch.cat([one.images for one in pool]), torch.cat([one.slots for one in pool])
    latents = torch.cat([latents_of(one) for one in pool])
    candidates = (*forgotten, *retained)
    recognised = torch.cat([most_likely_slot(teacher, one.images, candidates) for one in pool]) < len(
        forgotten
    )
    if not recognised.all():
        of_all = images[~recognised].mean(dim=0)
        for slot in forgotten:
            own = slots == slot
            kept = images[own & ~recognised]
            images[own & recognised] = kept.mean(dim=0) if len(kept) else of_all

    def draw(count: int) -> Batch:
        which = torch.randint(len(images), (count,), generator=generator).to(images.device)
        return Batch(images[which], slots[which], latents[which])

    return draw


@torch.no_grad()
def most_likely_slot(network: Network, images: Tensor, slots: Sequence[int]) -> Tensor:
    """Find the slot with the highest ELBO for each image, at its posterior mean: [n], index into `slots`."""
    no_noise = torch.zeros(len(images), network.latent, device=images.device)
    costs = [
        negative_elbo(network, images, torch.full((len(images),), slot, device=images.device), no_noise)
        for slot in slots
    ]
    return torch.stack(costs).argmin(dim=0)
