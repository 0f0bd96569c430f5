"""Figures: a measured number with its sample size, interval, threshold and verdict."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field

from reports.thresholds import AnyThreshold, Threshold, Verdict
from reports.values import Value

Interval = tuple[float, float]
Curve = tuple[tuple[int, float], ...]
CriterionName = Literal[
    "retained_accuracy_min", "worst_retained_accuracy_min", "forgotten_accuracy_max", "relapse_accuracy_max"
]


class Figure(Value):
    """One measured number. A figure that could not be measured has a reason instead of a value."""

    value: float | None = Field(description="null if it could not be measured")
    n: int = Field(description="how many draws, images or networks the value rests on")
    interval: Interval | None = Field(None, description="the 95 % interval of the value, low and high")
    threshold: AnyThreshold | None = Field(None, description="the limit of the value; null if it has none")
    verdict: Verdict | None = Field(
        None,
        description="whether the value meets the threshold; null without a threshold, and if the measurement "
        "cannot decide it",
    )
    reason: str | None = Field(None, description="why there is no value or no verdict")

    @classmethod
    def unmeasured(cls, reason: str, threshold: AnyThreshold | None = None) -> Self:
        """Return a figure that could not be measured, with the reason and the threshold it would have had."""
        return cls(value=None, n=0, threshold=threshold, reason=reason)

    @property
    def measured_value(self) -> float:
        """The value of a figure that was measured. Raises ValueError with the reason if it was not."""
        if self.value is None:
            raise ValueError(f"the figure was not measured: {self.reason}")
        return self.value


def join_reasons(figures: Iterable[Figure]) -> str | None:
    """Return the reasons of these figures, each once; None if they have none."""
    return "; ".join(sorted({figure.reason for figure in figures if figure.reason is not None})) or None


class LabelFigure(Figure):
    """Open-set accuracy: the share, 0 to 1, of a label's draws that the judge recognises as that label.

    The judge is a classifier that knows the dataset's labels and can reject an image as none of them.

    For a forgotten label the threshold is an upper limit.
    """

    threshold: Threshold | None = Field(None, description="null if the label has no limit")
    rejected: float | None = Field(
        None, description="share of the draws that the judge rejects as showing no label"
    )
    closed_accuracy: float | None = Field(
        None,
        description="share of the draws whose most likely label is theirs, if the judge may not reject any",
    )
    coverage: float | None = Field(
        None, description="share of the label's real test images that have a draw in their neighbourhood"
    )
    judge_accuracy: float | None = Field(
        None,
        description="share of the label's real test images that the judge recognises as that label; null if "
        "there are no such images",
    )
    relative_accuracy: float | None = Field(
        None, description="value divided by judge_accuracy; null for a forgotten label"
    )
    relative_coverage: float | None = Field(
        None,
        description="coverage divided by that of as many real train images; about 1 for perfect draws, "
        "however many images there are",
    )

    def with_threshold(self, threshold: Threshold) -> Self:
        """Return the figure with this threshold, and with the verdict by it.

        It has no verdict if it has no value, or a reason why it can have none.
        """
        decided = self.value is not None and self.reason is None
        verdict = threshold.verdict(self.measured_value) if decided else None
        return self.model_copy(update={"threshold": threshold, "verdict": verdict})


class LabelGroup(LabelFigure):
    """Several labels: the mean over them, each drawn equally often, and the figure of each label.

    The group has no value unless every label could be measured. A group of forgotten labels has the verdict
    "missed" if one of its labels has it.
    """

    labels: dict[str, LabelFigure]


class Criterion(Figure):
    """What was measured for an acceptance criterion of a job. An unmeasured one is missed.

    A figure that has no verdict because of its judge is compared with the limit all the same, because the
    client chose it; then there is a reason beside the verdict.
    """

    criterion: CriterionName
    threshold: Threshold
    verdict: Verdict
    label: str | None = Field(description="the label it is about; null if it is about all retained labels")


class ReferenceFigure(Figure):
    """A figure that is compared with the same figure of each reference network."""

    references: tuple[float, ...] = Field((), description="the figure of each reference")


class ComparedFigure(ReferenceFigure):
    """A figure of how well a label was forgotten, compared with reference networks that never saw it.

    The threshold is the fixed threshold, loosened to the 95 % prediction interval of one more reference. A
    value between the two has no verdict: there are too few references to decide.
    """

    fixed_threshold: AnyThreshold | None = Field(
        None, description="the limit that does not depend on how far apart the references are"
    )
    fixed_verdict: Verdict | None = None


class RecoveryFigure(ComparedFigure):
    """The share of recovery attacks that find images of the label in the network."""

    gap: float | None = Field(None, description="the value minus the mean of the references")


class Curves(Value):
    """Accuracy of a label's draws while the label is learned again, as points (optimiser steps, accuracy)."""

    target_accuracy: float = Field(description="the accuracy at which the label counts as learned again")
    candidate: Curve
    references: tuple[Curve, ...]


class RelearningFigure(ComparedFigure):
    """Optimiser steps until the label is learned again, divided by the mean of the references' steps.

    A network that still knows the label needs fewer steps. `references` are numbers of steps.
    """

    steps: float | None = Field(None, description="steps that this version took")
    is_lower_bound: bool | None = Field(
        None, description="the version did not learn the label again: it takes more than so many steps"
    )
    unseen_ratio: float | None = Field(
        None,
        description="the same ratio for a shape that no network ever saw; null if a network did not learn it",
    )
    memory: float | None = Field(
        None,
        description="the value divided by unseen_ratio; near 1 if the version has no memory of the label",
    )
    curves: Curves | None = None


class MembershipFigure(ComparedFigure):
    """How differently a membership attack works on the references: |AUC - mean AUC of the references|.

    The value is the largest such gap among the attacks on single images. `references` are the AUCs of
    that attack.
    """

    auc: dict[str, float] | None = Field(None, description="AUC by attack")
    gaps: dict[str, float] | None = Field(None, description="distance to the references' mean, by attack")
    attack: str | None = Field(None, description="the attack with the largest gap")


class TwoSampleFigure(Figure):
    """Energy distance between draws of the label by the version and a reference, mean over references."""

    draws: int | None = Field(None, description="images of each network")
    p: float | None = Field(None, description="p-value of a permutation test against the first reference")
    between_references: float | None = Field(None, description="the distance between two references")


class FunctionDistance(Figure):
    """How differently the version and the references reconstruct images of the retained labels.

    The value is the distance to the references, divided by the distance between two references.
    """

    distance: float | None = Field(None, description="root mean square over pixels, mean over references")
    between_references: float | None = Field(None, description="the distance between two references")


class FigureSummary(Figure):
    """A figure of any kind, without curves and other detail."""

    references: tuple[float, ...] = ()
    fixed_threshold: AnyThreshold | None = None
    fixed_verdict: Verdict | None = None
    memory: float | None = None

    @classmethod
    def of(cls, figure: Figure) -> "FigureSummary":
        """Summarise a figure: copy those of these fields that it has."""
        found = {name: getattr(figure, name) for name in cls.model_fields if hasattr(figure, name)}
        return FigureSummary.model_construct(**found)
