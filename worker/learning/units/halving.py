"""Successive halving over wider copies of a network, to find the width that is worth its parameters.

Source: Jamieson & Talwalkar 2016 (arXiv:1502.07943), as the search of REC (Zhang et al. 2020).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build
from worker.learning.networks.network import Network
from worker.learning.resuming import State
from worker.learning.sources import Source, interleave
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.training import Parts, Schedule, fit
from worker.learning.units.resize import grow, room, units_to_add

Sources = Sequence[tuple[Source, float]]  # sources of examples, each with its share of a batch

VALIDATION_BATCH = 250
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # of units that the children add to every hidden layer

ParameterPrice = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Price mu of a parameter: each added one must improve the ELBO by this many nats per "
        "example.",
    ),
]
ValidationExamples = Annotated[
    int,
    Field(ge=1, le=100_000, description="Number of examples on which the candidate networks are compared."),
]


def children_of(checkpoint: Checkpoint, context: TrainingContext) -> dict[float, Checkpoint]:
    """Grow a child of the checkpoint for each of SHARES that all layers have room for: share -> child."""
    return {share: grow(checkpoint, share, context.generator("expansion")) for share in _shares(checkpoint)}


def _shares(checkpoint: Checkpoint) -> list[float]:
    def fits(share: float) -> bool:
        added = units_to_add(checkpoint, share)
        return all(units <= room(checkpoint, layer) for layer, units in added.items())

    return [share for share in SHARES if fits(share)]


def successive_halving(
    children: Mapping[float, Checkpoint],
    sources_for: Callable[[str], Sources],
    schedule: Schedule,
    context: TrainingContext,
    *,
    mu: float,
    validation_examples: int,
) -> tuple[float, list[dict[str, Any]]]:
    """Train the children briefly, discard the worse half, and repeat until one is left.

    The objective of a child is -ELBO on validation examples plus mu times the number of its parameters, in
    nats per example.
    sources_for: makes the sources of examples for a purpose, which names their random streams.
    schedule: for all trainings together; every round gets an equal part of its steps.
    Returns the share of the remaining child, and the measurements of each round, JSON-ready.
    """
    found = context.once(
        "successive halving",
        lambda: _halve(children, sources_for, schedule, context, mu, validation_examples),
    )
    return found["chosen"], found["rounds"]


def _halve(
    children: Mapping[float, Checkpoint],
    sources_for: Callable[[str], Sources],
    schedule: Schedule,
    context: TrainingContext,
    mu: float,
    validation_examples: int,
) -> State:
    batches = interleave(sources_for("validation"), VALIDATION_BATCH, context.device)
    count = math.ceil(validation_examples / VALIDATION_BATCH)
    validation = [batch for parts in itertools.islice(batches, count) for batch in parts]
    probes = {share: build(child, context.device) for share, child in children.items()}
    rounds: list[dict[str, Any]] = []
    while len(probes) > 1:
        steps = max(1, schedule.steps // (_halvings(len(children)) * len(probes)))
        short = schedule.model_copy(update={"steps": steps})
        purpose = f"round {len(rounds)}"

        def train_all(
            probes: Mapping[float, Network] = probes, short: Schedule = short, purpose: str = purpose
        ) -> State:
            for probe in probes.values():
                _train(probe, sources_for(purpose), short, context)
            bounds = [_validate(probe, validation, context) for probe in probes.values()]
            costs = {
                share: bound + mu * children[share].parameters
                for share, bound in zip(probes, bounds, strict=True)
            }
            better = better_half(costs)
            weights = [dict(probes[share].state_dict()) for share in better]
            return {"bounds": bounds, "costs": list(costs.values()), "better": better, "weights": weights}

        found = context.once(purpose, train_all)
        bounds, costs = (dict(zip(probes, found[name], strict=True)) for name in ("bounds", "costs"))
        rounds.append({"steps": steps, "negative_elbo": _named(bounds), "objective": _named(costs)})
        probes = {share: probes[share] for share in found["better"]}
        for probe, weights in zip(probes.values(), found["weights"], strict=True):
            probe.load_state_dict(weights)
    return {"chosen": next(iter(probes)), "rounds": rounds}


def _halvings(children: int) -> int:
    """Count how often `children` can be halved, rounding up, until one is left."""
    return math.ceil(math.log2(children))


def better_half(costs: Mapping[float, float]) -> list[float]:
    """List the half of the shares with the lowest costs, rounded up; a tie goes to the smaller share."""
    return sorted(costs, key=lambda share: (costs[share], share))[: math.ceil(len(costs) / 2)]


def _train(probe: Network, sources: Sources, schedule: Schedule, context: TrainingContext) -> None:
    """Minimise -ELBO on the examples, in place; every probe of a round gets the same examples and noise."""
    noise = context.generator("latent noise")

    def loss(parts: Parts, progress: float) -> Tensor:
        bounds = [
            negative_elbo(probe, batch.images, batch.slots, probe.noise(batch.slots, noise))
            for batch in parts
        ]
        return torch.cat(bounds).mean()

    batches = interleave(sources, schedule.batch_size, context.device)
    fit(probe, loss, batches, schedule, context, phase="training probes")


@torch.no_grad()
def _validate(probe: Network, batches: Sequence[Batch], context: TrainingContext) -> float:
    """Compute the mean -ELBO of the batches, nats per example, with the same noise for every probe."""
    noise = context.generator("validation noise")
    bounds = [
        negative_elbo(probe, batch.images, batch.slots, probe.noise(batch.slots, noise)) for batch in batches
    ]
    return torch.cat(bounds).mean().item()


def _named(figures: Mapping[float, float]) -> dict[str, float]:
    return {f"+{share:.0%}": figure for share, figure in figures.items()}
