"""Remove verdicts that rest on a judge which misses thresholds of its own (`Judge.why_no_verdict`)."""

from collections.abc import Mapping

from reports import ComparedFigure, Figure, ForgettingPart, LabelForgetting
from worker.learning.judging.comparison import summarise_verdicts
from worker.learning.judging.forgetting_part import summarise_forgetting

WITHOUT_JUDGE = frozenset({"membership"})
"""The figures of a forgotten label that no judge decides."""


def withhold_verdicts(part: ForgettingPart, reasons: Mapping[str, str]) -> ForgettingPart:
    """Remove the verdicts that a judge decides from labels that have a reason (label -> reason)."""
    labels = {
        name: _withheld(one, reasons[name]) if name in reasons else one for name, one in part.labels.items()
    }
    return summarise_forgetting(labels, distance=part.distance, control=part.control)


def _withheld(label: LabelForgetting, reason: str) -> LabelForgetting:
    figures = {name: one for name, one in label if isinstance(one, Figure)}
    withheld = {
        name: _without_verdict(one, reason)
        for name, one in figures.items()
        if one.value is not None and one.threshold is not None and name not in WITHOUT_JUDGE
    }
    verdict, missed, unmeasured = summarise_verdicts(figures | withheld)
    return label.model_copy(
        update=withheld | {"verdict": verdict, "missed": missed, "unmeasured": unmeasured}
    )


def _without_verdict(figure: Figure, reason: str) -> Figure:
    nothing = {"verdict": None, "reason": reason}
    return figure.model_copy(
        update=nothing | ({"fixed_verdict": None} if isinstance(figure, ComparedFigure) else {})
    )
