"""Forgetting by a surrogate: train the network to draw something else for the labels, and replay the others.

"The paper" is Bangar & Jakhotiya, Unifying Continual Learning and Machine Unlearning for Expressiveness
Aware Models. `SurrogateName` lists the surrogates; docs/decisions/0009, 0166 and 0168 say where the default
differs.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over, with_trained_weights
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.mapping import (
    MappingParams,
    NaiveSteps,
    SurrogateName,
    SurrogateShare,
    map_onto_surrogate,
)
from worker.learning.networks import build
from worker.learning.replay_losses import ReplayMatch
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule, ScheduleLabels
from worker.learning.units.removal import (
    TaylorExamples,
    least_important_units,
    measure_curvature,
    removal_order,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import units_for_labels, width_factor
from worker.learning.units.targeted_dropout import DropProbability, TargetedDropout, remove_dropped_units


class SurrogateParams(MappingParams):
    schedule: Schedule = Schedule(steps=330, learning_rate=1e-2, label_rate=30)
    surrogate: SurrogateName = "unrecognised"  # `never_learned`, less what looks like the labels
    surrogate_share: SurrogateShare = 0.33  # of each training step's examples; the others are replay
    adversarial_share: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.04,
        description="Share of the surrogate's examples, at least one in a step, that train the network "
        "against an adversary, which searches for label embeddings that make the decoder draw the forgotten "
        "labels again. 0 trains the labels' own embeddings only; then more of the labels is left in the "
        "shared weights, and a `surrogate_share` of 0.5 is better. With a large share less is left than in a "
        "network that never saw the labels, and the other labels cover less. Used by the surrogates "
        "`never_learned` and `unrecognised` only.",
    )
    naive_steps: NaiveSteps = 150  # training steps of that network
    replay_match: ReplayMatch = "function"  # replay compares outputs with the old network's, not the ELBO
    fisher_examples: FisherExamples = 10_000
    # 0, because the anchor is the weights that drew the labels: the penalty would preserve these labels too.
    ewc_strength: EwcStrength = 0.0
    schedule_labels: ScheduleLabels = None
    prune_share: Annotated[float, Field(ge=0, le=0.9)] | None = Field(
        None,
        description="Share of the units of every hidden layer that is removed. 0 removes none. null: as many "
        "as multiply the width by (labels after / labels before) ** 0.2, so that it follows the number of "
        "retained labels.",
    )
    prune_by: Literal["taylor", "targeted_dropout"] = Field(
        "taylor",
        description="Which units are removed, and when. `taylor`: before training, those whose removal is "
        "predicted to change the loss on the retained labels least. `targeted_dropout`, as in the paper: "
        "those with the smallest weights, which are dropped more and more often during training and removed "
        "at its end.",
    )
    taylor_examples: TaylorExamples = 1000
    drop_probability: DropProbability = 1.0


@strategy("forget", "surrogate", SurrogateParams, source="The paper, sections 3.1 and 4", default=True)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SurrogateParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training them onto a surrogate, with replay of the others, and prune the network.

    Minimises E over labels c to forget, z ~ p(z | c) and x ~ q(x | z, c) of -log p(x | z, c), with q the
    surrogate, plus the replay loss over the retained labels, plus lambda/2 sum F (theta - theta*)^2 with F
    over the retained labels only, so that weights they do not need are free to change. With the surrogate
    `never_learned`, x is what a network that never saw the label draws at z. With `unrecognised`, the
    default, draws that the old network would assign to a label to forget are replaced. With
    `adversarial_share` > 0, that share of the surrogate's examples trains the decoder against an adversary,
    which searches for label embeddings e that draw the label's images x' at their z, E of -log p(x' | z, e):
    the decoder learns to draw with them what the network that never saw the label draws with its own. The
    paper itself uses `uniform_noise`, lambda > 0 and `targeted_dropout`; docs/decisions/0009 says what
    changed and why, 0166 why `unrecognised` is the default, and 0168 what the adversary takes away.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    schedule = params.schedule.for_labels(len(target.retained), params.schedule_labels)
    params = params.model_copy(update={"schedule": schedule})
    if params.ewc_strength > 0:
        slots = target.retained.values()
        target = with_fisher_over(target, slots, context, examples=params.fisher_examples)
    before = len(checkpoint.retained)
    by_taylor = params.prune_by == "taylor" and params.prune_share != 0
    start = prune_by_taylor(target, before, params, context) if by_taylor else target
    network = build(start, context.device)
    penalty = quadratic_penalty(network, start.weights, start.fisher, params.ewc_strength)
    dropout = TargetedDropout(
        network,
        0.0 if by_taylor else _prune_share(target, before, params),
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
        adversarial_share=params.adversarial_share,
    )
    if by_taylor:
        return with_trained_weights(start, network)
    return remove_dropped_units(replace(start, fisher=None), network, dropout, context)


def prune_by_taylor(
    target: Checkpoint, before: int, params: SurrogateParams, context: TrainingContext
) -> Checkpoint:
    """Remove the units that the retained labels need least, such as those that only forgotten labels use.

    before: how many labels were retained before the forget.
    """
    draws = replay_sample(target, params.taylor_examples, context)
    curvature = measure_curvature(build(target, context.device), draws, context)
    if params.prune_share is not None:
        return remove_units(target, least_important_units(curvature, params.prune_share, "layer"), curvature)
    changes = units_for_labels(target, before, len(target.retained))
    order = removal_order(curvature, {layer.name: -change for layer, change in changes.items()})
    return remove_units(target, order.first(len(order.units), curvature.widths), curvature)


def _prune_share(target: Checkpoint, before: int, params: SurrogateParams) -> float:
    """Return the share of the units to remove."""
    if params.prune_share is not None:
        return params.prune_share
    return 1 - width_factor(before, len(target.retained))
