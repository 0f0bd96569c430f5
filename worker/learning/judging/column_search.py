"""The free-column search: look for a column with which a frozen decoder draws a label again.

The recovery attack (recovery.py) searches mixtures of the columns that the network has. This one may set all
numbers of the column. It asks whether the decoder's other weights still hold the label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.adam import Adam
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.label_columns import LabelColumns, starting_shares
from worker.learning.networks.network import Network
from worker.learning.strategy import TrainingContext


@dataclass(frozen=True)
class ColumnSearch:
    """How many columns the attack searches for, and how long."""

    columns: int = 8
    latents: int = 12  # of each column in every step
    draws: int = 40  # with each column at the end
    steps: int = 100
    learning_rate: float = 0.1  # of Adam


def search_columns(
    network: Network,
    slot: int,
    kept: Sequence[int],
    *,
    label: str,
    feature_network: FeatureNetwork,
    search: ColumnSearch,
    context: TrainingContext,
) -> Tensor:
    """Search for columns that draw `label`; return draws with each, [columns, draws, pixels] in [0, 1].

    Minimises E over z ~ N(0, I) of -log p(label | decode(z, column)) over each column, with Adam. p is given
    by the feature network. Every step has new latents, and so have the draws: a column that draws the label
    for a few latents only is not found. The columns start as `starting_shares` says.

    network: on the CPU, without gradients. slot: the label's own. kept: the slots of its other labels.
    label: what the feature network calls it.
    """
    phase = f"column search for {label}"
    generator = context.generator(phase)
    columns = LabelColumns(network, starting_shares(network, slot, kept, search.columns, generator))
    optimiser = Adam([columns.columns])

    def draw(count: int) -> Tensor:
        rows = torch.arange(search.columns).repeat_interleave(count)
        return columns.draw(torch.randn(len(rows), network.latent, generator=generator), rows)

    for step in range(search.steps):
        context.step(phase, step, search.steps)
        loss = feature_network.negative_log_probability(draw(search.latents), label).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step([search.learning_rate])
    with torch.no_grad():
        return draw(search.draws).view(search.columns, search.draws, -1)
