"""Predict the loss change from removing any set of hidden units, to second order; and remove them.

Removing a unit equals setting its outgoing weights w to zero and adding w E[h] to the next bias, with h the
unit's activation: a displacement d of parameters that replaces h by E[h]. The loss L is that of matching the
network's own function on replay of the retained labels (`replay_losses.distillation_loss`):

    L(theta + d) - L(theta) = g^T d + 1/2 d^T H d + O(|d|^3), and here g = 0 and d^T H d = E[(s^T r)^2],

with r in {0, 1} the indicator of the removed units and s a score of each unit on an example (`scores`). The
network is its own teacher, so L is at its minimum, except for posteriors narrower than MIN_TEACHER_LOGVAR, of
which there should be none. Hence the gradient g is 0, and the Hessian H is exactly the Gauss-Newton matrix
E[J^T C J], with J the Jacobian of the outputs (posterior mean and logvar, pixel logits) and C the diagonal
second derivative of the loss in the outputs. For random signs e, E[e e^T] = I, so
E[(e^T C^(1/2) J d)^2] = E[d^T J^T C J d] = d^T H d. One backward pass over a batch gives e^T C^(1/2) J for
every example of it. With d the sum of the displacements of the removed units, e^T C^(1/2) J d = s^T r, where
s holds the product of e^T C^(1/2) J with the displacement of each unit. So one pass over the batches predicts
the loss change of every set of units, including their interactions.
Source: Molchanov et al. 2017 (arXiv:1611.06440), taken to second order; Schraudolph 2002 for the Gauss-Newton
products.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import frozen
from worker.learning.networks.network import LayerCall, Network, PrunableLayer
from worker.learning.replay_losses import MIN_TEACHER_LOGVAR, distillation_loss, latents_of
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.units.resize import UnitIndices, UnitMask, shrink
from worker.learning.units.targeted_dropout import by_column, mean_activations

Scope = Literal["layer", "network"]
TaylorExamples = Annotated[
    int,
    Field(ge=1, le=20_000, description="Number of draws on which the importance of units is measured."),
]


@dataclass(frozen=True)
class Curvature:
    """The curvature of the loss in the removal of hidden units. All tensors are on the CPU."""

    widths: Mapping[str, int]  # hidden layer -> units
    scores: Tensor  # [examples, units of all layers in the order of widths], s; in nats^(1/2)
    mean_activation: Mapping[str, Tensor]  # hidden layer -> E[h], as `shrink` takes it

    @property
    def removal_costs(self) -> Tensor:
        """The predicted loss change of removing each single unit, [units of all layers], nats per example."""
        changes: Tensor = 0.5 * self.scores.square().mean(dim=0)
        return changes


@dataclass(frozen=True)
class RemovalOrder:
    """Units in the order in which to remove them, and the predicted loss change after each removal."""

    units: tuple[tuple[str, int], ...]  # hidden layer, index of the unit
    changes: tuple[float, ...]  # nats per example, of removing this unit and all before it

    def first(self, count: int, widths: Mapping[str, int]) -> UnitMask:
        """Mark the first `count` units. widths: hidden layer -> units."""
        removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in widths.items()}
        for layer, unit in self.units[:count]:
            removed[layer][unit] = True
        return removed


def replay_sample(checkpoint: Checkpoint, count: int, context: TrainingContext) -> Sequence[Batch]:
    """Draw `count` examples from the checkpoint's main network, with equal shares of the retained labels."""
    teacher = frozen(checkpoint, context.device)
    slots = sorted(checkpoint.retained.values())
    source = generative_replay(teacher, slots, context.generator("replay for the curvature"))
    draws: list[Batch] = []
    for batch in draw_batches(source, count, context.device):
        draws.append(batch)
        context.step("drawing replay", sum(len(one.slots) for one in draws), count)
    return draws


def measure_curvature(network: Network, batches: Sequence[Batch], context: TrainingContext) -> Curvature:
    """Measure the curvature by one forward and one backward pass over the batches.

    batches: the network's own draws of the retained labels, with their latents.
    """
    network.requires_grad_(True)
    generator = context.generator("curvature")
    layers, means = network.prunable_layers(), mean_activations(network, batches)
    rows = []
    for index, batch in enumerate(batches):
        context.step("measuring curvature", index, len(batches))
        calls: list[LayerCall] = []
        mean, logvar = network.encode(batch.images, batch.slots, calls=calls)
        logits = network.decode(latents_of(batch), batch.slots, calls=calls)
        inputs = {call.layer: call.inputs for call in calls}
        hidden = [inputs[layer.following] for layer in layers]
        signed = [_with_random_signs(root, generator) for root in _root_curvature(logvar, logits)]
        # Their products with the outputs, rather than grad_outputs, for which torch imports sympy: that takes
        # seconds of a worker's first job.
        products = [(out * root).sum() for out, root in zip((mean, logvar, logits), signed, strict=True)]
        gradients = torch.autograd.grad(torch.stack(products).sum(), hidden)
        scores = [
            _scores(layer, activation, gradient, means[layer.name])
            for layer, activation, gradient in zip(layers, hidden, gradients, strict=True)
        ]
        rows.append(torch.cat(scores, dim=1))
    widths = {layer.name: len(means[layer.name]) // layer.columns_per_unit for layer in layers}
    return Curvature(widths, torch.cat(rows), means)


def _scores(layer: PrunableLayer, activation: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """Compute gradient * (E[h] - h), summed over the entries of each unit, [batch, units] on the CPU."""
    displacement = mean.to(activation)[:, None] - by_column(activation)
    products = (by_column(gradient) * displacement).sum(dim=2).detach().cpu()
    return products.reshape(len(products), -1, layer.columns_per_unit).sum(dim=2)


def predicted_loss_change(curvature: Curvature, removed: UnitMask) -> float:
    """Predict the loss change from removing these units, before any training: 1/2 E[(s^T r)^2].

    In nats per example.
    """
    chosen = torch.cat([removed[layer] for layer in curvature.widths])
    return 0.5 * curvature.scores[:, chosen].sum(dim=1).square().mean().item()


def measured_loss_change(
    checkpoint: Checkpoint, resized: Checkpoint, batches: Iterable[Batch], device: torch.device
) -> float:
    """Measure L(resized) - L(checkpoint) in nats per example, with L the loss of matching the checkpoint.

    batches: draws of the checkpoint with their latents, on `device`.
    """
    teacher, network = frozen(checkpoint, device), frozen(resized, device)
    with torch.no_grad():
        changes = [
            distillation_loss(network, teacher, batch) - distillation_loss(teacher, teacher, batch)
            for batch in batches
        ]
    return torch.cat(changes).mean().item()


def remove_units(checkpoint: Checkpoint, removed: UnitMask, curvature: Curvature) -> Checkpoint:
    """Return the checkpoint without these units; their mean contribution is added to the next bias."""
    return shrink(checkpoint, kept_units(removed), curvature.mean_activation)


def kept_units(removed: UnitMask) -> UnitIndices:
    """List the units that are not removed."""
    return {layer: (~chosen).nonzero().flatten() for layer, chosen in removed.items()}


def least_important_units(curvature: Curvature, share: float, scope: Scope) -> UnitMask:
    """Mark the units whose removal changes the loss least: a share of each layer, or of the network."""
    widths = curvature.widths
    if scope == "layer":
        order = removal_order(curvature, {layer: int(share * width) for layer, width in widths.items()})
    else:
        order = removal_order(curvature, widths, int(share * sum(widths.values())))
    return order.first(len(order.units), widths)


def removal_order(curvature: Curvature, most: Mapping[str, int], total: int | None = None) -> RemovalOrder:
    """Order units by greedy backward elimination: the next unit is always the cheapest one to remove.

    most: hidden layer -> maximum number of units to remove from it; a layer always keeps one. total: maximum
    number of units to remove in all. Removing unit u after the set S adds 1/2 Q_uu + sum over v in S of Q_uv
    to the predicted loss change, with Q = E[s s^T].
    """
    widths = curvature.widths
    names = [(layer, unit) for layer, width in widths.items() for unit in range(width)]
    layer_of = torch.arange(len(widths)).repeat_interleave(torch.tensor([*widths.values()]))
    left = torch.tensor([min(most[layer], width - 1) for layer, width in widths.items()])
    products = curvature.scores.T @ curvature.scores / len(curvature.scores)  # Q, [units, units]
    cost, taken = 0.5 * products.diag(), torch.zeros(len(names), dtype=torch.bool)
    chosen, costs = [], []
    for _ in range(int(left.sum()) if total is None else min(total, int(left.sum()))):
        unit = int(cost.masked_fill(taken | (left[layer_of] == 0), torch.inf).argmin())
        chosen.append(names[unit])
        costs.append(cost[unit].item())
        taken[unit] = True
        left[layer_of[unit]] -= 1
        cost = cost + products[unit]
    return RemovalOrder(tuple(chosen), tuple(itertools.accumulate(costs)))


def _with_random_signs(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    signs = 2 * torch.randint(2, magnitude.shape, generator=generator) - 1
    return magnitude.detach() * signs.to(magnitude)


def _root_curvature(logvar: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute C^(1/2), with C the second derivatives of the loss in the mean, the logvar and the logits.

    The network is its own teacher. KL(N(m, v) || N(m_t, v_t)) has the second derivatives 1/v_t in the mean
    and v / (2 v_t) in the logvar, where v_t = max(v, exp(MIN_TEACHER_LOGVAR)). The binary cross-entropy of a
    pixel has p (1 - p) in its logit, with p the mean image.
    """
    imitated = logvar.clamp(min=MIN_TEACHER_LOGVAR)
    mean_image = logits.sigmoid()
    of_logvar = (0.5 * (logvar - imitated).exp()).sqrt()
    return (-0.5 * imitated).exp(), of_logvar, (mean_image * (1 - mean_image)).sqrt()
