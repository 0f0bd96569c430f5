"""Targeted dropout: drop the least important units or weights in training, so that they can be removed.

Source: Gomez et al. 2019 (arXiv:1905.13678); the paper, section 4.2.1.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import weights_of
from worker.learning.networks.network import NO_MASKS, LayerCall, Masks, Network, PrunableLayer
from worker.learning.resuming import State
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.units.resize import shrink

RAMP_UNTIL = 0.5  # of the training: the share at risk grows until then
FIXED_FROM = 0.8  # of the training: from then on, the same units or weights are at risk
ACTIVATION_EXAMPLES = 2000  # draws on which the mean activations of removed units are measured

Mode = Literal["unit", "weight"]
DropProbability = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Probability that one of the least important units or weights is dropped, at the end of "
        "training.",
    ),
]


class TargetedDropout:
    """The masks of one training, which drop the least important `share` of each hidden layer at random.

    In mode `unit`, whole units are dropped; their importance is the l2 norm of their incoming weights. In
    mode `weight`, single weights are dropped; their importance is |w|, compared within their unit. Label
    embeddings, the posterior layer and the output layer are never dropped. In every step, each unit (or
    weight) at risk is dropped with `probability`. The share at risk and the probability rise linearly in the
    first half of the training, and what is at risk is fixed in the last fifth: with probability 1 the network
    then trains as if it were removed already, so that removing it changes nothing.
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
        self._fixed: dict[str, Tensor] | None = None

    def masks(self, progress: float) -> Masks:
        """Draw the masks of a step: hidden layer -> mask, in which 1 keeps and 0 drops.

        progress: share of the training that is done, in [0, 1). A mask is [units], or in mode `weight` the
        shape of the layer's weight flattened to [out, inputs].
        """
        if self._share == 0:
            return NO_MASKS
        if self._fixed is None and progress >= FIXED_FROM:
            self._fixed = self._least_important(self._share)
        ramp = min(1.0, progress / RAMP_UNTIL)
        at_risk = self._fixed or self._least_important(self._share * ramp)
        return {layer: self._mask(chosen, ramp) for layer, chosen in at_risk.items()}

    def dropped(self) -> dict[str, Tensor]:
        """Return the units or weights to remove: layer -> bool on the CPU, of the shape of its mask."""
        at_risk = self._fixed or self._least_important(self._share)
        return {layer: chosen.cpu() for layer, chosen in at_risk.items()}

    def state(self) -> State:
        """Return what training changes in it, for a snapshot: the choice, once it is fixed."""
        return {"fixed": self._fixed}

    def restore(self, state: State) -> None:
        """Set it to what `state` returned."""
        device = self._network.prior_mean.device
        fixed = state["fixed"]
        self._fixed = fixed and {layer: chosen.to(device) for layer, chosen in fixed.items()}

    @property
    def remaining_activity(self) -> float:
        """The share of steps at the end of the training in which a unit at risk was active.

        1 if the training was too short to fix the choice.
        """
        return 1.0 if self._fixed is None else 1 - self.probability

    def _least_important(self, share: float) -> dict[str, Tensor]:
        layers = self._network.prunable_layers()
        return {layer.name: smallest_share(self._importance(layer), share) for layer in layers}

    def _importance(self, layer: PrunableLayer) -> Tensor:
        weight = self._network.get_parameter(f"{layer.name}.weight").detach()
        if self._mode == "weight":
            return weight.abs().flatten(1)
        norms: Tensor = weight.reshape(len(weight) // layer.rows_per_unit, -1).norm(dim=1)
        return norms

    def _mask(self, at_risk: Tensor, ramp: float) -> Tensor:
        draws = torch.rand(at_risk.shape, generator=self._generator).to(at_risk.device)
        return 1 - (at_risk & (draws < self.probability * ramp)).float()


def smallest_share(importance: Tensor, share: float) -> Tensor:
    """Mark the smallest `share` of the last axis, rounded down; at least one entry is never marked."""
    size = importance.shape[-1]
    chosen = importance.topk(min(int(share * size), size - 1), dim=-1, largest=False).indices
    return torch.zeros_like(importance, dtype=torch.bool).scatter(-1, chosen, True)


def remove_dropped_units(
    checkpoint: Checkpoint, network: Network, dropout: TargetedDropout, context: TrainingContext
) -> Checkpoint:
    """Return the checkpoint with the trained network's weights, without the units that the training dropped.

    The mean contribution of a removed unit is added to the next bias, times the share of steps in which the
    unit was still active: a unit that was dropped in every step contributed nothing.
    """
    trained = replace(checkpoint, weights=weights_of(network))
    source = generative_replay(
        network, sorted(checkpoint.retained.values()), context.generator("activations")
    )
    means = mean_activations(network, draw_batches(source, ACTIVATION_EXAMPLES, context.device))
    contributed = {layer: dropout.remaining_activity * mean for layer, mean in means.items()}
    kept = {layer: (~removed).nonzero().flatten() for layer, removed in dropout.dropped().items()}
    return shrink(trained, kept, contributed)


def zero_dropped_weights(checkpoint: Checkpoint, network: Network, dropout: TargetedDropout) -> Checkpoint:
    """Return the checkpoint with the trained network's weights; those that the training dropped are zero."""
    weights = weights_of(network)
    for layer, removed in dropout.dropped().items():
        weight = weights[f"{layer}.weight"]
        weights[f"{layer}.weight"] = weight.masked_fill(removed.view_as(weight), 0)
    return replace(checkpoint, weights=weights)


def with_weights_masked(network: Network, masks: Masks, loss: Callable[..., Tensor], *given: Any) -> Tensor:
    """Evaluate loss(*given), which calls the network, with weight * mask in place of each masked weight.

    The network's parameters do not change; the gradient of a masked weight is 0.
    """
    masked = {}
    for layer, mask in masks.items():
        weight = network.get_parameter(f"{layer}.weight")
        masked[f"network.{layer}.weight"] = weight * mask.view_as(weight)
    value: Tensor = torch.func.functional_call(_Evaluated(network, loss), masked, given)
    return value


class _Evaluated(nn.Module):
    """A function of a network as a module that contains the network, as functional_call needs it."""

    def __init__(self, network: Network, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self._function = network, function

    def forward(self, *given: Any) -> Tensor:
        return self._function(*given)


def mean_activations(network: Network, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Average the activation of every hidden unit over the batches: layer -> E[h] on the CPU.

    Each is [units], or [units * columns_per_unit] if a unit feeds several columns of the following layer. The
    decoder is evaluated at the z that an image was drawn from, or else at its posterior mean.
    """
    totals: dict[str, Tensor] = {}
    examples = 0
    with torch.no_grad():
        for batch in batches:
            calls: list[LayerCall] = []
            mean, _ = network.encode(batch.images, batch.slots, calls=calls)
            network.decode(mean if batch.latents is None else batch.latents, batch.slots, calls=calls)
            inputs = {call.layer: call.inputs for call in calls}
            for layer in network.prunable_layers():
                activation = by_column(inputs[layer.following]).mean(dim=2).sum(dim=0).cpu()
                totals[layer.name] = totals.get(layer.name, 0) + activation
            examples += len(batch.slots)
    return {layer: total / examples for layer, total in totals.items()}


def by_column(inputs: Tensor) -> Tensor:
    """Reshape a layer's input, [batch, columns, ...], to [batch, columns, positions]."""
    return inputs.reshape(*inputs.shape[:2], -1)
