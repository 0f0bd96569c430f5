"""An adversary within a forget: it searches for label columns that bring the forgotten labels back.

Training the forgotten label's own column onto a surrogate leaves something of the label in the decoder's
shared weights: a free column, fitted to a few real images, finds it (docs/decisions/0153). So the decoder can
be trained against such columns, too (docs/decisions/0163). The adversary has no real images; it uses the
old network's draws.
Source: adversarial training (Goodfellow et al. 2015, arXiv:1412.6572), with label columns as perturbations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.learning.adam import Adam
from worker.learning.elbo import reconstruction_loss
from worker.learning.label_columns import LabelColumns, random_mixtures
from worker.learning.networks.network import Masks, Network
from worker.learning.replay_losses import latents_of
from worker.learning.resuming import State
from worker.learning.sources import BATCH, Source, draw_batches
from worker.learning.strategy import Batch, TrainingContext

ADVERSARY_DRAWS = 2048
"""How many draws of the old network the adversary has, of all labels to forget together."""
COLUMNS = 8
"""How many columns it searches for each label; two let more of the label through."""
COLUMN_RATE = 0.1
"""Learning rate of Adam, for the columns."""
NAIVE_STEPS = 10
"""Steps of the same search in the naive network, each of NAIVE_BATCH draws.

A longer search ends with the best imitations of the label that the naive network can draw. A network that is
trained to answer with these draws them for more columns than one that never saw the label, and a search that
has no image of the label finds them (docs/decisions/0168).
"""
NAIVE_BATCH = 64


class ColumnAdversary:
    """Columns that are fitted to the labels' draws in a decoder, while the decoder is trained against them.

    In every step, the columns move so that the decoder draws the labels' images at the latents of these
    images, and the decoder moves so that with these columns it draws what the naive network draws there with
    columns that were fitted to the same images. So it is to know as much of the labels as a network that
    never saw them, and no less: trained away from the labels without such a target, it draws them worse than
    networks do that never saw them.
    """

    def __init__(
        self,
        network: Network,
        naive: Network,
        labels: Source,
        forgotten: Sequence[int],
        retained: Sequence[int],
        context: TrainingContext,
    ) -> None:
        """Draw the labels' images, and fit columns of the naive network to them.

        network: the one that is trained. naive: see `surrogates.naive_network`. labels: draws of the old
        network, with their latents, of the slots `forgotten`. retained: the slots of the other labels; the
        columns start at random mixtures of theirs.
        """
        self._generator = context.generator("column adversary")
        drawn = list(draw_batches(labels, ADVERSARY_DRAWS, network.prior_mean.device, BATCH))
        self._images = torch.cat([one.images for one in drawn])
        latents = torch.cat([latents_of(one) for one in drawn])
        self._rows = self._columns_of(torch.cat([one.slots for one in drawn]), forgotten)
        count = COLUMNS * len(forgotten)
        of_naive = _Search(naive, random_mixtures(naive, retained, count, self._generator))
        answers = self._fit(of_naive, latents, context)
        self._pool = Batch(answers, torch.arange(len(answers), device=answers.device), latents)
        self._search = _Search(network, random_mixtures(network, retained, count, self._generator))

    def draw(self, count: int) -> Batch:
        """Sample what the decoder is trained on: the naive network's answers, with their latents.

        Its `slots` are the numbers of the adversary's draws, as `loss` takes them.
        """
        chosen = torch.randint(len(self._rows), (count,), generator=self._generator)
        return self._pool.at(chosen.to(self._rows.device))

    def loss(self, batch: Batch, masks: Masks) -> Tensor:
        """Compute -log p(x | z, column) of the naive network's answers x, nats, [batch].

        Computes the adversary's own gradient too, which `step` takes.
        """
        rows = self._rows[batch.slots]
        logits = self._search.columns.logits(latents_of(batch), rows, masks)
        self._search.note_gradient(logits, self._images[batch.slots])
        return reconstruction_loss(logits, batch.images)

    def step(self) -> None:
        """Move the columns, in place, towards the labels' draws of the last batch."""
        self._search.step()

    def state(self) -> State:
        """Return what training changes in it, for a snapshot."""
        return self._search.state()

    def restore(self, state: State) -> None:
        """Set it to what `state` returned."""
        self._search.restore(state)

    def _columns_of(self, slots: Tensor, forgotten: Sequence[int]) -> Tensor:
        """Assign each draw one of its label's columns at random, [n]."""
        first = COLUMNS * torch.searchsorted(torch.tensor(sorted(forgotten), device=slots.device), slots)
        within = torch.randint(COLUMNS, slots.shape, generator=self._generator)
        return first + within.to(slots.device)

    def _fit(self, search: "_Search", latents: Tensor, context: TrainingContext) -> Tensor:
        """Fit a frozen network's columns to the labels' images; return what it then draws, [n, pixels]."""
        phase = "fitting columns of the naive network"
        with context.loop(phase, range(NAIVE_STEPS), [search]) as steps:
            for step in steps:
                context.step(phase, step, NAIVE_STEPS)
                chosen = torch.randint(len(latents), (NAIVE_BATCH,), generator=self._generator)
                chosen = chosen.to(latents.device)
                logits = search.columns.logits(latents[chosen], self._rows[chosen])
                search.note_gradient(logits, self._images[chosen])
                search.step()
        with torch.no_grad():
            parts = zip(latents.split(BATCH), self._rows.split(BATCH), strict=True)
            return torch.cat([search.columns.draw(*one) for one in parts])


class _Search:
    """Columns of a decoder, and the optimiser that fits them to images."""

    def __init__(self, network: Network, shares: Tensor) -> None:
        self.columns = LabelColumns(network, shares)
        self._optimiser = Adam([self.columns.columns])
        self._gradients: Sequence[Tensor] = ()

    def note_gradient(self, logits: Tensor, images: Tensor) -> None:
        """Compute the columns' gradient of -log p(images), from logits that were computed with them."""
        loss = reconstruction_loss(logits, images).sum()
        self._gradients = torch.autograd.grad(loss, self.columns.columns, retain_graph=True)

    def step(self) -> None:
        """Take a step of the optimiser along the gradient that was noted last."""
        for column, gradient in zip(self.columns.columns, self._gradients, strict=True):
            column.grad = gradient  # in place of that of the network's own loss
        self._optimiser.step([COLUMN_RATE])

    def state(self) -> State:
        columns = {str(index): one.detach() for index, one in enumerate(self.columns.columns)}
        return {"columns": columns, "moments": self._optimiser.state()}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        for index, column in enumerate(self.columns.columns):
            column.copy_(state["columns"][str(index)])
        self._optimiser.restore(state["moments"])
