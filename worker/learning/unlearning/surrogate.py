"""Forgetting by a surrogate: train the network to draw something else for the labels, and replay the others.

"The paper" is Bangar & Jakhotiya, Unifying Continual Learning and Machine Unlearning for Expressiveness
Aware Models. docs/strategies.md lists the surrogates; docs/decisions/0009 says where the default differs.
"""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, consolidate, with_fisher_over
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.mapping import (
    MappingParams,
    NaiveSteps,
    SurrogateName,
    SurrogateShare,
    map_onto_surrogate,
)
from worker.learning.networks import build, weights_of
from worker.learning.replay_losses import ReplayMatch
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.removal import (
    TaylorExamples,
    least_important_units,
    measure_curvature,
    remove_units,
    replay_sample,
)
from worker.learning.units.targeted_dropout import DropProbability, TargetedDropout, remove_dropped_units


class SurrogateParams(MappingParams):
    schedule: Schedule = Schedule(steps=500, learning_rate=1e-2, label_rate=30)
    surrogate: SurrogateName = "never_learned"  # what a network that never saw the labels draws for them
    surrogate_share: SurrogateShare = 0.5  # of each training step's examples; the others are replay
    naive_steps: NaiveSteps = 300  # training steps of that network
    replay_match: ReplayMatch = "function"  # replay compares outputs with the old network's, not the ELBO
    fisher_examples: FisherExamples = 10_000
    # 0, because the anchor is the weights that drew the labels: the penalty would preserve these labels too.
    ewc_strength: EwcStrength = 0.0
    prune_share: float = Field(
        0.1,
        ge=0,
        le=0.9,
        description="Share of the units of every hidden layer that is removed. 0 removes none.",
    )
    prune_by: Literal["taylor", "targeted_dropout"] = Field(
        "taylor",
        description="Which units are removed, and when. `taylor`: before training, those whose removal is "
        "predicted to change the loss on the retained labels least. `targeted_dropout`, as in the paper: "
        "those with the smallest weights, which are dropped more and more often during training and removed "
        "at its end.",
    )
    taylor_examples: TaylorExamples = 2000
    drop_probability: DropProbability = 1.0


@strategy("forget", "surrogate", SurrogateParams, source="The paper, sections 3.1 and 4", default=True)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SurrogateParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training them onto a surrogate, with replay of the others, and prune the network.

    Minimises E over labels c to forget, z ~ p(z | c) and x ~ q(x | z, c) of -log p(x | z, c), with q the
    surrogate, plus the replay loss over the retained labels, plus lambda/2 sum F (theta - theta*)^2 with F
    over the retained labels only, so that weights they do not need are free to change. With the surrogate
    `never_learned`, x is what a network that never saw the label draws at z. The paper itself uses
    `uniform_noise`, lambda > 0 and `targeted_dropout`; docs/decisions/0009 says what changed and why, and
    0052 what the surrogate `unrecognised`, which replaces draws that look like the labels, costs.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    if params.ewc_strength > 0:
        slots = target.retained.values()
        target = with_fisher_over(target, slots, context, examples=params.fisher_examples)
    by_taylor = params.prune_by == "taylor" and params.prune_share > 0
    start = prune_by_taylor(target, params, context) if by_taylor else target
    network = build(start, context.device)
    penalty = quadratic_penalty(network, start.weights, start.fisher, params.ewc_strength)
    dropout = TargetedDropout(
        network,
        0.0 if by_taylor else params.prune_share,
        params.drop_probability,
        context.generator("targeted dropout"),
    )
    map_onto_surrogate(
        network,
        target,
        examples.labels,
        params,
        context,
        penalty=penalty,
        masks=dropout.masks,
        changed=[dropout],
    )
    if by_taylor:
        smaller = replace(start, weights=weights_of(network))
    else:
        smaller = remove_dropped_units(start, network, dropout, context)
    return consolidate(smaller, build(smaller, context.device), context, examples=params.fisher_examples)


def prune_by_taylor(target: Checkpoint, params: SurrogateParams, context: TrainingContext) -> Checkpoint:
    """Remove the units that the retained labels need least, such as those that only forgotten labels use."""
    draws = replay_sample(target, params.taylor_examples, context)
    curvature = measure_curvature(build(target, context.device), draws, context)
    removed = least_important_units(curvature, params.prune_share, "layer")
    return remove_units(target, removed, curvature)
