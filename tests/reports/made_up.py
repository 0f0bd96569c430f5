"""Reports as a worker writes them, with figures that a test chooses."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from reports import (
    Capacity,
    ClassifierSummary,
    ComparedFigure,
    Criterion,
    Curves,
    Figure,
    ForgettingPart,
    FullReport,
    FunctionDistance,
    Guarantee,
    JudgeSummary,
    LabelFigure,
    LabelForgetting,
    LabelGroup,
    LabelQuality,
    LayerCapacity,
    Margin,
    MembershipFigure,
    Picture,
    Pictures,
    QualityPart,
    Range,
    RecoveryFigure,
    ReferencePart,
    RelearningFigure,
    Report,
    TwoSampleFigure,
    at_least,
    at_most,
)
from reports.figures import Curve

Kind = TypeVar("Kind", bound=Figure)
PICTURE = Picture(n=16, pixels=784, base64=base64.b64encode(bytes(range(256)) * 49).decode())


def label_figure(accuracy: float | None, *, limit: float | None = None) -> LabelFigure:
    """An accuracy over 1000 draws, held to at most `limit` if there is one."""
    if accuracy is None:
        return LabelFigure.unmeasured("no judge")
    threshold = None if limit is None else at_most(limit)
    return LabelFigure(
        value=accuracy,
        n=1000,
        interval=(max(accuracy - 0.01, 0), accuracy + 0.01),
        threshold=threshold,
        verdict=None if threshold is None else threshold.verdict(accuracy),
        rejected=0.002,
        closed_accuracy=min(accuracy + 0.01, 1),
        coverage=0.875,
    )


def label_group(labels: Mapping[str, float | None], *, limit: float | None = None) -> LabelGroup:
    """The labels' accuracies and their mean; no mean where one is None."""
    known = [one for one in labels.values() if one is not None]
    mean = sum(known) / len(known) if known and len(known) == len(labels) else None
    own = dict(label_figure(mean))
    return LabelGroup(**own, labels={name: label_figure(one, limit=limit) for name, one in labels.items()})


def quick_report(
    held: Iterable[str],
    gone: Mapping[str, float | None],
    *,
    guarantee: Guarantee | None = "approximate",
) -> Report:
    """A quick report: 95.1 % of each label held, and of each forgotten one what `gone` says."""
    return Report(
        n=1000,
        seed=7,
        judge={"mnist": JudgeSummary(version="a" * 64, test_accuracy=0.991)},
        retained=label_group(dict.fromkeys(held, 0.951)),
        forgotten=label_group(gone, limit=0.05),
        capacity=Capacity(
            parameters=1_000_000, isolated_parameters={}, encoder_widths=(512, 256), decoder_widths=(256, 512)
        ),
        guarantee=guarantee,
    )


WEAK = "the judge misses thresholds of its own (test accuracy, blur 1.0 kept)"


def by_weak_judge(quick: Report) -> Report:
    """The same by a judge that misses thresholds of its own. The one acceptance criterion is met."""
    without: dict[str, Any] = {"verdict": None, "reason": WEAK}
    groups = {}
    for name, group in (("retained", quick.retained), ("forgotten", quick.forgotten)):
        labels = {label: one.model_copy(update=without) for label, one in group.labels.items()}
        groups[name] = group.model_copy(update={"labels": labels, **(without if labels else {})})
    missed = ("test_accuracy", "blur_1.0_kept")
    judges = {name: one.model_copy(update={"missed": missed}) for name, one in quick.judge.items()}
    met = Criterion(
        criterion="retained_accuracy_min",
        label=None,
        value=0.951,
        n=1000,
        interval=(0.941, 0.961),
        threshold=at_least(0.8),
        verdict="met",
        reason=WEAK,
    )
    return quick.model_copy(update={"judge": judges, "criteria": (met,), **groups})


def full_report(quick: Report) -> FullReport:
    """The same in full: recovery missed its limit, everything else that has a limit met it."""
    labels = {name: summarise_label() for name in quick.forgotten.labels}
    fields: dict[str, Any] = {name: part for name, part in quick if name not in ("level", "capacity")}
    return FullReport(
        **fields,
        capacity=quick.capacity.model_copy(
            update={"layers": {"decoder.0": LayerCapacity(units=256, dead_units=3, effective_rank=80.2)}}
        ),
        quality={
            "mnist": QualityPart(
                **dict(_quality()), fid=_plain(), fid_floor=_plain(), labels={"1": _quality()}
            )
        },
        forgetting=ForgettingPart(
            labels=labels,
            distance=FunctionDistance(value=1.1, n=2, distance=0.1, between_references=0.09),
            control=_held(Figure),
            verdict="missed",
            missed=tuple(f"{name}: recovery" for name in labels),
        ),
        feature_network={"mnist": ClassifierSummary(version="b" * 64, test_accuracy=0.985)},
        reference=ReferencePart(
            seeds=3,
            accuracy=(0.95, 0.96, 0.94),
            schedule={"steps": 100},
            encoder_widths=(512, 256),
            decoder_widths=(256, 512),
        ),
    )


def summarise_label() -> LabelForgetting:
    """A label whose recovery missed its threshold, and whose relearning met its threshold."""
    return LabelForgetting(
        accuracy=ComparedFigure(
            value=0.01, n=256, references=(0.01, 0.02), fixed_threshold=Margin(op="<=", margin=0.02)
        ),
        recovery=_held(
            RecoveryFigure,
            threshold=Range(low=0.2, high=0.6),
            verdict="missed",
            references=(0.3, 0.5),
            fixed_threshold=Margin(op="within", margin=0.1),
            fixed_verdict="missed",
            gap=0.5,
        ),
        relearning=_held(
            RelearningFigure,
            references=(20, 24),
            fixed_threshold=at_least(0.8),
            fixed_verdict="met",
            memory=0.97,
            curves=Curves(
                target_accuracy=0.9,
                candidate=learning_curve(18),
                references=(learning_curve(20), learning_curve(24)),
            ),
        ),
        membership=MembershipFigure(value=0.01, n=2),
        two_sample=TwoSampleFigure(value=0.2, n=2),
        pictures=Pictures(candidate=PICTURE, reference=PICTURE),
        verdict="missed",
        missed=("recovery",),
        unmeasured=(),
    )


def learning_curve(steps: int) -> Curve:
    """A curve of 40 steps that reaches 90 % after so many."""
    return tuple((step, round(1 - 0.1 ** ((step / steps) ** 2), 4)) for step in range(0, 41, 4))


def _held(kind: type[Kind], **more: Any) -> Kind:
    """A figure of 0.9 that has to be at least 0.8."""
    known = {"value": 0.9, "n": 256, "interval": (0.8, 0.95), "threshold": at_least(0.8), "verdict": "met"}
    return kind(**(known | more))


def _plain() -> Figure:
    return Figure(value=3.0, n=2000)


def _quality() -> LabelQuality:
    plain = Figure(value=0.9, n=256, interval=(0.8, 0.95))
    return LabelQuality(
        accuracy=plain,
        closed_accuracy=plain,
        density=plain,
        coverage=_held(Figure),
        diversity=plain,
        elbo=plain,
    )
