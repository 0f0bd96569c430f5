"""The full report: the quick one's figures, and quality, forgetting and capacity beside retrained references.

Minutes, most of them the training of the references. Who cannot be compared (the data is gone, there is no
judge) gets null figures with the reason.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.audit_measurements import Exam, Traces, traces
from worker.learning.judging.classifiers import ClassifierUnavailable
from worker.learning.judging.comparison import CONTROL, COVERAGE_RATIO, PLAIN, compared, verdict
from worker.learning.judging.evidence import Figure, figure, over_seeds, unmeasured
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.figures import auc_interval
from worker.learning.judging.likeness import energy_distance, function_distance, permutation_p
from worker.learning.judging.quality import Seen, coverage_of, quality
from worker.learning.judging.recovery import Search
from worker.learning.judging.references import MEMORISED, REFERENCE, control_auc, retrained
from worker.learning.judging.relearning import SLOW, Lesson, Relearning
from worker.learning.judging.report import Draw, Judges, quick
from worker.learning.networks import frozen
from worker.learning.strategy import StrategyParams, TrainingContext, Unavailable
from worker.learning.training import Schedule
from worker.learning.units.capacity import measure_capacity
from worker.learning.units.removal import measure_curvature, replay_sample

CPU = torch.device("cpu")
PICTURES = 16  # recovered images a network in the report
LIKENESS_DRAWS = 500

LEAST_COVERAGE = 0.01  # so that a ratio's interval ends somewhere
REFERENCE_MARGIN = 0.05  # by how much a reference may draw what is held worse than the candidate

FeatureNetworks = Callable[[str], FeatureNetwork]  # the feature network of a dataset; raises Unavailable


class FullParams(StrategyParams):
    """How much evidence a full report is to gather."""

    seeds: int = Field(3, ge=3, le=20, description="retrained references, each of another seed")
    reference: Schedule = Field(REFERENCE, description="how a reference is trained")
    draws: int = Field(1000, ge=100, le=10_000, description="draws of every label, open-set judged")
    attacks: int = Field(256, ge=64, le=4096, description="starts of the recovery attack")
    attack_steps: int = Field(60, ge=20, le=1000, description="of each of them")
    relearning: Relearning = Field(SLOW, description="the fine-tuning that teaches a forgotten label again")
    capacity_examples: int = Field(1000, ge=1, le=100_000, description="draws the capacity is measured on")


@dataclass(frozen=True)
class _Inquiry:
    """What every part of the report is measured with."""

    checkpoint: Checkpoint  # the main network alone
    judges: Judges
    feature_networks: FeatureNetworks
    context: TrainingContext
    params: FullParams
    draw: Draw

    def train(self, label: Label) -> Tensor:
        return self.context.archive.images(label)

    def test(self, label: Label) -> Tensor:
        return self.context.archive.held_out(label)


def full(
    checkpoint: Checkpoint,
    judges: Judges,
    feature_networks: FeatureNetworks,
    context: TrainingContext,
    params: FullParams,
    *,
    draw: Draw,
) -> dict[str, Any]:
    """The report at level "full". JSON-ready, and a function of its arguments; takes minutes.

    The keys of `quick`, and: quality {label figures, over all labels, of the labels in the main network},
    forgetting {labels: {name: {accuracy, recovery, relearning, membership, two_sample, pictures, verdict,
    missed}}, distance, control, verdict, missed}, feature network {dataset: {version, test_accuracy}}, capacity,
    reference {seeds, accuracy, schedule, spec}, where accuracy is each one's of what is held. Every figure is
    {value, n, interval, threshold, verdict}; FID and diversity have no interval. Temporary labels are judged
    and not audited: theirs is a network of its own, and dropping it is exact. Raises Stopped.
    """
    found = quick(
        checkpoint,
        judges,
        n=params.draws,
        seed=context.seed,
        draw=draw,
        held_out=context.archive.held_out,
    )
    inquiry = _Inquiry(replace(checkpoint, isolated=()), judges, feature_networks, context, params, draw)
    references, reason, accuracies = _references(inquiry)
    return {
        **found,
        "level": "full",
        "quality": _quality(inquiry, references, reason),
        "forgetting": _forgetting(inquiry, references, reason),
        "feature_network": {
            name: _feature_network_figures(name, feature_networks) for name in found["judge"]
        },
        "capacity": found["capacity"] | _capacity(inquiry),
        "reference": {
            "seeds": len(references),
            "accuracy": accuracies,
            "schedule": params.reference.model_dump(),
            "encoder_widths": list(checkpoint.spec.encoder_widths),
            "decoder_widths": list(checkpoint.spec.decoder_widths),
            **({"reason": reason} if reason else {}),
        },
    }


def _references(inquiry: _Inquiry) -> tuple[list[Checkpoint], str | None, list[float]]:
    """The retrained networks, or why there are none; and how well those retrained draw what is held.

    One that draws it far worse than the candidate shows nothing: beside a network that learnt too little,
    whatever a candidate still knows looks usual. Who asks for the report chooses how long they learn.
    """
    if not inquiry.checkpoint.forgotten:
        return [], "nothing was forgotten, so nothing was retrained", []
    if not inquiry.checkpoint.retained:
        return [], "no label is held, so there is nothing to retrain on", []
    schedule, seeds = inquiry.params.reference, range(inquiry.params.seeds)
    try:
        found = [retrained(inquiry.checkpoint, seed, schedule, inquiry.context) for seed in seeds]
    except Unavailable as error:
        return [], f"no reference can be retrained: {error}", []
    networks = [inquiry.checkpoint, *found]
    known = []
    for index, network in enumerate(networks, start=1):
        known.append(_accuracy_of_held(network, inquiry))
        inquiry.context.step("judging references", index, len(networks))
    accuracies = [one for one in known if one is not None]
    if len(accuracies) < len(networks):
        return [], "no judge knows what is held, so nobody can tell whether the references learnt it", []
    weak = _too_weak(accuracies, inquiry)
    return ([] if weak else found), weak, accuracies[1:]


def _too_weak(accuracies: Sequence[float], inquiry: _Inquiry) -> str | None:
    """Why the references show nothing, if they do not. accuracies: the candidate's, and theirs.

    Three standard errors beyond the margin: no good one of many is refused by the chance of its draws.
    """
    mine, worst = accuracies[0], min(accuracies[1:])
    error = math.sqrt(2 * mine * (1 - mine) / (inquiry.params.draws * len(inquiry.checkpoint.retained)))
    if worst >= mine - REFERENCE_MARGIN - 3 * error:
        return None
    told = f"a reference draws what is held right in {worst:.1%}, the candidate in {mine:.1%}"
    return f"{told}: train references longer"


def _accuracy_of_held(checkpoint: Checkpoint, inquiry: _Inquiry) -> float | None:
    """The open-set accuracy of the labels held, each drawn equally often, as far as there are judges."""
    told = quick(
        checkpoint, inquiry.judges, n=inquiry.params.draws, seed=inquiry.context.seed, draw=inquiry.draw
    )
    right = [one["accuracy"] for one in told["retained"]["labels"].values() if one["accuracy"] is not None]
    return mean(right) if right else None


def _quality(inquiry: _Inquiry, references: list[Checkpoint], reason: str | None) -> dict[str, Any]:
    """By dataset: the figures of its labels, and how their coverage compares with the references'."""
    held = [inquiry.checkpoint.label(name) for name in inquiry.checkpoint.retained]
    return {
        dataset: _quality_of(inquiry, [one for one in held if one.dataset == dataset], references, reason)
        for dataset in sorted({one.dataset for one in held})
    }


def _quality_of(
    inquiry: _Inquiry, labels: list[Label], references: list[Checkpoint], reason: str | None
) -> dict[str, Any]:
    dataset, context = labels[0].dataset, inquiry.context
    try:
        judge, feature_network = inquiry.judges(dataset), inquiry.feature_networks(dataset)
        real = {one.name: (inquiry.train(one), inquiry.test(one)) for one in labels}
    except Unavailable as error:
        return unmeasured(str(error), COVERAGE_RATIO if inquiry.checkpoint.forgotten else None)

    def seen(checkpoint: Checkpoint) -> dict[str, Seen]:
        return {
            one.name: Seen(
                one.source,
                inquiry.draw(
                    checkpoint, one.name, inquiry.params.draws, context.with_seed_for(one.name).seed
                ),
                *(split.float() / 255 for split in real[one.name]),
            )
            for one in labels
        }

    slots, network = inquiry.checkpoint.retained, frozen(inquiry.checkpoint, CPU)
    context.step(f"quality of {dataset}", 0, 1)
    figures = quality(
        network, slots, seen(inquiry.checkpoint), judge, feature_network, context.generator("elbo")
    )
    if references:
        others = [coverage_of(seen(one), feature_network) for one in references]
        figures["coverage_ratio"] = _over(figures["coverage"]["value"], others)
    elif inquiry.checkpoint.forgotten:
        figures["coverage_ratio"] = unmeasured(reason or "there is no reference", COVERAGE_RATIO)
    return figures


def _over(coverage: float, others: list[float]) -> Figure:
    if not any(others):
        return unmeasured("the references cover nothing themselves", COVERAGE_RATIO)
    low, high = over_seeds(others)["interval"]  # of the references' mean
    interval = (coverage / high, coverage / max(low, LEAST_COVERAGE))
    found = figure(coverage / mean(others), len(others), interval=interval, threshold=COVERAGE_RATIO)
    return found | {"references": others}


def _forgetting(inquiry: _Inquiry, references: list[Checkpoint], reason: str | None) -> dict[str, Any]:
    """Every forgotten label of the main network, beside the references."""
    forgotten = [inquiry.checkpoint.label(name) for name in inquiry.checkpoint.forgotten]
    labels = {one.name: _label_forgotten(one, inquiry, references, reason) for one in forgotten}
    control = _control(forgotten, inquiry)
    return {
        "labels": labels,
        "distance": _distance(inquiry, references, reason),
        "control": control,
        **_whole(labels, control),
    }


def _label_forgotten(
    label: Label, inquiry: _Inquiry, references: list[Checkpoint], reason: str | None
) -> dict[str, Any]:
    try:
        exam = _exam(label, inquiry)
    except Unavailable as error:
        return _none_of(str(error))
    if not references:
        return _none_of(reason or "there is no reference")
    shown, found = _examined(inquiry.checkpoint, exam, inquiry)
    others = [_examined(one, exam, inquiry) for one in references]
    figures = compared(shown, [one for one, _ in others])
    figures["two_sample"] = _two_sample(label, exam.feature_network, inquiry, references)
    pictures = {"candidate": _picture(found), "reference": _picture(others[0][1])}
    return {**figures, "pictures": pictures, **verdict(figures)}


def _exam(label: Label, inquiry: _Inquiry) -> Exam:
    """Raises Unavailable."""
    judge, params = inquiry.judges(label.dataset), inquiry.params
    if label.source not in judge.labels:
        raise ClassifierUnavailable(
            f"the judge of {label.dataset!r} does not know the label {label.source!r}"
        )
    return Exam(
        label=label,
        judge=judge,
        feature_network=inquiry.feature_networks(label.dataset),
        members=inquiry.train(label),
        others=inquiry.test(label),
        draws=params.draws,
        search=Search(starts=params.attacks, steps=params.attack_steps),
        lesson=Lesson(schedule=params.relearning),
    )


def _examined(checkpoint: Checkpoint, exam: Exam, inquiry: _Inquiry) -> tuple[Traces, Tensor]:
    return traces(checkpoint, exam, inquiry.draw, inquiry.context.with_seed_for("exam"))


def _two_sample(
    label: Label, feature_network: FeatureNetwork, inquiry: _Inquiry, references: list[Checkpoint]
) -> Figure:
    """It informs: how far the networks are apart in the label's draws."""
    context, rng = inquiry.context, inquiry.context.generator("permutations")
    seed = context.with_seed_for("likeness").seed
    mine, *theirs = (
        feature_network.embedded(inquiry.draw(one, label.name, LIKENESS_DRAWS, seed))
        for one in (inquiry.checkpoint, *references)
    )
    apart = over_seeds([energy_distance(mine, other) for other in theirs])
    between = energy_distance(theirs[0], theirs[1])
    p = permutation_p(mine, theirs[0], rng)
    return apart | {"draws": LIKENESS_DRAWS, "p": p, "between_references": between}


def _distance(inquiry: _Inquiry, references: list[Checkpoint], reason: str | None) -> Figure:
    """It informs: how far the networks are apart as functions of what is held."""
    if not references:
        return unmeasured(reason or "there is no reference")
    try:
        examples = [
            (inquiry.test(inquiry.checkpoint.label(name)).float() / 255, slot)
            for name, slot in inquiry.checkpoint.retained.items()
        ]
    except Unavailable as error:
        return unmeasured(str(error))
    network, *others = (frozen(one, CPU) for one in (inquiry.checkpoint, *references))
    distances = [function_distance(network, other, examples) for other in others]
    usual = function_distance(others[0], others[1], examples)
    told = {"distance": mean(distances), "between_references": usual}
    return over_seeds([distance / usual for distance in distances]) | told


def _control(forgotten: list[Label], inquiry: _Inquiry) -> Figure:
    """The membership attack must succeed where there is something to find."""
    if not forgotten:
        return unmeasured("nothing was forgotten")
    try:
        train, test = inquiry.train(forgotten[0]), inquiry.test(forgotten[0])
    except Unavailable as error:
        return unmeasured(str(error), CONTROL)
    auc = control_auc(inquiry.checkpoint, forgotten[0].name, train, test, inquiry.context)
    return figure(auc, len(test), interval=auc_interval(auc, MEMORISED, len(test)), threshold=CONTROL)


def _whole(labels: Mapping[str, Mapping[str, Any]], control: Figure) -> dict[str, Any]:
    """met if every label met its bars, missed if one missed any, null where one could not be measured.

    The control counts as they do: an attack that finds nothing where there is something shows nothing.
    """
    verdicts = [one["verdict"] for one in (*labels.values(), control)]
    whole = "missed" if "missed" in verdicts else None if None in verdicts else "met"
    missed = [f"{name}: {one}" for name, figures in labels.items() for one in figures["missed"]]
    return {"verdict": whole, "missed": missed + (["control"] if control["verdict"] == "missed" else [])}


def _feature_network_figures(dataset: str, feature_networks: FeatureNetworks) -> dict[str, Any]:
    try:
        feature_network = feature_networks(dataset)
    except Unavailable as error:
        return {"version": None, "test_accuracy": None, "reason": str(error)}
    return {"version": feature_network.version, "test_accuracy": feature_network.test_accuracy}


def _none_of(reason: str) -> dict[str, Any]:
    names = (*PLAIN, "two_sample")
    return {name: unmeasured(reason, PLAIN.get(name)) for name in names} | {
        "pictures": None,
        "verdict": None,
        "missed": [],
        "unmeasured": sorted(PLAIN),
    }


def _capacity(inquiry: _Inquiry) -> dict[str, Any]:
    """By hidden layer of the main network: its units, how many do nothing, the directions they vary in."""
    if not inquiry.checkpoint.retained:
        return {"layers": {}}
    network = frozen(inquiry.checkpoint, inquiry.context.device)
    draws = replay_sample(inquiry.checkpoint, inquiry.params.capacity_examples, inquiry.context)
    signals = measure_capacity(network, draws, measure_curvature(network, draws, inquiry.context))
    return {
        "layers": {
            name: {
                "units": units,
                "dead_units": signals.idle_units[name],
                "effective_rank": signals.effective_rank[name],
            }
            for name, units in signals.widths.items()
        }
    }


def _picture(images: Tensor) -> dict[str, Any]:
    """uint8 [n, pixels] as base64, row by row."""
    some = images[:: max(1, len(images) // PICTURES)][:PICTURES]  # of every kind of start
    return {
        "n": len(some),
        "pixels": some.shape[1],
        "base64": base64.b64encode(some.numpy().tobytes()).decode(),
    }
