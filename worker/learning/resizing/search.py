"""Makes a network larger by as much as a short search finds worth its parameters."""

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over
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
    schedule: Schedule = Schedule(steps=600)  # of all short trainings together
    mu: ParameterPrice = 1e-6
    validation_examples: ValidationExamples = 2000
    fisher_examples: FisherExamples = 10_000


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
    """Add as many units as short trainings on replay find worth their parameters, by successive halving.

    Minimises, over children with +0 to +40 % units in every hidden layer, -ELBO on held-out replay after a
    short training, plus mu times the number of parameters. The better half of the children goes on to a
    longer training until one is left. All are trained with the same seed, and their trained weights are
    dropped: the chosen child draws what its parent draws.
    """
    children = children_of(checkpoint, context)
    teacher, retained = frozen(checkpoint, context.device), sorted(checkpoint.retained.values())

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
    return with_fisher_over(children[chosen], retained, context, examples=params.fisher_examples)
