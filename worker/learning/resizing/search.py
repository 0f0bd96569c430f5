"""Make a network larger, by the width that a short search finds best."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples
from worker.learning.networks import frozen
from worker.learning.sources import generative_replay
from worker.learning.strategy import Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.halving import (
    ParameterPrice,
    Sources,
    ValidationExamples,
    children_of,
    successive_halving,
)


class SearchParams(StrategyParams):
    schedule: Schedule = Schedule(steps=600)  # for all short trainings together
    mu: ParameterPrice = 1e-6
    validation_examples: ValidationExamples = 2000
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "resize",
    "search",
    SearchParams,
    source="Zhang et al. 2020 (REC); Jamieson & Talwalkar 2016 (successive halving)",
    policy="search",
)
def search(
    checkpoint: Checkpoint, examples: Examples, params: SearchParams, context: TrainingContext
) -> Checkpoint:
    """Add as many units as successive halving finds worth their parameters, by short trainings on replay.

    Minimises, over candidates with 0 to 40 % more units in every hidden layer, -ELBO on held-out replay after
    a short training, plus mu times the number of parameters. In each round the better half of the candidates
    is trained further, until one is left. All are trained with the same seed, and their trained weights are
    discarded: the result draws what the network drew before.
    """
    children = children_of(checkpoint, context)
    teacher = frozen(checkpoint, context.device, precision=context.precision)
    retained = sorted(checkpoint.retained.values())

    def sources_for(purpose: str) -> Sources:
        return [(generative_replay(teacher, retained, context.generator(purpose)), 1.0)]

    chosen, rounds = successive_halving(
        children,
        sources_for,
        params.schedule,
        context,
        mu=params.mu,
        validation_examples=params.validation_examples,
    )
    context.findings["search"] = {"rungs": rounds, "chosen": chosen, "mu": params.mu}
    return children[chosen]
