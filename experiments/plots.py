"""How the experiments' figures look: one style, readable in print, the same bytes from the same figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

matplotlib.use("agg")

# Okabe & Ito's colours, which everybody can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#8A8A8A",
)
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "savefig.dpi": 130,
    "savefig.bbox": "tight",
}


@contextmanager
def figure(
    file: Path, *, rows: int = 1, columns: int = 1, size: tuple[float, float], **shared: Any
) -> Iterator[Any]:
    """A figure, saved to `file` at the end; gives its axes, one or an array of them. size: inches."""
    with plt.style.context(STYLE):
        drawn, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **shared)
        try:
            yield axes
            saved(drawn, file)
        finally:
            plt.close(drawn)


def saved(drawn: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(file, metadata={"Software": None})


def percent(axes: Axes, low: float | None = None, high: float | None = None) -> None:
    """The y axis in percent, of shares."""
    axes.set_ylim(low, high)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top - bottom > 0.04 else 1, symbol=" %"))


def runs(
    axes: Axes, xs: Sequence[float], rows: Sequence[Sequence[float]], *, colour: str, label: str
) -> None:
    """Every run as a thin line, and their mean as a thick one."""
    for row in rows:
        axes.plot(xs[: len(row)], row, color=colour, linewidth=0.7, alpha=0.35)
    axes.plot(xs, np.mean(rows, axis=0), color=colour, linewidth=2.4, label=label)


def band(
    axes: Axes, xs: Sequence[float], intervals: Sequence[dict[str, Any]], *, colour: str, **line: Any
) -> None:
    """Means as a line with their intervals around it; a single run has none."""
    axes.plot(xs, [one["mean"] for one in intervals], color=colour, marker="o", markersize=3.5, **line)
    if all(one["low"] is not None for one in intervals):
        low, high = ([one[end] for one in intervals] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
