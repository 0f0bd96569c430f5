"""Dynamically expandable networks: learn in the units that the new labels reach, and add what is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import HoldingParams, taught
from worker.learning.elbo import negative_elbo
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen, weights_of
from worker.learning.networks.network import Masks, Network, Seam
from worker.learning.prior import fit_priors
from worker.learning.replay import interleave, real, some
from worker.learning.resizing.units import (
    duplicate,
    entries,
    grow_by,
    room,
    scale_incoming,
    seams_of,
    shrink,
    width,
)
from worker.learning.retention import Stream, holding, mean_cost, mixed, replay_loss
from worker.learning.slots import with_slots
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit

VALIDATION_EXAMPLES = 1000
FIT, RETRAIN, EXPAND, SPLIT = 0.15, 0.45, 0.2, 0.2  # shares of the steps

Units = Mapping[str, Tensor]  # hidden layer -> bool [units]
Movable = Mapping[str, Tensor]  # parameter -> bool, shaped like it
Proximal = Callable[[Network, float], None]  # (network, learning rate) -> in place, the step of a penalty


class DenParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1000, learning_rate=4e-3)
    column_l1: float = Field(
        2.5, ge=0, le=1000, description="mu of the l1 norm of the new label columns, nats an example"
    )
    l1: float = Field(
        5e-3, ge=0, le=1000, description="mu of the l1 norm of the subnetwork and of added units, nats"
    )
    group_lasso: float = Field(
        2.5, ge=0, le=1000, description="gamma of the norms of all that enters each added unit, nats"
    )
    reach: float = Field(
        3.0, ge=0, le=100, description="a unit is reached by a weight so many times its layer's RMS"
    )
    added_units: int = Field(
        10, ge=0, le=1000, description="k, units tried in every hidden layer if the loss stays"
    )
    tolerance: float = Field(
        0.01, ge=0, le=10, description="tau: the share by which the loss may exceed that of the probe"
    )
    drift: float = Field(
        1.0,
        ge=0,
        le=100,
        description="sigma: units that moved by more than so many of their norms are split",
    )
    probe_steps: int = Field(100, ge=1, le=100_000, description="training of the probe, on new labels alone")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "den", DenParams, source="DEN of Yoon et al. 2018, from the label columns")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: DenParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels in the units they reach, add units if the loss stays high, and split units that drift.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus the function-matching replay loss over K, plus
    mu |theta_S|_1, over the subnetwork S that the new label columns, fitted sparsely first, reach; over k
    added units a layer, plus mu |.|_1 and gamma sum |theta_g|_2 over all that enters each, if the loss
    exceeds a probe's by more than tau; and once more over copies of the units whose incoming weights moved
    by more than sigma, the originals put back. The penalties are proximal steps: at learning rate r (that of
    the weights), r mu off every value and r gamma off a norm. The first labels of all need none of this.
    """
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    if not checkpoint.held:
        plain = HoldingParams(
            schedule=params.schedule, ewc_strength=0, fisher_examples=params.fisher_examples
        )
        return taught(target, examples.images, [], plain, context)
    lesson = Lesson(target, sorted(checkpoint.held.values()), examples, params, context)
    network = build(target, context.device)
    columns = lesson.label_columns(network)
    lesson.train(
        network, columns, FIT, "fitting the label columns", soft_threshold(columns, params.column_l1)
    )
    reached = reached_units(network, target, lesson.new_slots, params.reach)
    subnetwork = movable(network, target, reached, lesson.new_slots)
    lesson.train(network, subnetwork, RETRAIN, "retraining", soft_threshold(subnetwork, params.l1))
    trained = replace(target, weights=weights_of(network))
    found = {layer: int(units.sum()) for layer, units in reached.items()}
    findings = {"reached": found, "added": {}, "split": {}}
    if lesson.loss(network) > (1 + params.tolerance) * lesson.probe():
        trained, findings["added"] = expanded(trained, lesson)
    trained, findings["split"] = split(trained, target, reached, lesson)
    context.findings["subnetwork"] = findings
    network = build(trained, context.device)
    fit_priors(network, examples.images, trained.held, context)
    return consolidated(trained, network, context, examples=params.fisher_examples)


@dataclass(frozen=True)
class Lesson:
    """What there is to learn and to hold. The teacher is `target`, which has the new slots empty."""

    target: Checkpoint
    old: Sequence[int]
    examples: Examples
    params: DenParams
    context: TrainingContext

    @property
    def new_slots(self) -> list[int]:
        return [self.target.held[name] for name in self.examples.labels]

    def label_columns(self, network: Network) -> dict[str, Tensor]:
        """Only the new labels' columns may move."""
        return {
            name: rows(tensor, self.new_slots) if name.endswith(".label") else none_of(tensor)
            for name, tensor in network.named_parameters()
        }

    def train(self, network: Network, moving: Movable, share: float, phase: str, proximal: Proximal) -> None:
        """Some of the steps, in place, with every value outside `moving` put back after each."""
        teacher = frozen(self.target, self.context.device)
        noise = self.context.generator(f"latent noise, {phase}")
        retain = replay_loss("function", network, teacher, noise)
        still = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}

        def bound(batch: Batch, masks: Masks) -> Tensor:
            return negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, noise))

        new = real(self.examples.images, self.target.held, self.context.generator(f"examples, {phase}"))
        gone = sorted(self.target.forgotten.values())
        streams = [
            Stream(new, float(len(self.new_slots)), bound),
            *holding(network, teacher, self.old, gone, retain, self.context, f"replay, {phase}"),
        ]

        def loss(parts: Parts, done: float) -> Tensor:
            return mean_cost(streams, parts)

        @torch.no_grad()
        def put_others_back() -> None:
            for name, tensor in network.named_parameters():
                tensor.copy_(torch.where(moving[name], tensor, still[name]))

        schedule = self.params.schedule.model_copy(
            update={"steps": max(1, round(share * self.params.schedule.steps))}
        )
        batches = mixed(streams, schedule.batch_size, self.context.device)
        fit(
            network,
            loss,
            batches,
            schedule,
            self.context,
            phase=phase,
            proximal=lambda rate: proximal(network, rate),
            after_step=put_others_back,
        )

    @torch.no_grad()
    def loss(self, network: Network) -> float:
        """Mean -ELBO of the new labels, nats."""
        generator = self.context.generator("validation")
        draws = some(
            real(self.examples.images, self.target.held, generator), VALIDATION_EXAMPLES, self.context.device
        )
        values = [
            negative_elbo(network, one.images, one.slots, network.noise(one.slots, generator))
            for one in draws
        ]
        return torch.cat(values).mean().item()

    def probe(self) -> float:
        """The loss within reach when nothing is held: of a copy trained briefly on the new labels alone."""
        copy, noise = build(self.target, self.context.device), self.context.generator("noise of the probe")

        def loss(parts: Parts, done: float) -> Tensor:
            (new,) = parts
            return negative_elbo(copy, new.images, new.slots, copy.noise(new.slots, noise)).mean()

        schedule = self.params.schedule.model_copy(update={"steps": self.params.probe_steps})
        source = real(self.examples.images, self.target.held, self.context.generator("examples of the probe"))
        batches = interleave([(source, 1.0)], schedule.batch_size, self.context.device)
        fit(copy, loss, batches, schedule, self.context, phase="probing")
        return self.loss(copy)


def reached_units(network: Network, checkpoint: Checkpoint, slots: Sequence[int], reach: float) -> Units:
    """The hidden units that the labels' columns reach: where one is not zero, and on through large weights.

    A weight is large at `reach` times the root mean square of its layer.
    """
    parameters, reached = dict(network.named_parameters()), {}
    for seam in seams_of(checkpoint):
        columns = parameters.get(f"{seam.layer}.label")
        if columns is not None:
            of_unit = columns[slots].detach().abs().sum(dim=0).view(-1, seam.rows).sum(dim=1)
            reached[seam.layer] = of_unit > 0
        weight = parameters.get(f"{seam.following}.weight")
        following = next((one for one in seams_of(checkpoint) if one.layer == seam.following), None)
        if following is None or weight is None:
            continue
        large = weight.detach().abs() > reach * weight.detach().square().mean().sqrt()
        from_unit = large.flatten(2).any(dim=2) if large.dim() > 2 else large
        by_reached = from_unit & reached[seam.layer].repeat_interleave(seam.columns)
        reached[seam.following] = by_reached.any(dim=1).view(-1, following.rows).any(dim=1)
    return reached


def movable(
    network: Network, checkpoint: Checkpoint, units: Units, slots: Sequence[int]
) -> dict[str, Tensor]:
    """The subnetwork of these units: the weights between them, their biases, their columns of the labels."""
    entering, leaving = {}, {}
    for seam in seams_of(checkpoint):
        leaving[seam.layer] = units[seam.layer].repeat_interleave(seam.rows)
        entering[seam.following] = units[seam.layer].repeat_interleave(seam.columns)
    found = {}
    for name, tensor in network.named_parameters():
        layer, _, kind = name.rpartition(".")
        out = leaving.get(layer)
        if kind == "label":
            found[name] = rows(tensor, slots) if out is None else rows(tensor, slots) & out
        elif kind == "bias":
            found[name] = none_of(tensor) if out is None else out
        else:
            into = entering.get(layer)
            found[name] = ~none_of(tensor)
            if out is not None:
                found[name] = found[name] & out.view(-1, *[1] * (tensor.dim() - 1))
            if into is not None:
                found[name] = found[name] & into.view(1, -1, *[1] * (tensor.dim() - 2))
    return found


def expanded(trained: Checkpoint, lesson: Lesson) -> tuple[Checkpoint, dict[str, int]]:
    """With the added units that group lasso left standing, and how many those are in each hidden layer.

    As many are added as a layer has room for; as many are split.
    """
    params, before = lesson.params, {seam.layer: width(trained, seam) for seam in seams_of(trained)}
    if params.added_units == 0:
        return trained, {}
    extra = {seam: min(params.added_units, room(trained, seam)) for seam in seams_of(trained)}
    larger = grow_by(trained, extra, lesson.context.generator("added units"))
    network = build(larger, lesson.context.device)
    fresh = {seam.layer: torch.arange(width(larger, seam)) >= before[seam.layer] for seam in seams_of(larger)}
    moving = touching(network, larger, fresh, lesson.new_slots)
    sparse = soft_threshold(moving, params.l1)
    lasso = group_lasso(larger, fresh, params.group_lasso)

    def both(network: Network, rate: float) -> None:
        sparse(network, rate)
        lasso(network, rate)

    lesson.train(network, moving, EXPAND, "expanding", both)
    return without_silent(replace(larger, weights=weights_of(network)), fresh)


def without_silent(larger: Checkpoint, fresh: Units) -> tuple[Checkpoint, dict[str, int]]:
    """Without those of the fresh units that nothing enters, and how many of the others there are.

    Where weights, bias and label columns are all zero, so is silu(0): removing the unit changes no draw.
    """
    kept, stayed, silent = {}, {}, {}
    for seam in seams_of(larger):
        stays = ~fresh[seam.layer] | (entering_norms(larger.weights, seam) > 0)
        kept[seam.layer] = stays.nonzero().flatten()
        stayed[seam.layer] = int((stays & fresh[seam.layer]).sum())
        silent[seam.layer] = torch.zeros(width(larger, seam) * seam.columns)
    return shrink(larger, kept, silent), stayed


def split(
    trained: Checkpoint, before: Checkpoint, reached: Units, lesson: Lesson
) -> tuple[Checkpoint, dict[str, int]]:
    """With the reached units that drifted put back, and a copy of each that goes on as they had become."""
    drifted = {}
    for seam in seams_of(before):
        units, name = width(before, seam), f"{seam.layer}.weight"
        was = before.weights[name]
        now = trained.weights[name][: len(was), : was.shape[1]]  # what was added since is no drift
        distance, norm = (one.reshape(units, -1).norm(dim=1) for one in (now - was, was))
        moved = distance > lesson.params.drift * norm
        found = (moved & reached[seam.layer].cpu()).nonzero().flatten()
        drifted[seam.layer] = found[: room(trained, seam)]
    count = {layer: len(units) for layer, units in drifted.items()}
    if not any(count.values()):
        return trained, count
    old = {seam.layer: width(trained, seam) for seam in seams_of(trained)}
    doubled = put_back(duplicate(trained, drifted), before, drifted)
    network = build(doubled, lesson.context.device)
    copies = {seam.layer: torch.arange(width(doubled, seam)) >= old[seam.layer] for seam in seams_of(doubled)}
    moving = touching(network, doubled, copies, lesson.new_slots)
    lesson.train(network, moving, SPLIT, "splitting", lambda network, rate: None)
    return replace(doubled, weights=weights_of(network)), count


def put_back(doubled: Checkpoint, before: Checkpoint, units: Mapping[str, Tensor]) -> Checkpoint:
    """The units' incoming weights as they were in `before`; those from units that it lacks stay."""
    weights = dict(doubled.weights)
    for seam in seams_of(doubled):
        chosen = entries(units[seam.layer], seam.rows)
        for kind in ("weight", "bias"):
            name = f"{seam.layer}.{kind}"
            was = before.weights[name]
            restored = weights[name].clone()
            if kind == "weight":
                restored[chosen, : was.shape[1]] = was[chosen]
            else:
                restored[chosen] = was[chosen]
            weights[name] = restored
    return replace(doubled, weights=weights)


def touching(
    network: Network, checkpoint: Checkpoint, units: Units, slots: Sequence[int]
) -> dict[str, Tensor]:
    """What belongs to these units: incoming and outgoing weights, biases, their columns of the labels."""
    found = {name: none_of(tensor) for name, tensor in network.named_parameters()}
    for seam in seams_of(checkpoint):
        ours = units[seam.layer].to(found[f"{seam.layer}.bias"].device)
        out, into = (ours.repeat_interleave(each) for each in (seam.rows, seam.columns))
        incoming, outgoing = found[f"{seam.layer}.weight"], found[f"{seam.following}.weight"]
        incoming |= out.view(-1, *[1] * (incoming.dim() - 1))
        outgoing |= into.view(1, -1, *[1] * (outgoing.dim() - 2))
        found[f"{seam.layer}.bias"] |= out
        if f"{seam.layer}.label" in found:
            label = found[f"{seam.layer}.label"]
            found[f"{seam.layer}.label"] = rows(label, slots) & out
    return found


def soft_threshold(moving: Movable, strength: float) -> Proximal:
    """The proximal step of an l1 penalty: every moving value nearer to zero, and no further."""

    def shrink_values(network: Network, rate: float) -> None:
        for name, tensor in network.named_parameters():
            nearer = tensor.sign() * (tensor.abs() - rate * strength).clamp(min=0)
            tensor.copy_(torch.where(moving[name], nearer, tensor))

    return shrink_values


def group_lasso(checkpoint: Checkpoint, units: Units, strength: float) -> Proximal:
    """The proximal step of a group lasso: all that enters each of these units, one vector, gets shorter."""
    seams = seams_of(checkpoint)

    def shorten(network: Network, rate: float) -> None:
        parameters = dict(network.named_parameters())
        shorter: dict[str, Tensor] = dict(parameters)
        for seam in seams:
            norms = entering_norms(parameters, seam)
            factors = (1 - rate * strength / norms.clamp(min=1e-12)).clamp(min=0)
            chosen = units[seam.layer].to(norms.device)
            scale_incoming(shorter, seam, torch.where(chosen, factors, torch.ones_like(factors)))
        for name, tensor in parameters.items():
            tensor.copy_(shorter[name])

    return shorten


def entering_norms(tensors: Mapping[str, Tensor], seam: Seam) -> Tensor:
    """The L2 norm of all that enters each unit of a layer: weights, bias and label columns, [units]."""
    squares = tensors[f"{seam.layer}.weight"].square().flatten(1).sum(dim=1)
    squares = squares + tensors[f"{seam.layer}.bias"].square()
    if f"{seam.layer}.label" in tensors:
        squares = squares + tensors[f"{seam.layer}.label"].square().sum(dim=0)
    return squares.view(-1, seam.rows).sum(dim=1).sqrt()


def rows(tensor: Tensor, chosen: Sequence[int]) -> Tensor:
    """Bool, shaped like the tensor: true in the chosen rows."""
    found = none_of(tensor)
    found[list(chosen)] = True
    return found


def none_of(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, dtype=torch.bool)
