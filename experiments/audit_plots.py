"""Plots of an audit: recovered images, relearning curves, and the figures as bars."""

import itertools
import math
import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from experiments.audit_cases import NOTHING, REFERENCE, Case, CaseResult
from experiments.audit_summary import (
    COVERAGE_LIMIT,
    FORGOTTEN_LIMIT,
    MEMBERSHIP_LIMIT,
    RECOVERY_LIMIT,
    RELEARN_LIMIT,
)
from experiments.plots import COLOURS, GREEN, GREY, ORANGE, RED, figure, percent_axis

COLUMNS = 16
"""Recovered images in a row."""
PANELS = {
    "recovery_gap": ("recovery gap", (-RECOVERY_LIMIT, RECOVERY_LIMIT)),
    "relearn_ratio": ("relearn ratio", (RELEARN_LIMIT,)),
    "membership_auc_gap": ("membership AUC gap", (MEMBERSHIP_LIMIT,)),
    "forgotten_above_references": ("drawn, above references", (FORGOTTEN_LIMIT,)),
    "coverage_ratio": ("coverage ratio", (COVERAGE_LIMIT,)),
    "likeness": ("energy distance of draws", ()),
}
"""Figure -> its title, and its limits."""


def plot_all(rows: Mapping[str, Any], results: Mapping[Case, CaseResult], folder: Path) -> None:
    """Write audit-recovered.png, audit-relearning.png and audit-figures.png."""
    plot_recovered_images(results, folder / "audit-recovered.png")
    plot_relearning_curves(results, folder / "audit-relearning.png")
    plot_figures(rows, folder / "audit-figures.png")


def plot_recovered_images(results: Mapping[Case, CaseResult], file: Path) -> None:
    """Draw, for the first label, the images that the recovery attack ended with: a row for each network."""
    label = next(iter(results)).label
    cases = sorted((one for one in results if one.label == label), key=_case_order)
    size = (8.6, 0.66 * len(cases) + 0.4)
    with figure(file, rows=len(cases), size=size, squeeze=False) as axes:
        for axis, case in zip(axes[:, 0], cases, strict=True):
            result = results[case]
            axis.imshow(_tile(result.tensors()["recovered"]).numpy(), cmap="gray", vmin=0, vmax=255)
            several = sum(one.strategy == case.strategy for one in cases) > 1
            name = f"{_title(case.strategy)}{f' {case.seed}' if several else ''}"
            axis.set_ylabel(
                f"{name}\n{result.measurements.recovery:.0%}", rotation=0, ha="right", va="center"
            )
            axis.grid(visible=False)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, 0].set_title(
            f"Attacks that try to recover the forgotten {label}, and the share that the judge recognises",
            loc="left",
        )


def _tile(images: Tensor) -> Tensor:
    """Join COLUMNS of the images, evenly spaced: uint8 [n, pixels] -> [side, COLUMNS * side]."""
    chosen = images[torch.linspace(0, len(images) - 1, COLUMNS).long()]
    side = int(images.shape[1] ** 0.5)
    return chosen.view(COLUMNS, side, side).permute(1, 0, 2).reshape(side, COLUMNS * side)


def plot_relearning_curves(results: Mapping[Case, CaseResult], file: Path) -> None:
    """Draw the accuracy of the label while it is learned again, and of images that no network ever saw.

    A line is the mean over labels. A curve that has ended, because it reached its target, counts with its
    last value.
    """
    kinds = (
        ("curve", "The forgotten label, learned again"),
        ("unseen_curve", "Images that no network ever saw"),
    )
    strategies = sorted({case.strategy for case in results}, key=_strategy_order)
    others = [name for name in strategies if name != REFERENCE]
    styles = dict(zip(others, itertools.product(("-", "--", ":"), COLOURS), strict=False))
    with figure(file, columns=2, size=(8.6, 3.4), sharey=True) as axes:
        for axis, (kind, title) in zip(axes, kinds, strict=True):
            for strategy in strategies:
                curves = [
                    getattr(result.measurements, kind)
                    for case, result in results.items()
                    if case.strategy == strategy
                ]
                steps = [step for step, _ in max(curves, key=len)]
                means = [
                    statistics.mean(curve[min(index, len(curve) - 1)][1] for curve in curves)
                    for index in range(len(steps))
                ]
                line, colour = ("-", "black") if strategy == REFERENCE else styles[strategy]
                width = 3.2 if strategy == REFERENCE else 1.4
                axis.plot(steps, means, line, label=_title(strategy), linewidth=width, color=colour)
            axis.axhline(0.9, color=GREY, linewidth=0.8, linestyle=":")
            axis.set_title(title, loc="left")
            axis.set_xlabel("steps")
        axes[0].set_ylabel("draws that the judge recognises")
        percent_axis(axes[0], low=0, high=1.02)
        axes[1].legend(loc="lower right")


def plot_figures(rows: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Draw each figure's mean over labels, the deviation between labels, and the limits."""
    size = (8.6, 1.2 + 0.5 * len(rows))
    with figure(file, rows=2, columns=3, size=size, sharey=True) as axes:
        for axis, (name, (title, limits)) in zip(axes.flat, PANELS.items(), strict=True):
            _plot_panel(axis, rows, name, limits)
            axis.set_title(title, loc="left")
        axes[0, 0].invert_yaxis()


def _plot_panel(
    axis: Axes, rows: Mapping[str, Mapping[str, Any]], name: str, limits: Collection[float]
) -> None:
    values = [math.nan if row[name] is None else row[name] for row in rows.values()]
    spreads = [row["spread"].get(name) or 0 for row in rows.values()]
    colours = [_colour(row, name) if limits else GREY for row in rows.values()]
    most = max(row["labels"] for row in rows.values())
    names = [
        _title(one) + (f" ({row['labels']} label)" if row["labels"] < most else "")
        for one, row in rows.items()
    ]
    axis.barh(names, values, color=colours)
    axis.errorbar(values, range(len(values)), xerr=spreads, fmt="none", color="black", linewidth=0.9)
    for limit in limits:
        axis.axvline(limit, color="black", linewidth=0.9, linestyle="--")
    axis.grid(axis="y", visible=False)


def _colour(row: Mapping[str, Any], name: str) -> str:
    """Red if the verdict counts the figure as missed, orange if only its limit is missed, green otherwise."""
    if _has_missed(name, row["missed"]):
        return RED
    return ORANGE if _has_missed(name, row["bars_missed"]) else GREEN


def _has_missed(name: str, missed: Collection[str]) -> bool:
    criteria = {
        "recovery_gap": {"recovery_gap", "recovery_within_spread"},
        "forgotten_above_references": {"forgotten_accuracy"},
    }
    return bool(criteria.get(name, {name}) & set(missed))


def _title(strategy: str) -> str:
    return strategy.replace("_", " ")


def _case_order(case: Case) -> tuple[int, str, int]:
    return (*_strategy_order(case.strategy), case.seed)


def _strategy_order(strategy: str) -> tuple[int, str]:
    """Sort first the network that forgot nothing, then the references, then the strategies."""
    return {NOTHING: 0, REFERENCE: 1}.get(strategy, 2), strategy
