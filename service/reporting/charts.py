"""Compute the positions in the charts of a report's page; the template draws them as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reports import Curves, LabelFigure, RelearningFigure
from reports.figures import Curve
from service.reporting.formatting import percent
from service.reporting.relapse import RelapsePoint

CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 300, 70, 12
PLOT = {"left": 38, "right": 300, "top": 20, "bottom": 134}
"""The area of the relearning curves, in pixels. The labels of the axes are outside it."""
MIN_TOP = 0.02
"""The smallest share at the upper edge of a relapse chart, so that rounding noise does not fill the chart."""

BESIDE_ACCURACY = (
    ("rejected", "{} rejected"),
    ("closed_accuracy", "{} if the judge may not reject"),
    ("relative_accuracy", "{} of what the judge recognises of real test images"),
    ("coverage", "covers {} of the real test images"),
    ("relative_coverage", "{} of what as many real train images cover"),
)
"""The measurements printed beside a label's accuracy: field and text."""


@dataclass(frozen=True)
class AccuracyBar:
    """A label's accuracy as a bar, with marks for its interval and its limit. Positions are 0 to 100."""

    name: str
    figure: LabelFigure
    beside: str
    """Text: what else was measured of the label's draws."""
    width: float
    low: float | None
    high: float | None
    limit: float | None


class ChartPoint(NamedTuple):
    """A point with its interval, in pixels from the upper left corner."""

    x: float
    y: float
    low: float
    high: float
    is_missed: bool
    is_of_this_version: bool
    """Whether the point belongs to the version that the page is about."""
    text: str


@dataclass(frozen=True)
class RelapseChart:
    """A forgotten label's accuracy, version by version, as points joined by a line."""

    name: str
    points: list[ChartPoint]
    limit: float | None
    top: str
    """The share at the upper edge, as text."""
    is_missed: bool
    """Whether the newest version missed the limit."""
    reason: str | None
    """Why the newest version was not measured, or has no verdict."""


@dataclass(frozen=True)
class RelearningChart:
    """How a label was learned again: curves as the points of polylines, `x,y x,y ...` in pixels."""

    name: str
    figure: RelearningFigure
    candidate: str
    references: list[str]
    limit: float
    """Height of the line at which the label counts as learned again, in pixels from the upper edge."""
    target_accuracy: float
    steps: int
    """The number of steps at the right edge."""
    text: str


def accuracy_bar(name: str, figure: LabelFigure) -> AccuracyBar:
    """Compute the bar of a label's accuracy."""
    measured = [(template, getattr(figure, field)) for field, template in BESIDE_ACCURACY]
    low, high = figure.interval or (None, None)
    return AccuracyBar(
        name,
        figure,
        beside=", ".join(
            template.format(percent(share)) for template, share in measured if share is not None
        ),
        width=100 * (figure.value or 0.0),
        low=None if low is None else 100 * low,
        high=None if high is None else 100 * high,
        limit=None if figure.threshold is None else 100 * figure.threshold.limit,
    )


def relapse_chart(name: str, points: Sequence[RelapsePoint], this_version: int) -> RelapseChart:
    """Compute the chart of a forgotten label's accuracy. this_version: number of the page's version."""
    measured = [(point, point.value) for point in points if point.value is not None]
    limits = [point.threshold.limit for point in points if point.threshold is not None]
    highest = [point.interval[1] if point.interval else value for point, value in measured]
    top = min(1.0, max([2 * limit for limit in limits] + highest + [MIN_TOP]))
    step = (CHART_WIDTH - 2 * CHART_MARGIN) / max(len(measured) - 1, 1)
    drawn = []
    for index, (point, value) in enumerate(measured):
        low, high = point.interval or (value, value)
        drawn.append(
            ChartPoint(
                x=round(CHART_MARGIN + index * step, 1),
                y=_chart_y(value, top),
                low=_chart_y(low, top),
                high=_chart_y(high, top),
                is_missed=point.verdict == "missed",
                is_of_this_version=point.version == this_version,
                text=f"version {point.version}: {percent(value)}",
            )
        )
    limit = _chart_y(limits[-1], top) if limits else None
    is_missed = any(point.is_missed for point in drawn[-1:])
    return RelapseChart(name, drawn, limit, percent(top), is_missed, points[-1].reason if points else None)


def relearning_chart(name: str, figure: RelearningFigure, curves: Curves) -> RelearningChart:
    """Compute the curves of the version and the references learning a label again."""
    steps = max(curve[-1][0] for curve in (curves.candidate, *curves.references))
    end, *ends = (_end(curve) for curve in (curves.candidate, *curves.references))
    return RelearningChart(
        name,
        figure,
        candidate=_polyline(curves.candidate, steps),
        references=[_polyline(curve, steps) for curve in curves.references],
        limit=_plot_y(curves.target_accuracy),
        target_accuracy=curves.target_accuracy,
        steps=steps,
        text=f"accuracy at the end: this version {end}, references {', '.join(ends)}",
    )


def _end(curve: Curve) -> str:
    steps, accuracy = curve[-1]
    return f"{percent(accuracy)} after {steps} steps"


def _chart_y(value: float, top: float) -> float:
    """Pixels from the upper edge of a relapse chart whose upper edge is `top`."""
    return round(4 + (CHART_HEIGHT - 8) * (1 - min(value / top, 1.0)), 1)


def _polyline(curve: Curve, steps: int) -> str:
    """A curve of a single point is a line of no length, which round line ends make a dot."""
    step_width = (PLOT["right"] - PLOT["left"]) / max(steps, 1)
    curve = curve if len(curve) > 1 else (curve[0], curve[0])
    return " ".join(f"{PLOT['left'] + step * step_width:.1f},{_plot_y(accuracy)}" for step, accuracy in curve)


def _plot_y(accuracy: float) -> float:
    """Pixels from the upper edge of a relearning chart, whose vertical axis runs from 0 to 1."""
    return round(PLOT["bottom"] - (PLOT["bottom"] - PLOT["top"]) * accuracy, 1)
