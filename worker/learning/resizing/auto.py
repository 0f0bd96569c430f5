"""Let the network's own signals choose its width: smaller, larger or as it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import Field, model_validator

from worker.learning.checkpoint import Checkpoint
from worker.learning.memory import remembered
from worker.learning.networks import build
from worker.learning.resizing.capacity import DENSITY, RESERVE, Capacity, capacity, units_needed
from worker.learning.resizing.taylor import Order, curvature, measured_change, removal_order, without
from worker.learning.resizing.taylor_prune import matched, replay_set
from worker.learning.resizing.units import grow
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule

STEP = 0.05  # between candidate widths, as a share of the present one
SMALLEST, LARGEST = -0.5, 1.0  # the most one decision takes away or adds


class AutoParams(StrategyParams):
    schedule: Schedule = Schedule(steps=300)
    epsilon: float = Field(
        5.0, gt=0, le=1000, description="nats an example that a removal may be predicted to cost, untrained"
    )
    density: float = Field(DENSITY, ge=0.01, le=1, description="effective rank that a hidden unit can carry")
    reserve: float = Field(
        RESERVE,
        ge=0,
        le=10,
        description="room beyond those for what is learnt next, as a share of the architecture's default",
    )
    hysteresis: float = Field(
        0.05, ge=STEP, le=0.5, description="changes of width that are smaller than this share are not made"
    )
    narrowest: int = Field(16, ge=1, le=4096, description="no hidden layer is pruned below so many units")
    widest: int = Field(1024, ge=1, le=4096, description="no hidden layer grows beyond so many units")
    taylor_examples: int = Field(2000, ge=1, le=20_000, description="draws that the signals are measured on")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")

    @model_validator(mode="after")
    def _have_a_width_between(self) -> "AutoParams":
        if self.narrowest > self.widest:
            raise ValueError(f"narrowest ({self.narrowest}) must not exceed widest ({self.widest})")
        return self


@dataclass(frozen=True)
class Candidate:
    """A width that could be chosen."""

    share: float  # of the present hidden units, taken away (negative) or added
    units: int
    predicted_loss_change: float  # nats an example, untrained; growing costs nothing


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
    """Choose the smallest width that keeps the function and leaves room: prune, grow or stay, and say why.

    Minimises width subject to 1/2 d'Hd <= epsilon, the predicted loss change on replay of the labels held,
    and units >= effective rank / density + reserve. What is removed is trained away as `taylor_prune` does;
    what is added changes no draw. Signals, candidates and the reason are in the version's findings.

    Best after learning with a generous `expand_share`: room while it is needed (docs/decisions/0008).
    """
    draws = replay_set(checkpoint, params.taylor_examples, context)
    network = build(checkpoint, context.device)
    around = curvature(network, draws, context)
    order = removal_order(around, removable(around.widths, params.narrowest))
    context.step("measuring the capacity", 1, 1, around.alone.sum().item())
    signals = capacity(network, draws, around)
    limits = {seam.layer: min(params.widest, seam.most) for seam in network.seams()}
    offered = candidates(signals, order, params, limits)
    # A resize keeps the function, and so the rank.
    least = units_needed(signals.rank, checkpoint.spec, density=params.density, reserve=params.reserve)
    chosen, reason = choice(signals, offered, least, params)
    context.findings["width"] = {
        "signals": {"labels": len(checkpoint.held), **asdict(signals), "units_needed": least},
        "candidates": [asdict(one) for one in offered],
        "chosen": asdict(chosen),
        "reason": reason,
    }
    if chosen.share < 0:
        smaller = without(checkpoint, order.first(signals.units - chosen.units, around.widths), around)
        change = measured_change(checkpoint, smaller, draws, context.device)
        context.findings["width"]["measured_loss_change"] = change
        return matched(checkpoint, smaller, params.schedule, params.fisher_examples, context)
    if chosen.share > 0:
        larger = grow(checkpoint, chosen.share, context.generator("expansion"))
        change = measured_change(checkpoint, larger, draws, context.device)
        context.findings["width"]["measured_loss_change"] = change
        checkpoint = larger
    return remembered(checkpoint, sorted(checkpoint.held.values()), context, examples=params.fisher_examples)


def removable(widths: Mapping[str, int], narrowest: int) -> dict[str, int]:
    return {layer: max(0, width - narrowest) for layer, width in widths.items()}


def candidates(
    signals: Capacity, order: Order, params: AutoParams, limits: Mapping[str, int]
) -> list[Candidate]:
    """Every width in reach, narrowest first, the present one among them. limits: layer -> most units."""
    offered = []
    for step in range(round(SMALLEST / STEP), round(LARGEST / STEP) + 1):
        share = round(step * STEP, 2)
        units = units_after(share, signals, order, params, limits)
        if units is not None:
            cost = order.changes[signals.units - units - 1] if units < signals.units else 0.0
            offered.append(Candidate(share, units, cost))
    return offered


def units_after(
    share: float, signals: Capacity, order: Order, params: AutoParams, limits: Mapping[str, int]
) -> int | None:
    """The hidden units after a change by `share`; None where a bound or the hysteresis forbids it."""
    if 0 < abs(share) < params.hysteresis:
        return None
    if share <= 0:
        gone = int(-share * signals.units)
        return signals.units - gone if gone <= len(order.units) else None
    larger = {layer: width + math.ceil(share * width) for layer, width in signals.widths.items()}
    return sum(larger.values()) if all(larger[layer] <= limits[layer] for layer in larger) else None


def choice(
    signals: Capacity, offered: Sequence[Candidate], least: int, params: AutoParams
) -> tuple[Candidate, str]:
    """The candidate to become, given the least units that are needed, and why."""
    present = next(one for one in offered if one.share == 0)
    state = f"{signals.units} hidden units, {least} needed for an effective rank of {signals.rank:.1f}"
    if least > (1 + params.hysteresis) * signals.units:
        larger = [one for one in offered if one.units > signals.units]
        if not larger:
            return present, f"stays: {state}, but a layer would grow beyond what it may"
        return next((one for one in larger if one.units >= least), larger[-1]), f"grows: {state}"
    kept = [one for one in offered if one.predicted_loss_change <= params.epsilon]
    narrowest = next((one for one in kept if one.units >= least), present)
    if narrowest.units >= signals.units:
        return present, f"stays: {state}, and no smaller candidate has them within {params.epsilon:g} nats"
    cost = f"{narrowest.predicted_loss_change:.3g} of at most {params.epsilon:g} nats an example"
    return narrowest, f"shrinks: {state}; the removal is predicted to cost {cost}"
