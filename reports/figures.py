"""A figure: one measured number with what it rests on, what it is held to, and whether it met that."""

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
    """One measured number. What could not be measured has no value, and the reason instead."""

    value: float | None = Field(description="null where nothing could be measured")
    n: int = Field(description="how many draws, images or networks the value rests on")
    interval: Interval | None = Field(None, description="the 95 % interval of the value, low and high")
    threshold: AnyThreshold | None = Field(None, description="what the value is held to; null if to nothing")
    verdict: Verdict | None = Field(
        None, description="null without a threshold, and where the measurement cannot decide"
    )
    reason: str | None = Field(None, description="why there is no value or no verdict")

    @classmethod
    def unmeasured(cls, reason: str, threshold: AnyThreshold | None = None) -> Self:
        """A figure that could not be measured, with the reason, and what it would have been held to."""
        return cls(value=None, n=0, threshold=threshold, reason=reason)

    @property
    def measured_value(self) -> float:
        """The value of a figure that was measured. Raises ValueError with the reason if it was not."""
        if self.value is None:
            raise ValueError(f"the figure was not measured: {self.reason}")
        return self.value


class LabelFigure(Figure):
    """How often the judge gives a label's draws that label: the open-set accuracy, 0 to 1.

    Where the label is a forgotten one, the threshold is the most it may be drawn.
    """

    threshold: Threshold | None = Field(None, description="null where the label is held to nothing")
    rejected: float | None = Field(None, description="share of the draws that the judge gives no label")
    closed_accuracy: float | None = Field(
        None, description="share whose likeliest label is theirs, whether the judge would reject them or not"
    )
    coverage: float | None = Field(
        None, description="share of the label's real test images with a draw among their nearest neighbours"
    )


class LabelGroup(LabelFigure):
    """Several labels: the mean over them, each drawn equally often, and each of them alone.

    There is no mean unless every label could be measured. The verdict on forgotten labels is "missed" if the
    verdict on one of them is.
    """

    labels: dict[str, LabelFigure]


class Criterion(Figure):
    """What was measured for one acceptance criterion of a job. An unmeasured figure misses its criterion."""

    criterion: CriterionName
    threshold: Threshold
    verdict: Verdict
    label: str | None = Field(description="the label it is about; null where it is about all that are held")


class ReferenceFigure(Figure):
    """A figure that is compared with the same figure of each reference network."""

    references: tuple[float, ...] = Field((), description="the figure of each reference")


class ComparedFigure(ReferenceFigure):
    """A figure of how well a label was forgotten, beside networks that never saw it.

    The threshold is the fixed threshold, widened to where one more reference would lie in 95 of 100 cases.
    Between the two there is no verdict.
    """

    fixed_threshold: AnyThreshold | None = Field(
        None, description="what is demanded however far apart the references are"
    )
    fixed_verdict: Verdict | None = None


class RecoveryFigure(ComparedFigure):
    """The share of recovery attacks that find the label in the network."""

    gap: float | None = Field(None, description="the value minus the mean of the references")


class Curves(Value):
    """Accuracy of a label's draws while the label is learned again, as points (optimiser steps, accuracy)."""

    target_accuracy: float = Field(description="the accuracy at which the label counts as learned again")
    candidate: Curve
    references: tuple[Curve, ...]


class RelearningFigure(ComparedFigure):
    """Optimiser steps until the label is learned again, over the mean of the references' steps.

    A network that still knows the label needs fewer. `references` are steps, too.
    """

    steps: float | None = Field(None, description="of this version")
    is_lower_bound: bool | None = Field(
        None, description="the version never got there: it takes at least so many steps"
    )
    unseen_ratio: float | None = Field(
        None,
        description="the same ratio for a figure no network ever saw; null if a network never learned it",
    )
    memory: float | None = Field(None, description="the value over unseen_ratio: near 1 for no memory of it")
    curves: Curves | None = None


class MembershipFigure(ComparedFigure):
    """How much better a membership attack works than on the references: |AUC - mean AUC of the references|.

    The largest such gap of the attacks on single images; `references` are AUCs of that attack.
    """

    auc: dict[str, float] | None = Field(None, description="AUC by attack")
    gaps: dict[str, float] | None = Field(None, description="distance to the references' mean, by attack")
    attack: str | None = Field(None, description="the attack with the largest gap")


class TwoSampleFigure(Figure):
    """The energy distance of the label's draws to each reference's draws, mean over references."""

    draws: int | None = Field(None, description="images of each network")
    p: float | None = Field(None, description="p-value of a permutation test against the first reference")
    between_references: float | None = Field(None, description="the distance of two references")


class FunctionDistance(Figure):
    """How differently networks reconstruct images of the labels held, over the distance of two references."""

    distance: float | None = Field(
        None, description="mean over references of the root mean square over pixels"
    )
    between_references: float | None = Field(None, description="the distance of two references")


class FigureSummary(Figure):
    """A figure of any kind, without curves and other detail."""

    references: tuple[float, ...] = ()
    fixed_threshold: AnyThreshold | None = None
    fixed_verdict: Verdict | None = None
    memory: float | None = None

    @classmethod
    def of(cls, figure: Figure) -> "FigureSummary":
        """Take from the figure what it has of these fields."""
        found = {name: getattr(figure, name) for name in cls.model_fields if hasattr(figure, name)}
        return FigureSummary.model_construct(**found)
