"""The few-shot attack: fit a column to a few real images of the label, and see what else it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from worker.learning.adam import Adam
from worker.learning.label_columns import LabelColumns
from worker.learning.networks.network import Network
from worker.learning.strategy import TrainingContext


@dataclass(frozen=True)
class FewShots:
    """How many images the attacker has, and how columns are fitted to them."""

    sizes: Sequence[int] = (1, 5, 30)
    sets: int = 8  # of each size: which images an attacker has changes much
    steps: int = 150
    column_rate: float = 0.05  # learning rate of Adam, for the columns
    posterior_rate: float = 0.1  # for the posteriors
    held_out: int = 40  # images that each fitted column is measured on
    held_out_steps: int = 100
    draws: int = 40  # with each column


class FewShot(NamedTuple):
    """What columns do that were fitted to sets of one size."""

    nats: float  # -ELBO of a held-out image of the label, mean over images and sets
    draws: Tensor  # [sets * draws, pixels] in [0, 1], of latents from N(0, I)


def fit_columns(
    network: Network,
    slot: int,
    kept: Sequence[int],
    members: Tensor,
    others: Tensor,
    *,
    shots: FewShots,
    context: TrainingContext,
) -> dict[int, FewShot]:
    """Fit a decoder column to each of several small sets of the label's images.

    Minimises the mean -ELBO of a set under the prior N(0, I), with Adam, over the column and over a posterior
    N(mean, diag exp(logvar)) for each image; the column starts at the mean of the kept labels'. Posteriors of
    held-out images are fitted in the same way to the finished columns. The encoder is not used: how well it
    encodes the label is no part of what the decoder holds. Returns the result for each size of a set.

    network: on the CPU, without gradients. slot: the label's own, whose column is used only if no label is
    kept. members, others: real images of the label, uint8 [n, pixels]; sets are drawn from the members, the
    held-out images from the others.
    """
    generator = context.generator("few shots")
    sizes = torch.tensor(shots.sizes).clamp(max=len(members)).repeat_interleave(shots.sets)
    shares = torch.zeros(len(sizes), len(network.prior_mean))
    shares[:, list(kept) or [slot]] = 1 / max(1, len(kept))
    columns = LabelColumns(network, shares)
    chosen = [torch.randperm(len(members), generator=generator)[: int(size)] for size in sizes]
    held_out = torch.randperm(len(others), generator=generator)[: shots.held_out]
    fit = _Fit(columns, shots, generator, context)
    rows = torch.arange(len(sizes))
    fit.run(members[torch.cat(chosen)], rows.repeat_interleave(sizes), shots.steps, with_columns=True)
    losses = fit.run(
        others[held_out].repeat(len(sizes), 1), rows.repeat_interleave(len(held_out)), shots.held_out_steps
    )
    nats = losses.view(len(shots.sizes), -1).mean(dim=1)
    latents = torch.randn(shots.draws, network.latent, generator=generator).repeat(len(sizes), 1)
    with torch.no_grad():
        draws = columns.draw(latents, rows.repeat_interleave(shots.draws))
    draws_of = draws.view(len(shots.sizes), -1, draws.shape[1])
    return {size: FewShot(float(nats[index]), draws_of[index]) for index, size in enumerate(shots.sizes)}


@dataclass(frozen=True)
class _Fit:
    """Fits posteriors of images, and the columns with them if asked to."""

    columns: LabelColumns
    shots: FewShots
    generator: torch.Generator
    context: TrainingContext

    def run(self, pixels: Tensor, rows: Tensor, steps: int, *, with_columns: bool = False) -> Tensor:
        """Minimise -ELBO of images (uint8 [n, pixels]) with columns `rows` [n]; return it, nats, [n].

        Every column has an equal share of the loss, however many images it has.
        """
        images = pixels.float() / 255
        latent = self.columns.network.latent
        mean, logvar = (torch.zeros(len(images), latent, requires_grad=True) for _ in range(2))
        weights = 1 / torch.bincount(rows)[rows]
        optimiser = Adam([[mean, logvar], self.columns.columns if with_columns else []])
        for step in range(steps):
            self.context.step("fitting columns", step, steps)
            noise = torch.randn(mean.shape, generator=self.generator)
            loss = (weights * self.columns.negative_elbo(images, rows, mean, logvar, noise)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step([self.shots.posterior_rate, self.shots.column_rate])
        with torch.no_grad():
            noise = torch.randn(mean.shape, generator=self.generator)
            return self.columns.negative_elbo(images, rows, mean, logvar, noise)
