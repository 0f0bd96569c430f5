"""Choose the width of a network from measurements of it: prune it, grow it or keep its size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import Field, model_validator

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.distillation import match_function
from worker.learning.networks import build
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.capacity import Capacity, Reserve, measure_capacity, units_needed
from worker.learning.units.removal import (
    RemovalOrder,
    TaylorExamples,
    measure_curvature,
    measured_loss_change,
    removal_order,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import grow

STEP = 0.05  # between candidate widths, as a share of the current width
SMALLEST, LARGEST = -0.5, 1.0  # limits of the change by one resize, as a share of the current width


class AutoParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    epsilon: float = Field(
        5.0,
        gt=0,
        le=1000,
        description="Largest loss change, in nats per example, that removing units may be predicted to "
        "cause before any training.",
    )
    density: float = Field(
        0.3,
        ge=0.01,
        le=1,
        description="Effective rank for each hidden unit: a network needs rank / density units.",
    )
    reserve: Reserve = 0.45
    hysteresis: float = Field(
        0.05, ge=STEP, le=0.5, description="Smallest change of the width that is made, as a share of it."
    )
    narrowest: int = Field(
        16, ge=1, le=4096, description="Smallest width that a hidden layer is pruned to, in units."
    )
    widest: int = Field(
        1024, ge=1, le=4096, description="Largest width that a hidden layer grows to, in units."
    )
    taylor_examples: TaylorExamples = 2000
    fisher_examples: UnusedFisherExamples = 10_000

    @model_validator(mode="after")
    def _check_bounds(self) -> "AutoParams":
        if self.narrowest > self.widest:
            raise ValueError(f"narrowest ({self.narrowest}) must not exceed widest ({self.widest})")
        return self


@dataclass(frozen=True)
class Candidate:
    """A width that may be chosen."""

    share: float  # of the current hidden units: removed if negative, added if positive
    units: int
    predicted_loss_change: float  # nats per example, before any training; growing costs nothing


@strategy(
    "resize",
    "auto",
    AutoParams,
    source="Roy & Vetterli 2007 (effective rank); Molchanov et al. 2017 (Taylor), to second order",
    policy="auto",
)
def resize(
    checkpoint: Checkpoint, examples: Examples, params: AutoParams, context: TrainingContext
) -> Checkpoint:
    """Choose the smallest width that preserves the network's function and leaves a reserve for later labels.

    Prunes the network, grows it or keeps its size. Minimises the width subject to 1/2 d^T H d <= epsilon, the
    predicted loss change on replay of the retained labels (d: the change of the removed units' outgoing
    weights, H: the Hessian of the loss), and to units >= rank / density + reserve * (default units), with the
    effective rank of the activations. After a removal the rest is trained as by `taylor_prune`; added units
    do not change what the network draws. The measurements, the candidates and the reason are in the version's
    findings. It works best after learning with a large `expand_share`, which gives room while it is needed
    (docs/decisions/0008).
    """
    draws = replay_sample(checkpoint, params.taylor_examples, context)
    network = build(checkpoint, context.device)
    curvature = measure_curvature(network, draws, context)
    removable = {layer: max(0, width - params.narrowest) for layer, width in curvature.widths.items()}
    order = removal_order(curvature, removable)
    context.step("measuring capacity", 1, 1, curvature.removal_costs.sum().item())
    capacity = measure_capacity(network, draws, curvature)
    limits = {layer.name: min(params.widest, layer.max_units) for layer in network.prunable_layers()}
    offered = candidates(capacity, order, params, limits)
    # The rank does not depend on the width: a resize preserves the function, and the rank with it.
    needed = units_needed(capacity.rank, checkpoint.spec, density=params.density, reserve=params.reserve)
    chosen, reason = choose(capacity, offered, needed, params)
    context.findings["width"] = {
        "signals": {"labels": len(checkpoint.retained), **asdict(capacity), "units_needed": needed},
        "candidates": [asdict(one) for one in offered],
        "chosen": asdict(chosen),
        "reason": reason,
    }
    if chosen.share < 0:
        removed = order.first(capacity.units - chosen.units, curvature.widths)
        smaller = remove_units(checkpoint, removed, curvature)
        change = measured_loss_change(checkpoint, smaller, draws, context.device)
        context.findings["width"]["measured_loss_change"] = change
        return match_function(checkpoint, smaller, params.schedule, context)
    if chosen.share > 0:
        larger = grow(checkpoint, chosen.share, context.generator("expansion"))
        change = measured_loss_change(checkpoint, larger, draws, context.device)
        context.findings["width"]["measured_loss_change"] = change
        return larger
    return checkpoint


def candidates(
    capacity: Capacity, order: RemovalOrder, params: AutoParams, limits: Mapping[str, int]
) -> list[Candidate]:
    """List the candidate widths, the narrowest first; the current width is one of them.

    limits: hidden layer -> the most units it may have.
    """
    offered = []
    for step in range(round(SMALLEST / STEP), round(LARGEST / STEP) + 1):
        share = round(step * STEP, 2)
        units = units_after(share, capacity, order, params, limits)
        if units is not None:
            cost = order.changes[capacity.units - units - 1] if units < capacity.units else 0.0
            offered.append(Candidate(share, units, cost))
    return offered


def units_after(
    share: float, capacity: Capacity, order: RemovalOrder, params: AutoParams, limits: Mapping[str, int]
) -> int | None:
    """Count the hidden units after a change by `share`; None if a limit or the hysteresis forbids it."""
    if 0 < abs(share) < params.hysteresis:
        return None
    if share <= 0:
        removed = int(-share * capacity.units)
        return capacity.units - removed if removed <= len(order.units) else None
    larger = {layer: width + math.ceil(share * width) for layer, width in capacity.widths.items()}
    return sum(larger.values()) if all(larger[layer] <= limits[layer] for layer in larger) else None


def choose(
    capacity: Capacity, offered: Sequence[Candidate], needed: int, params: AutoParams
) -> tuple[Candidate, str]:
    """Choose a candidate, given how many units are needed; return it with the reason."""
    current = next(one for one in offered if one.share == 0)
    state = f"{capacity.units} hidden units, {needed} needed for an effective rank of {capacity.rank:.1f}"
    if needed > (1 + params.hysteresis) * capacity.units:
        larger = [one for one in offered if one.units > capacity.units]
        if not larger:
            return current, f"stays: {state}, but a layer would exceed its largest width"
        return next((one for one in larger if one.units >= needed), larger[-1]), f"grows: {state}"
    affordable = [one for one in offered if one.predicted_loss_change <= params.epsilon]
    narrowest = next((one for one in affordable if one.units >= needed), current)
    if narrowest.units >= capacity.units:
        return current, f"stays: {state}, and no smaller candidate costs at most {params.epsilon:g} nats"
    cost = f"{narrowest.predicted_loss_change:.3g} of at most {params.epsilon:g} nats per example"
    return narrowest, f"shrinks: {state}; the removal is predicted to cost {cost}"
