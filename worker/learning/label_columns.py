"""Label columns that an attack may change freely, in a decoder whose other weights it leaves as they are.

The column of a label is what the decoder holds for this label alone: its rows of the label embedding tables.
A forgotten label's column is the first thing that a forget changes, and the first that an attacker replaces.
The audit attacks with them, and a forget can train against them (`adversary.py`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from worker.learning.elbo import reconstruction_loss
from worker.learning.networks.network import NO_MASKS, Masks, Network

MIXTURE_SPREAD = 2.0
"""Standard deviation of the logits of a random mixture of columns: some are nearly one column."""


class LabelColumns(nn.Module):
    """A network's decoder with several columns of its own in place of its label tables.

    Latents are decoded with the column that `rows` [n] names. They have the standard prior N(0, I), as the
    latents of a forgotten label. No encoder is used, so only what the decoder holds is found.
    """

    def __init__(self, network: Network, shares: Tensor) -> None:
        """Start at mixtures of the network's columns.

        shares: [columns, slots], the share of each slot's column. The columns are copies: training the
        network does not change them, nor the other way round.
        """
        super().__init__()
        self.network = network
        self._tables = {
            f"network.{name}": torch.tensordot(
                shares.to(table.device), table.detach(), dims=1
            ).requires_grad_()
            for name, table in label_tables(network).items()
        }

    @property
    def columns(self) -> list[Tensor]:
        """The columns, [columns, ...] for each label table."""
        return list(self._tables.values())

    def forward(self, latents: Tensor, rows: Tensor, masks: Masks) -> Tensor:
        return self.network.decode(latents, rows, masks)

    def logits(self, latents: Tensor, rows: Tensor, masks: Masks = NO_MASKS) -> Tensor:
        """Decode latents [n, latent] with the columns of `rows` [n]: logits [n, pixels]."""
        logits: Tensor = functional_call(self, self._tables, (latents, rows, masks))
        return logits

    def draw(self, latents: Tensor, rows: Tensor) -> Tensor:
        """Return the mean images [n, pixels], in [0, 1], of latents [n, latent] with columns `rows` [n]."""
        images: Tensor = self.logits(latents, rows).sigmoid()
        return images

    def negative_elbo(
        self, images: Tensor, rows: Tensor, mean: Tensor, logvar: Tensor, noise: Tensor
    ) -> Tensor:
        """Compute -ELBO of the posterior N(mean, exp(logvar)) under the prior N(0, I), nats, [n].

        images: [n, pixels]; mean, logvar, noise: [n, latent]. See `elbo.negative_elbo`.
        """
        logits = self.logits(mean + noise * (0.5 * logvar).exp(), rows)
        divergence = 0.5 * (logvar.exp() + mean.square() - 1 - logvar).sum(dim=1)
        negative_elbo: Tensor = reconstruction_loss(logits, images) + divergence
        return negative_elbo


def label_tables(network: Network) -> dict[str, Tensor]:
    """Return the label embedding tables of the decoder by name, [slots, ...] each.

    A network that a package brings may have none.
    """
    return {
        name: table
        for name, table in network.named_parameters()
        if name.startswith("decoder.") and name.endswith(".label")
    }


def starting_shares(
    network: Network, slot: int, kept: Sequence[int], count: int, generator: torch.Generator
) -> Tensor:
    """Return the shares of the columns that a search starts at, [count, slots].

    The first is the label's own column, the second is empty, the third the mean of the kept labels', where a
    new label starts (docs/decisions/0051). The others are random mixtures of the kept labels' columns.
    """
    shares = torch.zeros(max(count, 3), len(network.prior_mean))
    shares[0, slot] = 1
    if kept:
        shares[2:] = random_mixtures(network, kept, len(shares) - 2, generator)
        shares[2, list(kept)] = 1 / len(kept)
    return shares[:count]


def random_mixtures(network: Network, kept: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Return the shares of random mixtures of the kept labels' columns, [count, slots]."""
    shares = torch.zeros(count, len(network.prior_mean))
    logits = MIXTURE_SPREAD * torch.randn(count, len(kept), generator=generator)
    shares[:, list(kept)] = logits.softmax(dim=1)
    return shares
