"""Regularize, expand and compress: search for a larger child, teach it, distil it back to the old size."""

from collections.abc import Callable, Mapping

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.memory import remembered
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.replay import real, replay
from worker.learning.resizing.search import Sources, TournamentParams, child_of, in_reach, tournament
from worker.learning.resizing.taylor import curvature, removal_order, without
from worker.learning.resizing.taylor_prune import matched, replay_set
from worker.learning.resizing.units import seams_of, width
from worker.learning.slots import with_labels
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule

TAYLOR_EXAMPLES = 2000


class RecParams(HoldingParams, TournamentParams):
    search: Schedule = Schedule(steps=300)
    compression: Schedule = Schedule(steps=500, learning_rate=4e-3)
    common_subset: float = Field(
        1e-3, ge=0, le=100, description="of the l2,1 norm over rows of old and new weights, nats"
    )
    new_l1: float = Field(
        1e-4, ge=0, le=100, description="of the l1 norm of added units and new label columns, nats"
    )


@strategy(
    "learn", "rec", RecParams, source="REC of Zhang et al. 2020; halving as in Jamieson & Talwalkar 2016"
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: RecParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels in the best of several larger networks, then distil it back to the size it came from.

    The child is the one of +0 to +40 % units with the least validation -ELBO + mu * parameters after short
    probes, by successive halving. It minimises the loss of `replay_ewc`, plus
    a sum over rows |(theta*_row, theta_row)|_2 + b |theta_new|_1; then the units above the old widths that
    are predicted to be missed least go, and what stays is trained to be the child on its own draws.
    The first labels of all are learnt without any of this.
    """
    target = with_labels(checkpoint, examples.labels, examples.dataset)
    old = sorted(checkpoint.held.values())
    if not old:
        return taught(target, examples.images, old, params, context)
    teacher = frozen(target, context.device)

    probed, validated = set_apart(examples.images)

    def sources_for(purpose: str) -> Sources:
        images = validated if purpose == "validation" else probed
        new = real(images, target.held, context.generator(f"examples of {purpose}"))
        kept = replay(teacher, old, context.generator(f"replay of {purpose}"))
        return [(new, float(len(examples.labels))), (kept, float(len(old)))]

    children = {share: child_of(target, share, context) for share in in_reach(target)}
    winner, rungs = tournament(children, sources_for, params, params.search, context)
    context.findings["search"] = {"rungs": rungs, "chosen": winner, "mu": params.mu}
    child = children[winner]
    if params.ewc_strength > 0:
        child = remembered(child, old, context, examples=params.fisher_examples)
    learnt = taught(
        child,
        examples.images,
        old,
        params,
        context,
        forgotten=sorted(target.forgotten.values()),
        regulariser=consolidation(target, child, [target.held[name] for name in examples.labels], params),
    )
    return compressed(learnt, target, params, context)


def set_apart(images: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the probes learn from, and the tenth that they are compared on; of a single image, both."""
    tenth = {name: max(1, len(one) // 10) for name, one in images.items()}
    shown = {name: one[tenth[name] :] if len(one) > 1 else one for name, one in images.items()}
    return shown, {name: one[: tenth[name]] for name, one in images.items()}


def consolidation(
    before: Checkpoint, child: Checkpoint, new_slots: list[int], params: RecParams
) -> Callable[[Network], Tensor]:
    """a sum over rows of hidden layers |(theta*_row, theta_row)|_2 + b |theta_new|_1, in nats an example.

    theta_new: the incoming weights of units that `before` lacks, and the columns of the new labels.
    """
    shapes = {seam.layer: len(before.weights[f"{seam.layer}.bias"]) for seam in seams_of(before)}
    anchors = {layer: child.weights[f"{layer}.weight"].flatten(1)[:rows] for layer, rows in shapes.items()}

    def penalty(network: Network) -> Tensor:
        common, specific = [], []
        for layer, rows in shapes.items():
            weight = network.get_parameter(f"{layer}.weight").flatten(1)
            both = torch.cat([anchors[layer].to(weight.device), weight[:rows]], dim=1)
            common.append(both.norm(dim=1).sum())
            specific.append(weight[rows:].abs().sum())
        for name, tensor in network.named_parameters():
            if name.endswith(".label"):
                specific.append(tensor[new_slots].abs().sum())
        return params.common_subset * torch.stack(common).sum() + params.new_l1 * torch.stack(specific).sum()

    return penalty


def compressed(
    learnt: Checkpoint, before: Checkpoint, params: RecParams, context: TrainingContext
) -> Checkpoint:
    """The learnt network at the widths of `before`."""
    extra = surplus(learnt, before)
    if not any(extra.values()):
        return learnt
    draws = replay_set(learnt, TAYLOR_EXAMPLES, context)
    around = curvature(build(learnt, context.device), draws, context)
    removed = removal_order(around, extra).first(sum(extra.values()), around.widths)
    smaller = without(learnt, removed, around)
    return matched(learnt, smaller, params.compression, params.fisher_examples, context)


def surplus(learnt: Checkpoint, before: Checkpoint) -> Mapping[str, int]:
    """How many units each hidden layer has more than it had."""
    return {seam.layer: width(learnt, seam) - width(before, seam) for seam in seams_of(learnt)}
