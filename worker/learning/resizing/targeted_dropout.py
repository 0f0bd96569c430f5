"""Targeted dropout: train a network to do without its least important units or weights, then give them up.

Gomez et al. 2019; the paper's section 4.2.1.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from worker.learning.networks.network import NO_MASKS, Masks, Network, Seam, Use
from worker.learning.strategy import Batch

RAMP_UNTIL = 0.5  # by half of the training the whole share is at risk ...
SETTLED_FROM = 0.8  # ... and for the last fifth the choice no longer changes

Mode = Literal["unit", "weight"]


class TargetedDropout:
    """Masks for one training: the bottom `share` of each hidden layer is dropped with `probability`.

    `unit`: whole units, by the L2 norm of their incoming weights; `weight`: single weights, by |w| within
    their unit's row. Never the label columns, the mean/logvar heads or the output layer. One draw a unit (or
    weight) and step. Both figures ramp up linearly; the choice is settled for the last fifth. At probability
    1 the network then trains as if what is at risk were gone, and giving it up changes nothing.
    """

    def __init__(
        self,
        network: Network,
        share: float,
        probability: float,
        generator: torch.Generator,
        mode: Mode = "unit",
    ) -> None:
        self._network = network
        self._share = share
        self.probability = probability
        self._generator = generator
        self._mode = mode
        self._settled: dict[str, Tensor] | None = None

    def masks(self, done: float) -> Masks:
        """The masks of the step after the share `done` of the training: hidden layer -> 1 keeps, 0 drops.

        [units], or in weight mode as the layer's weight: [units, in].
        """
        if self._share == 0:
            return NO_MASKS
        if self._settled is None and done >= SETTLED_FROM:
            self._settled = self._least_important(self._share)
        ramp = min(1.0, done / RAMP_UNTIL)
        at_risk = self._settled or self._least_important(self._share * ramp)
        return {layer: self._mask(chosen, ramp) for layer, chosen in at_risk.items()}

    def given_up(self) -> dict[str, Tensor]:
        """Hidden layer -> bool on the CPU, true for the bottom `share`; shaped like the masks."""
        at_risk = self._settled or self._least_important(self._share)
        return {layer: chosen.cpu() for layer, chosen in at_risk.items()}

    @property
    def still_took_part(self) -> float:
        """How much of a unit at risk was there at the end: all of it in a training too short to settle."""
        return 1.0 if self._settled is None else 1 - self.probability

    def _least_important(self, share: float) -> dict[str, Tensor]:
        return {seam.layer: bottom(self._importance(seam), share) for seam in self._network.seams()}

    def _importance(self, seam: Seam) -> Tensor:
        weight = self._network.get_parameter(f"{seam.layer}.weight").detach()
        if self._mode == "weight":
            return weight.abs().flatten(1)
        norms: Tensor = weight.reshape(len(weight) // seam.rows, -1).norm(dim=1)
        return norms

    def _mask(self, at_risk: Tensor, ramp: float) -> Tensor:
        draws = torch.rand(at_risk.shape, generator=self._generator).to(at_risk.device)
        return 1 - (at_risk & (draws < self.probability * ramp)).float()


def bottom(importance: Tensor, share: float) -> Tensor:
    """True for the smallest `share` of the last axis, rounded down; one entry stays whatever the share."""
    size = importance.shape[-1]
    smallest = importance.topk(min(int(share * size), size - 1), dim=-1, largest=False).indices
    return torch.zeros_like(importance, dtype=torch.bool).scatter(-1, smallest, True)


def with_weights_masked(network: Network, masks: Masks, loss: Callable[..., Tensor], *given: Any) -> Tensor:
    """loss(*given), which evaluates the network, as if each masked layer's weight were weight * mask.

    The parameters stay what they are and keep their names; a dropped one has no gradient in the step.
    """
    masked = {}
    for layer, mask in masks.items():
        weight = network.get_parameter(f"{layer}.weight")
        masked[f"network.{layer}.weight"] = weight * mask.view_as(weight)
    value: Tensor = torch.func.functional_call(_Evaluated(network, loss), masked, given)
    return value


class _Evaluated(nn.Module):
    """A function of a network as a module that holds it, as functional_call wants it."""

    def __init__(self, network: Network, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self._function = network, function

    def forward(self, *given: Any) -> Tensor:
        return self._function(*given)


def mean_activations(network: Network, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """E[h] of every hidden unit, layer -> [units] on the CPU, at the z a draw was drawn from.

    Of an image that was drawn from none, at the posterior mean.

    Where a unit is several columns of the following layer, of each of them: [units * columns].
    """
    totals: dict[str, Tensor] = {}
    examples = 0
    with torch.no_grad():
        for batch in batches:
            uses: list[Use] = []
            mean, _ = network.encode(batch.images, batch.slots, uses=uses)
            network.decode(mean if batch.latents is None else batch.latents, batch.slots, uses=uses)
            entered = {use.layer: use.entered for use in uses}
            for seam in network.seams():
                activation = by_column(entered[seam.following]).mean(dim=2).sum(dim=0).cpu()
                totals[seam.layer] = totals.get(seam.layer, 0) + activation
            examples += len(batch.slots)
    return {layer: total / examples for layer, total in totals.items()}


def by_column(entered: Tensor) -> Tensor:
    """What a layer receives, [batch, columns, ...], as [batch, columns, places]."""
    return entered.reshape(*entered.shape[:2], -1)
