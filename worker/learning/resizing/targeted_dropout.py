"""Targeted unit dropout: train a network to do without its least important units, then remove them.

Gomez et al. 2019; the paper's section 4.2.1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from worker.learning.networks.network import NO_MASKS, Masks, Network, Seam, Use
from worker.learning.strategy import Batch

RAMP_UNTIL = 0.5  # by half of the training the whole share is at risk ...
SETTLED_FROM = 0.8  # ... and for the last fifth the choice of units no longer changes


class TargetedDropout:
    """Masks for one training: the bottom `share` of each hidden layer's units are dropped with `probability`.

    Importance of a unit: the L2 norm of its incoming weights, label columns left out. One draw a unit and
    step. Both figures ramp up linearly; the choice is settled for the last fifth. At probability 1 the
    network then trains as if the units were gone, and removing them changes nothing.
    """

    def __init__(
        self, network: Network, share: float, probability: float, generator: torch.Generator
    ) -> None:
        self._network = network
        self._share = share
        self.probability = probability
        self._generator = generator
        self._settled: dict[str, Tensor] | None = None

    def masks(self, done: float) -> Masks:
        """The masks of the step after the share `done` of the training."""
        if self._share == 0:
            return NO_MASKS
        if self._settled is None and done >= SETTLED_FROM:
            self._settled = self._candidates(self._share)
        ramp = min(1.0, done / RAMP_UNTIL)
        candidates = self._settled or self._candidates(self._share * ramp)
        return {layer: self._mask(layer, units, ramp) for layer, units in candidates.items()}

    def kept(self) -> dict[str, Tensor]:
        """Hidden layer -> sorted indices (on the CPU) of the units that stay: all but the bottom `share`."""
        candidates = self._settled or self._candidates(self._share)
        kept = {}
        for layer, units in candidates.items():
            stays = torch.ones(self._width(layer), dtype=torch.bool)
            stays[units.cpu()] = False
            kept[layer] = stays.nonzero().flatten()
        return kept

    @property
    def still_took_part(self) -> float:
        """How much of a unit at risk was there at the end: all of it in a training too short to settle."""
        return 1.0 if self._settled is None else 1 - self.probability

    def _candidates(self, share: float) -> dict[str, Tensor]:
        chosen = {}
        for seam in self._network.seams():
            importance = self._network.get_parameter(f"{seam.layer}.weight").detach().norm(dim=1)
            count = min(int(share * len(importance)), len(importance) - 1)
            chosen[seam.layer] = importance.argsort(stable=True)[:count]
        return chosen

    def _mask(self, layer: str, units: Tensor, ramp: float) -> Tensor:
        dropped = torch.rand(len(units), generator=self._generator) < self.probability * ramp
        mask = torch.ones(self._width(layer))
        mask[units.cpu()[dropped]] = 0
        return mask.to(units.device)

    def _width(self, layer: str) -> int:
        return len(self._network.get_parameter(f"{layer}.bias"))


def mean_activations(network: Network, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """E[h] of every hidden unit, layer -> [units] on the CPU, with z at the posterior mean."""
    totals: dict[str, Tensor] = {}
    examples = 0
    with torch.no_grad():
        for batch in batches:
            uses: list[Use] = []
            mean, _ = network.encode(batch.images, batch.slots, uses=uses)
            network.decode(mean, batch.slots, uses=uses)
            entered = {use.layer: use.entered for use in uses}
            for seam in network.seams():
                activation = per_unit(network, seam, entered[seam.following]).mean(dim=2).sum(dim=0).cpu()
                totals[seam.layer] = totals.get(seam.layer, 0) + activation
            examples += len(batch.slots)
    return {layer: total / examples for layer, total in totals.items()}


def per_unit(network: Network, seam: Seam, entered: Tensor) -> Tensor:
    """What the following layer receives, [batch, in, ...], as [batch, units, entries of a unit]."""
    units = len(network.get_parameter(f"{seam.layer}.bias")) // seam.rows
    return entered.reshape(len(entered), units, -1)
