"""The controls of the strategies: each strategy with its idea switched off, to see what the idea adds.

A control is the same strategy with params that switch its idea off, where there are such params, and else a
function here that does all the rest of what the strategy does. It starts from the same network with the same
seed, so that the difference to the strategy is the idea's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from experiments.training_setup import CPU, PUBLISHED, params_of, shortened_schedule
from worker.learning import drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import Dataset
from worker.learning.distillation import match_function, match_others, train_student
from worker.learning.networks import build, frozen, weights_of
from worker.learning.prior import reset_prior
from worker.learning.retraining import train_from_scratch
from worker.learning.slots import with_slots
from worker.learning.strategy import Examples, StrategyParams, TrainingContext
from worker.learning.training import LEARN_SCHEDULE
from worker.learning.units.removal import (
    least_important_units,
    measure_curvature,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import UnitMask, grow, prunable_layers, width

Params = Mapping[str, Any]
Key = tuple[str, str]
"""Operation and name of a strategy."""
TAYLOR_DRAWS = 2000
DRAWN_EXAMPLES = 4000
"""Draws of a label that take the place of its real images in a control."""
PAPER_CODE_SCALE = 0.01
"""Standard deviation of the weights of a new unit in the code of the paper."""


@dataclass(frozen=True)
class Given:
    """What a control is given: the same as the strategy, and what the strategy made of it."""

    start: Checkpoint
    request: Examples
    dataset: Dataset
    context: TrainingContext
    result: Checkpoint
    """The strategy's result, whose size a control may need."""
    step_divisor: int = 1
    """How many times fewer steps the trainings take than by default."""

    def params(self, operation: str, name: str, **given: Any) -> StrategyParams:
        return params_of(strategy.find(operation, name), given, step_divisor=self.step_divisor)

    def run(self, operation: str, name: str, **given: Any) -> Checkpoint:
        """Run another strategy on the same start and request."""
        found, params = strategy.find(operation, name), self.params(operation, name, **given)
        return found.run(self.start, self.request, params, self.context)


@dataclass(frozen=True)
class Control:
    """A strategy without its idea.

    off: what is switched off, as the page says it. params: of the same strategy. run: takes the place of the
    strategy, if there are no params that switch the idea off. variant: the variant of the strategy that the
    control belongs to, one of VARIANTS; none for the strategy with its default params.
    """

    off: str
    params: Params | None = None
    run: Callable[[Given], Checkpoint] | None = None
    variant: str = ""


def controls_of(key: Key, variant: str) -> list[Control]:
    """Return the controls of a variant of a strategy; none for a strategy that is a baseline itself."""
    return [control for control in CONTROLS.get(key, ()) if control.variant == variant]


def _finetuned(given: Given) -> Checkpoint:
    return given.run("learn", "finetune")


def _learnt_by_replay(given: Given) -> Checkpoint:
    return given.run("learn", "replay_ewc", **_schedule_of(given, "hypernetwork"))


def _learnt_from_draws(**params: Any) -> Callable[[Given], Checkpoint]:
    """Make a control that learns temporary labels from draws of their networks, as if these were real images.

    params: of `replay_ewc`.
    """

    def run(given: Given) -> Checkpoint:
        images = _drawn(given.start, given.request.labels)
        request = replace(given.request, dataset=given.dataset.name, images=images)
        start = replace(given.start, isolated=())
        return replace(given, start=start, request=request).run("learn", "replay_ewc", **params)

    return run


def _drawn(checkpoint: Checkpoint, labels: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Draw images of each label, uint8 as real ones."""
    return {
        name: drawing.draw(checkpoint, name, DRAWN_EXAMPLES, 0).mul(255).round().to(torch.uint8)
        for name in labels
    }


def _retrained_on_draws(given: Given) -> Checkpoint:
    """Train from scratch on the new labels' images and on draws of the old ones."""
    target = with_slots(given.start, given.request.labels, given.dataset.name, "permanent")
    images = {**_drawn(given.start, tuple(given.start.retained)), **given.request.images}
    return _from_scratch(given, target, images)


def _retrained_with_the_label(given: Given) -> Checkpoint:
    images = {name: given.dataset.train[name] for name in given.start.retained}
    return _from_scratch(given, given.start, images)


def _from_scratch(given: Given, target: Checkpoint, images: Mapping[str, torch.Tensor]) -> Checkpoint:
    params: Any = given.params("learn", "retrain")
    return train_from_scratch(target, images, params.schedule, given.context)


def _distilled_from_the_old_weights(given: Given) -> Checkpoint:
    """Match the retained labels as `distill` does, but start from the old weights."""
    params: Any = given.params("forget", "distill")
    target = _with_empty_priors(given)
    network = train_student(
        frozen(target, CPU), target, params.schedule, given.context, phase="forgetting", purpose="replay"
    )
    return replace(target, weights=weights_of(network))


def _repaired_only(given: Given) -> Checkpoint:
    """Train as the repair of `dampening` does, with nothing dampened."""
    params: Any = given.params("forget", "dampening")
    return match_others(
        given.start,
        given.request.labels,
        _with_empty_priors(given),
        params.schedule,
        given.context,
    )


def _pruned_only(given: Given) -> Checkpoint:
    """Prune as `surrogate` does and match the retained labels, without a surrogate for the others."""
    params: Any = given.params("forget", "surrogate")
    target = _with_empty_priors(given)
    draws = replay_sample(target, params.taylor_examples, given.context)
    curvature = measure_curvature(build(target, CPU), draws, given.context)
    share = 1 - sum(map(sum, given.result.widths.values())) / sum(map(sum, target.widths.values()))
    smaller = remove_units(target, least_important_units(curvature, share, "layer"), curvature)
    return match_others(given.start, given.request.labels, smaller, params.schedule, given.context)


def _with_empty_priors(given: Given) -> Checkpoint:
    """Mark the labels to forget as forgotten and empty their priors, as strategies do; keep the weights."""
    target = given.start.with_status(given.request.labels, "forgotten")
    network = build(target, CPU)
    for name in given.request.labels:
        reset_prior(network, target.forgotten[name])
    return replace(target, weights=weights_of(network))


def _nothing_dropped(given: Given) -> Checkpoint:
    return given.start


def _random_units_removed(name: str) -> Callable[[Given], Checkpoint]:
    """Make a control that removes as many units as the strategy, at random, and trains the rest as long."""

    def run(given: Given) -> Checkpoint:
        params: Any = given.params("resize", name)
        draws = replay_sample(given.start, TAYLOR_DRAWS, given.context)
        curvature = measure_curvature(build(given.start, CPU), draws, given.context)
        smaller = remove_units(given.start, _random_units(given), curvature)
        return match_function(given.start, smaller, params.schedule, given.context)

    return run


def _random_units(given: Given) -> UnitMask:
    generator, removed = given.context.generator("random units"), {}
    for layer in prunable_layers(given.start):
        units = width(given.start, layer)
        surplus = max(0, units - width(given.result, layer))
        removed[layer.name] = torch.randperm(units, generator=generator) < surplus
    return removed


def _expanded_at_random(**given_params: Any) -> Callable[[Given], Checkpoint]:
    """Make a control that adds units with small random weights on both sides, as the code of the paper does.

    given_params: of `expand`.
    """

    def run(given: Given) -> Checkpoint:
        params: Any = given.params("resize", "expand", **given_params)
        generator = given.context.generator("random expansion")
        larger = grow(given.start, params.share, generator)
        weights = dict(larger.weights)
        for layer in prunable_layers(given.start):
            old = width(given.start, layer)
            incoming, outgoing = f"{layer.name}.weight", f"{layer.following}.weight"
            for name, part in ((incoming, (slice(old, None),)), (outgoing, (slice(None), slice(old, None)))):
                weights[name] = weights[name].clone()
                shape = weights[name][part].shape
                weights[name][part] = PAPER_CODE_SCALE * torch.randn(shape, generator=generator)
        return replace(larger, weights=weights)

    return run


def _expanded_without_a_search(given: Given) -> Checkpoint:
    return given.run("resize", "expand")


def _learnt_without_a_search(given: Given) -> Checkpoint:
    return given.run("learn", "replay_ewc", expand_share=0, **_schedule_of(given, "rec"))


def _schedule_of(given: Given, strategy_name: str) -> dict[str, Any]:
    """Return the default schedule of a learn strategy, so that its control trains for as long."""
    params: Any = given.params("learn", strategy_name)
    return {"schedule": params.schedule}


AS_PUBLISHED = "alpha 10 and no repair, as published"
HALF = "half of the weights, as published"
AT_RANDOM = "as many units removed at random"
SHORT = "2,500 steps of 128"
HALF_OF_UNITS, MOST_UNITS = "half of the units", "70 % of the units"
LARGER_SHARES: Mapping[str, Params] = {HALF_OF_UNITS: {"share": 0.5}, MOST_UNITS: {"share": 0.7}}
SHORTENED: Params = {"schedule": shortened_schedule(2500), "fisher_examples": 10_000}
QUARTER, TENTH = "a quarter of the steps", "a tenth of the steps"
FEWER_STEPS: Mapping[str, Params] = {
    QUARTER: {"schedule": {"steps": LEARN_SCHEDULE.steps // 4}},
    TENTH: {"schedule": {"steps": LEARN_SCHEDULE.steps // 10}},
}
TWICE, FOUR_TIMES = "twice as many units", "four times as many units"
MORE_UNITS: Mapping[str, Params] = {TWICE: {"share": 1}, FOUR_TIMES: {"share": 3}}
WEAKER_EWC = "2,500 steps of 128, EWC a tenth as strong"
VARIANTS: Mapping[Key, Mapping[str, Params]] = {
    ("learn", "den"): {
        "half of the embeddings' squared norm": {"embedding_share": 0.5},
        "l1 of embeddings twice as strong, no threshold": {"column_l1": 0.5, "embedding_share": 1},
    },
    ("learn", "rec"): {
        "penalties a fifth as strong": {"common_subset": 0.2, "new_l1": 0.004},
        "the l1 penalty alone": {"common_subset": 0},
    },
    ("learn", "merge"): FEWER_STEPS,
    ("learn", "replay_ewc"): {
        "a quarter more units": {"expand_share": 0.25},
        "twice as many units": {"expand_share": 1},
    },
    ("forget", "dampening"): {AS_PUBLISHED: {"alpha": 10, "repair": False}},
    ("forget", "saliency"): {HALF: {"share": 0.5}},
    ("forget", "selective_amnesia"): {
        SHORT: SHORTENED,
        WEAKER_EWC: {**SHORTENED, "ewc_strength": PUBLISHED.ewc_strength / 10},
    },
    ("resize", "expand"): MORE_UNITS,
    ("resize", "targeted_dropout_prune"): LARGER_SHARES,
    ("resize", "taylor_prune"): LARGER_SHARES,
}
"""Other params of a strategy that are measured too, by name: what was tried, or what is faster."""
SLOW = (("forget", "selective_amnesia"),)
"""Strategies whose default params take minutes: they run for the first seed only, variants for all."""
CONTROLS: Mapping[Key, tuple[Control, ...]] = {
    ("learn", "den"): (
        Control(
            "every unit is retrained, without l1",
            {"reach": 0, "embedding_share": 1, "column_l1": 0, "l1": 0},
        ),
        Control("no units are added or split", {"added_units": 0, "drift": 100}),
    ),
    ("learn", "der"): (
        Control("no squared errors to the old network's outputs", {"dark_strength": 0}),
        Control("no ELBO of replayed draws", {"replay_strength": 0}),
    ),
    ("learn", "hypernetwork"): (
        Control("no penalty on the weights of other labels", {"retention_strength": 0}),
        Control("replay and EWC instead (`replay_ewc` on `hyper`)", run=_learnt_by_replay),
    ),
    ("learn", "isolated"): (Control("the labels share the main network (`finetune`)", run=_finetuned),),
    ("learn", "merge"): tuple(
        Control(
            "the isolated networks' draws are learnt as real images (`replay_ewc`)",
            run=_learnt_from_draws(**params),
            variant=variant,
        )
        for variant, params in {"": {}, **FEWER_STEPS}.items()
    ),
    ("learn", "rec"): (
        Control("no penalties", {"common_subset": 0, "new_l1": 0}),
        Control("no search and no compression (`replay_ewc` at the old size)", run=_learnt_without_a_search),
    ),
    ("learn", "replay_ewc"): (
        Control("no EWC", {"ewc_strength": 0}),
        Control("no replay and no EWC (`finetune`)", run=_finetuned),
        Control("no expansion", {"expand_share": 0}),
    ),
    ("learn", "retrain"): (
        Control("draws instead of the real images of the old labels", run=_retrained_on_draws),
    ),
    ("forget", "dampening"): (
        Control("nothing is dampened: the repair alone", run=_repaired_only),
        Control("only the slots of the labels are emptied, and the repair", {"alpha": 1e6}),
        Control(
            "only the slots of the labels are emptied",
            {"alpha": 1e6, "repair": False},
            variant=AS_PUBLISHED,
        ),
    ),
    ("forget", "distill"): (
        Control("the old weights instead of new ones", run=_distilled_from_the_old_weights),
    ),
    ("forget", "drop"): (Control("the isolated networks are kept", run=_nothing_dropped),),
    ("forget", "noise_alignment"): (
        Control("no noise: the label's slot gets a new embedding alone", {"noise_strength": 0}),
        Control("no penalty on the weights of other labels", {"retention_strength": 0}),
    ),
    ("forget", "retrain"): (
        Control("the label's images take part in the training", run=_retrained_with_the_label),
    ),
    ("forget", "saliency"): (
        Control("a random mask of the same size", {"mask": "random"}),
        Control("a random mask of the same size", {"mask": "random", "share": 0.5}, variant=HALF),
    ),
    ("forget", "selective_amnesia"): (
        Control("no EWC", {**SHORTENED, "ewc_strength": 0}, variant=SHORT),
        Control("no replay", {**SHORTENED, "replay_strength": 0}, variant=SHORT),
    ),
    ("forget", "surrogate"): (
        Control("no surrogate: pruning and replay of the retained labels alone", run=_pruned_only),
        Control("no pruning", {"prune_share": 0}),
        Control("no adversary", {"adversarial_share": 0}),
    ),
    ("resize", "auto"): (Control(AT_RANDOM, run=_random_units_removed("auto")),),
    ("resize", "expand"): tuple(
        Control(
            "new units with random weights on both sides", run=_expanded_at_random(**params), variant=variant
        )
        for variant, params in {"": {}, **MORE_UNITS}.items()
    ),
    ("resize", "search"): (Control("a fixed share is added (`expand`)", run=_expanded_without_a_search),),
    ("resize", "targeted_dropout_prune"): tuple(
        control
        for variant, share in {"": {}, **LARGER_SHARES}.items()
        for control in (
            Control(
                "no dropout: the smallest units removed after the same training",
                {**share, "drop_probability": 0},
                variant=variant,
            ),
            Control(AT_RANDOM, run=_random_units_removed("targeted_dropout_prune"), variant=variant),
        )
    ),
    ("resize", "taylor_prune"): tuple(
        Control(AT_RANDOM, run=_random_units_removed("taylor_prune"), variant=variant)
        for variant in ("", *LARGER_SHARES)
    ),
}
