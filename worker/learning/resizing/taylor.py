"""What removing hidden units costs: predicted to second order for any set of them, and measured.

Removing a unit is the same function as zeroing its outgoing weights w and adding w E[h] to the next bias: a
displacement d of those weights alone, which takes the unit's activation from h to E[h]. The loss is that of
matching the network's own function on replay of the labels to retain (retention.distillation):

    L(theta + d) - L(theta) = g.d + 1/2 d'Hd + O(d^3), and here g = 0 and d'Hd = E[(s . removed)^2].

The network is its own teacher, so L is at its minimum (but for posteriors narrower than are imitated, of
which there should be none): the gradient g vanishes, and the Hessian is exactly the Gauss-Newton matrix J'CJ,
with J the Jacobian of the outputs (posterior mean and logvar, pixel logits) and C the diagonal curvature of
the loss in them. With random signs e, E[ee'] = I, the vector s = e' C^(1/2) J is one backward pass an
example: a single pass predicts the loss of every set of units, interactions included.
Source: Molchanov et al. 2017, to second order; Schraudolph 2002 for the Gauss-Newton products.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import frozen
from worker.learning.networks.network import Network, Seam, Use
from worker.learning.resizing.targeted_dropout import by_column, mean_activations
from worker.learning.resizing.units import Kept, shrink
from worker.learning.retention import NARROWEST, distillation
from worker.learning.strategy import Batch, TrainingContext

Removed = Mapping[str, Tensor]  # hidden layer -> bool [units], true for the units to remove


@dataclass(frozen=True)
class Curvature:
    """The loss around a network as its hidden units see it. All tensors are on the CPU."""

    widths: Mapping[str, int]  # hidden layer -> units
    scores: Tensor  # [examples, units of all layers in the order of widths], s; in nats^(1/2)
    mean_activation: Mapping[str, Tensor]  # hidden layer -> E[h], as `shrink` takes it

    @property
    def alone(self) -> Tensor:
        """The predicted loss change of each unit's removal, all others there, [units of all layers]."""
        changes: Tensor = 0.5 * self.scores.square().mean(dim=0)
        return changes


def curvature(network: Network, batches: Sequence[Batch], context: TrainingContext) -> Curvature:
    """One forward and one backward an example, a step of the context a batch.

    batches: the network's own draws of the labels to retain.
    """
    network.requires_grad_(True)
    generator = context.generator("curvature")
    seams, means = network.seams(), mean_activations(network, batches)
    rows = []
    for index, batch in enumerate(batches):
        context.step("measuring the curvature", index, len(batches))
        if batch.latents is None:
            raise ValueError("the curvature needs the latents the images were drawn from")
        uses: list[Use] = []
        mean, logvar = network.encode(batch.images, batch.slots, uses=uses)
        logits = network.decode(batch.latents, batch.slots, uses=uses)
        entered = {use.layer: use.entered for use in uses}
        hidden = [entered[seam.following] for seam in seams]
        pulls = [_signed(root, generator) for root in _root_curvature(logvar, logits)]
        # Their product, not grad_outputs, for which torch imports sympy: seconds of a worker's first job.
        pulled = [(out * pull).sum() for out, pull in zip((mean, logvar, logits), pulls, strict=True)]
        gradients = torch.autograd.grad(torch.stack(pulled).sum(), hidden)
        each = zip(seams, hidden, gradients, strict=True)
        rows.append(torch.cat([_score(*one, means[one[0].layer]) for one in each], dim=1))
    widths = {seam.layer: len(means[seam.layer]) // seam.columns for seam in seams}
    return Curvature(widths, torch.cat(rows), means)


def _score(seam: Seam, activation: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """gradient . (E[h] - h), summed over the entries of each unit, [batch, units] on the CPU."""
    away = mean.to(activation)[:, None] - by_column(activation)
    pulled = (by_column(gradient) * away).sum(dim=2).detach().cpu()
    return pulled.reshape(len(pulled), -1, seam.columns).sum(dim=2)


def predicted_change(around: Curvature, removed: Removed) -> float:
    """1/2 E[(s . removed)^2]: what removing these units adds to the loss, nats an example, untrained."""
    chosen = torch.cat([removed[layer] for layer in around.widths])
    return 0.5 * around.scores[:, chosen].sum(dim=1).square().mean().item()


def measured_change(
    checkpoint: Checkpoint, smaller: Checkpoint, batches: Iterable[Batch], device: torch.device
) -> float:
    """L(smaller) - L(checkpoint), nats an example: what matching the checkpoint's function really costs.

    batches: draws of the checkpoint with their latents, on `device`.
    """
    teacher, network = frozen(checkpoint, device), frozen(smaller, device)
    with torch.no_grad():
        changes = [
            distillation(network, teacher, batch) - distillation(teacher, teacher, batch) for batch in batches
        ]
    return torch.cat(changes).mean().item()


def without(checkpoint: Checkpoint, removed: Removed, around: Curvature) -> Checkpoint:
    """The checkpoint less these units, their mean activation folded into the next bias."""
    return shrink(checkpoint, kept_of(removed), around.mean_activation)


def kept_of(removed: Removed) -> Kept:
    return {layer: (~gone).nonzero().flatten() for layer, gone in removed.items()}


@dataclass(frozen=True)
class Order:
    """Units in the order in which they are best removed, and the predicted loss change once each is gone."""

    units: tuple[tuple[str, int], ...]  # hidden layer, unit
    changes: tuple[float, ...]  # nats an example, after so many removals

    def first(self, count: int, widths: Mapping[str, int]) -> Removed:
        removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in widths.items()}
        for layer, unit in self.units[:count]:
            removed[layer][unit] = True
        return removed


def removal_order(around: Curvature, most: Mapping[str, int], total: int | None = None) -> Order:
    """Greedy backward elimination: always the unit whose removal, after those before it, costs least.

    most: hidden layer -> the most units to take from it; a layer always keeps one. total: stop after so many.
    Removing unit u after the set S adds 1/2 Q_uu + sum over v in S of Q_uv, with Q = E[ss'].
    """
    names = [(layer, unit) for layer, width in around.widths.items() for unit in range(width)]
    layer_of = torch.arange(len(around.widths)).repeat_interleave(torch.tensor([*around.widths.values()]))
    left = torch.tensor([min(most[layer], width - 1) for layer, width in around.widths.items()])
    together = around.scores.T @ around.scores / len(around.scores)  # Q, [units, units]
    cost, taken = 0.5 * together.diag(), torch.zeros(len(names), dtype=torch.bool)
    chosen, costs = [], []
    for _ in range(int(left.sum()) if total is None else min(total, int(left.sum()))):
        unit = int(cost.masked_fill(taken | (left[layer_of] == 0), torch.inf).argmin())
        chosen.append(names[unit])
        costs.append(cost[unit].item())
        taken[unit] = True
        left[layer_of[unit]] -= 1
        cost = cost + together[unit]
    return Order(tuple(chosen), tuple(itertools.accumulate(costs)))


def _signed(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    signs = 2 * torch.randint(2, magnitude.shape, generator=generator) - 1
    return magnitude.detach() * signs.to(magnitude)


def _root_curvature(logvar: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C^(1/2) of the loss in posterior mean, logvar and logits, where the network is its own teacher.

    KL(N(m, v) || N(m_t, v_t)) has the second derivatives 1/v_t and v / (2 v_t) there, with v_t = v but for
    posteriors narrower than are imitated; a pixel's BCE has p (1 - p).
    """
    imitated = logvar.clamp(min=NARROWEST)
    mean_image = logits.sigmoid()
    of_logvar = (0.5 * (logvar - imitated).exp()).sqrt()
    return (-0.5 * imitated).exp(), of_logvar, (mean_image * (1 - mean_image)).sqrt()
