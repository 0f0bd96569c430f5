"""Make a network larger by as much as a short search finds worth its parameters."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.memory import remembered
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.replay import Source, interleave, replay
from worker.learning.resizing.units import added, grow, room
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit

Sources = Sequence[tuple[Source, float]]  # sources of examples, each with its share

VALIDATION_BATCH = 250
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # units that the children add to every hidden layer


class TournamentParams(StrategyParams):
    mu: float = Field(
        1e-6, ge=0, le=1, description="nats an example that a parameter must be worth to be added"
    )
    validation_examples: int = Field(
        2000, ge=1, le=100_000, description="draws that the children are compared on"
    )


class SearchParams(TournamentParams):
    schedule: Schedule = Schedule(steps=600)  # of all probes together, each rung an equal part
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy(
    "resize",
    "search",
    SearchParams,
    source="Zhang et al. 2020 (REC); Jamieson & Talwalkar 2016 (successive halving)",
    policy="expand",
)
def search(
    checkpoint: Checkpoint, examples: Examples, params: SearchParams, context: TrainingContext
) -> Checkpoint:
    """Add the units that short training on replay finds worth their parameters, by successive halving.

    Minimises over children, +0 to +40 % of every hidden layer, -ELBO on held-out replay after a probe, plus
    mu times the number of parameters. The better half of the children goes on to a longer probe until one is
    left. Probes share their seed and are dropped: the child chosen draws what its parent draws.
    """
    children = {share: child_of(checkpoint, share, context) for share in in_reach(checkpoint)}
    teacher, held = frozen(checkpoint, context.device), sorted(checkpoint.held.values())

    def sources_for(purpose: str) -> Sources:
        return [(replay(teacher, held, context.generator(purpose)), 1.0)]

    winner, rungs = tournament(children, sources_for, params, params.schedule, context)
    context.findings["search"] = {"rungs": rungs, "chosen": winner, "mu": params.mu}
    child = children[winner]
    return remembered(child, sorted(child.held.values()), context, examples=params.fisher_examples)


def child_of(checkpoint: Checkpoint, share: float, context: TrainingContext) -> Checkpoint:
    return grow(checkpoint, share, context.generator("expansion"))


def in_reach(checkpoint: Checkpoint) -> list[float]:
    """The shares by which every hidden layer can grow; 0 among them."""

    def fits(share: float) -> bool:
        return all(units <= room(checkpoint, seam) for seam, units in added(checkpoint, share).items())

    return [share for share in SHARES if fits(share)]


def tournament(
    children: Mapping[float, Checkpoint],
    sources_for: Callable[[str], Sources],
    params: TournamentParams,
    schedule: Schedule,
    context: TrainingContext,
) -> tuple[float, list[dict[str, Any]]]:
    """The share of the child that is left, and what each rung measured, in nats an example.

    sources_for: the examples for a purpose, a random stream each. schedule: of all probes together.
    """
    batches = interleave(sources_for("validation"), VALIDATION_BATCH, context.device)
    drawn = math.ceil(params.validation_examples / VALIDATION_BATCH)
    draws = [batch for parts in itertools.islice(batches, drawn) for batch in parts]
    probes = {share: build(child, context.device) for share, child in children.items()}
    rungs: list[dict[str, Any]] = []
    while len(probes) > 1:
        steps = max(1, schedule.steps // (halvings(len(children)) * len(probes)))
        short = schedule.model_copy(update={"steps": steps})
        for probe in probes.values():
            train(probe, sources_for(f"rung {len(rungs)}"), short, context)
        bounds = {share: validation(probe, draws, context) for share, probe in probes.items()}
        costs = {share: bound + params.mu * children[share].parameters for share, bound in bounds.items()}
        rungs.append({"steps": steps, "negative_elbo": _named(bounds), "objective": _named(costs)})
        probes = {share: probes[share] for share in better_half(costs)}
    return next(iter(probes)), rungs


def halvings(children: int) -> int:
    """How often `children` can be halved, rounding up, until one is left."""
    return math.ceil(math.log2(children))


def better_half(costs: Mapping[float, float]) -> list[float]:
    """The shares of least cost, half of them, rounded up; of equal ones the smaller."""
    return sorted(costs, key=lambda share: (costs[share], share))[: math.ceil(len(costs) / 2)]


def train(probe: Network, sources: Sources, schedule: Schedule, context: TrainingContext) -> None:
    """Minimise -ELBO on the examples, in place; the same examples and noise for every probe of a rung."""
    noise = context.generator("latent noise")

    def loss(parts: Parts, done: float) -> Tensor:
        bounds = [
            negative_elbo(probe, drawn.images, drawn.slots, probe.noise(drawn.slots, noise))
            for drawn in parts
        ]
        return torch.cat(bounds).mean()

    batches = interleave(sources, schedule.batch_size, context.device)
    fit(probe, loss, batches, schedule, context, phase="probing")


def validation(probe: Network, draws: Sequence[Batch], context: TrainingContext) -> float:
    """-ELBO on the draws, nats an example, with the same noise for every probe."""
    noise = context.generator("validation noise")
    with torch.no_grad():
        bounds = [
            negative_elbo(probe, drawn.images, drawn.slots, probe.noise(drawn.slots, noise))
            for drawn in draws
        ]
    return torch.cat(bounds).mean().item()


def _named(figures: Mapping[float, float]) -> dict[str, float]:
    return {f"+{share:.0%}": figure for share, figure in figures.items()}
