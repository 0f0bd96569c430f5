"""The style of all plots, and the plots that several experiments share.

The plots are readable in print, and the same figures give the same bytes.
"""

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

# The colours of Okabe & Ito, which colour-blind readers can tell apart.
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
    """Make a figure and save it to `file` at the end. Yields its axes, one or an array. size: inches."""
    with plt.style.context(STYLE):
        fig, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **shared)
        try:
            yield axes
            save(fig, file)
        finally:
            plt.close(fig)


def save(fig: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(file, metadata={"Software": None})


def percent_axis(axes: Axes, low: float | None = None, high: float | None = None) -> None:
    """Set the limits of a y axis of shares, and label it in percent."""
    axes.set_ylim(low, high)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top - bottom > 0.04 else 1, symbol=" %"))


def plot_runs(
    axes: Axes, xs: Sequence[float], rows: Sequence[Sequence[float]], *, colour: str, label: str
) -> None:
    """Plot every run as a thin line, and their mean as a thick one."""
    for row in rows:
        axes.plot(xs[: len(row)], row, color=colour, linewidth=0.7, alpha=0.35)
    axes.plot(xs, np.mean(rows, axis=0), color=colour, linewidth=2.4, label=label)


def plot_band(
    axes: Axes, xs: Sequence[float], intervals: Sequence[dict[str, Any]], *, colour: str, **line: Any
) -> None:
    """Plot means as a line, with their intervals as a band around it; a single run has no interval."""
    axes.plot(xs, [one["mean"] for one in intervals], color=colour, marker="o", markersize=3.5, **line)
    if all(one["low"] is not None for one in intervals):
        low, high = ([one[end] for one in intervals] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
