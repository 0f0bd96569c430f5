"""Predicts what removing hidden units costs, to second order and for any set of them; and removes them.

Removing a unit is the same as zeroing its outgoing weights w and adding w E[h] to the next bias: a
displacement d of those weights alone, which takes the unit's activation from h to E[h]. The loss is that of
matching the network's own function on replay of the labels to retain (`replay_losses.distillation_loss`):

    L(theta + d) - L(theta) = g.d + 1/2 d'Hd + O(d^3), and here g = 0 and d'Hd = E[(s . removed)^2].

The network is its own teacher, so L is at its minimum (but for posteriors narrower than the loss imitates, of
which there should be none). Hence the gradient g is 0, and the Hessian is exactly the Gauss-Newton matrix
J'CJ, with J the Jacobian of the outputs (posterior mean and logvar, pixel logits) and C the diagonal
curvature of the loss in the outputs. With random signs e, E[ee'] = I, the vector s = e' C^(1/2) J is one
backward pass for each example. So a single pass predicts the loss of every set of units, interactions
included.
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
from worker.learning.networks.network import Network, PrunableLayer, Use
from worker.learning.replay_losses import MIN_TEACHER_LOGVAR, distillation_loss, latents_of
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.units.resize import UnitIndices, UnitMask, shrink
from worker.learning.units.targeted_dropout import by_column, mean_activations

Scope = Literal["layer", "network"]
TaylorExamples = Annotated[
    int,
    Field(ge=1, le=20_000, description="Number of draws that the importance of units is measured on."),
]


@dataclass(frozen=True)
class Curvature:
    """How the loss curves in the activity of each hidden unit. All tensors are on the CPU."""

    widths: Mapping[str, int]  # hidden layer -> units
    scores: Tensor  # [examples, units of all layers in the order of widths], s; in nats^(1/2)
    mean_activation: Mapping[str, Tensor]  # hidden layer -> E[h], as `shrink` takes it

    @property
    def removal_costs(self) -> Tensor:
        """The predicted loss change of removing each single unit, [units of all layers], nats an example."""
        changes: Tensor = 0.5 * self.scores.square().mean(dim=0)
        return changes


@dataclass(frozen=True)
class RemovalOrder:
    """Units in the order in which they are best removed, and the predicted loss change after each removal."""

    units: tuple[tuple[str, int], ...]  # hidden layer, index of the unit
    changes: tuple[float, ...]  # nats an example, of this unit and all before it together

    def first(self, count: int, widths: Mapping[str, int]) -> UnitMask:
        """Mark the first `count` units. widths: hidden layer -> units."""
        removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in widths.items()}
        for layer, unit in self.units[:count]:
            removed[layer][unit] = True
        return removed


def replay_sample(checkpoint: Checkpoint, count: int, context: TrainingContext) -> Sequence[Batch]:
    """Draw `count` examples of the retained labels, equally often, from the checkpoint's main network."""
    teacher = frozen(checkpoint, context.device)
    slots = sorted(checkpoint.retained.values())
    source = generative_replay(teacher, slots, context.generator("replay for the curvature"))
    draws: list[Batch] = []
    for batch in draw_batches(source, count, context.device):
        draws.append(batch)
        context.step("drawing replay", sum(len(one.slots) for one in draws), count)
    return draws


def measure_curvature(network: Network, batches: Sequence[Batch], context: TrainingContext) -> Curvature:
    """Measure the curvature, by one forward and one backward pass an example.

    batches: the network's own draws of the labels to retain.
    """
    network.requires_grad_(True)
    generator = context.generator("curvature")
    layers, means = network.prunable_layers(), mean_activations(network, batches)
    rows = []
    for index, batch in enumerate(batches):
        context.step("measuring curvature", index, len(batches))
        uses: list[Use] = []
        mean, logvar = network.encode(batch.images, batch.slots, uses=uses)
        logits = network.decode(latents_of(batch), batch.slots, uses=uses)
        inputs = {use.layer: use.inputs for use in uses}
        hidden = [inputs[layer.following] for layer in layers]
        pulls = [_with_random_signs(root, generator) for root in _root_curvature(logvar, logits)]
        # Their product, not grad_outputs, for which torch imports sympy: seconds of a worker's first job.
        pulled = [(out * pull).sum() for out, pull in zip((mean, logvar, logits), pulls, strict=True)]
        gradients = torch.autograd.grad(torch.stack(pulled).sum(), hidden)
        scores = [
            _scores(layer, activation, gradient, means[layer.name])
            for layer, activation, gradient in zip(layers, hidden, gradients, strict=True)
        ]
        rows.append(torch.cat(scores, dim=1))
    widths = {layer.name: len(means[layer.name]) // layer.columns for layer in layers}
    return Curvature(widths, torch.cat(rows), means)


def _scores(layer: PrunableLayer, activation: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """Compute gradient . (E[h] - h), summed over the entries of each unit, [batch, units] on the CPU."""
    displacement = mean.to(activation)[:, None] - by_column(activation)
    products = (by_column(gradient) * displacement).sum(dim=2).detach().cpu()
    return products.reshape(len(products), -1, layer.columns).sum(dim=2)


def predicted_loss_change(curvature: Curvature, removed: UnitMask) -> float:
    """Predict what removing these units adds to the loss before any training: 1/2 E[(s . removed)^2].

    In nats an example.
    """
    chosen = torch.cat([removed[layer] for layer in curvature.widths])
    return 0.5 * curvature.scores[:, chosen].sum(dim=1).square().mean().item()


def measured_loss_change(
    checkpoint: Checkpoint, resized: Checkpoint, batches: Iterable[Batch], device: torch.device
) -> float:
    """Measure L(resized) - L(checkpoint): how much worse `resized` matches the checkpoint's function.

    batches: draws of the checkpoint with their latents, on `device`. In nats an example.
    """
    teacher, network = frozen(checkpoint, device), frozen(resized, device)
    with torch.no_grad():
        changes = [
            distillation_loss(network, teacher, batch) - distillation_loss(teacher, teacher, batch)
            for batch in batches
        ]
    return torch.cat(changes).mean().item()


def remove_units(checkpoint: Checkpoint, removed: UnitMask, curvature: Curvature) -> Checkpoint:
    """Return the checkpoint less these units, their mean activation added to the next bias."""
    return shrink(checkpoint, kept_units(removed), curvature.mean_activation)


def kept_units(removed: UnitMask) -> UnitIndices:
    """List the units that are not removed."""
    return {layer: (~chosen).nonzero().flatten() for layer, chosen in removed.items()}


def least_important_units(curvature: Curvature, share: float, scope: Scope) -> UnitMask:
    """Mark the units that are best removed: a share of every layer, or of the whole network."""
    widths = curvature.widths
    if scope == "layer":
        order = removal_order(curvature, {layer: int(share * width) for layer, width in widths.items()})
    else:
        order = removal_order(curvature, widths, int(share * sum(widths.values())))
    return order.first(len(order.units), widths)


def removal_order(curvature: Curvature, most: Mapping[str, int], total: int | None = None) -> RemovalOrder:
    """Order units by greedy backward elimination: next is always the unit that is cheapest to remove.

    most: hidden layer -> the most units to take from it; a layer always keeps one. total: stop after so many.
    Removing unit u after the set S adds 1/2 Q_uu + sum over v in S of Q_uv, with Q = E[ss'].
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
    """Compute C^(1/2), the root of the loss's curvature in the posterior's mean and logvar and in the logits.

    The network is its own teacher. KL(N(m, v) || N(m_t, v_t)) has the second derivatives 1/v_t in the mean
    and v / (2 v_t) in the logvar, where v_t = v unless v is narrower than the loss imitates. A pixel's
    binary cross-entropy has p (1 - p).
    """
    imitated = logvar.clamp(min=MIN_TEACHER_LOGVAR)
    mean_image = logits.sigmoid()
    of_logvar = (0.5 * (logvar - imitated).exp()).sqrt()
    return (-0.5 * imitated).exp(), of_logvar, (mean_image * (1 - mean_image)).sqrt()
