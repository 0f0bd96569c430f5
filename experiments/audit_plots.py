"""Pictures of an audit: what the attacks found, the curves of learning again, and the figures as bars."""

import itertools
import math
import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from experiments.audit_parts import Part, tensors_of
from experiments.plots import COLOURS, GREEN, GREY, ORANGE, RED, figure, percent

Everything = Mapping[Part, dict[str, Any]]
COLUMNS = 16  # recovered images a row
BARS = {  # figure -> what it is called, and the lines it must keep
    "recovery_gap": ("recovered, above references", (-0.1, 0.1)),
    "relearn_ratio": ("steps to relearn / references'", (0.8,)),
    "membership_auc_gap": ("membership, |AUC - references'|", (0.02,)),
    "forgotten_above_references": ("drawn, above references", (0.02,)),
    "coverage_ratio": ("coverage / references'", (0.95,)),
    "likeness": ("energy distance of the draws", ()),
}


def plots(rows: Mapping[str, Any], everything: Everything, folder: Path) -> None:
    """Writes audit-recovered.png, audit-relearning.png and audit-figures.png."""
    recovered(everything, folder / "audit-recovered.png")
    relearning(everything, folder / "audit-relearning.png")
    bars(rows, folder / "audit-figures.png")


def short(strategy: str) -> str:
    return strategy.replace("_", " ")


def recovered(everything: Everything, file: Path) -> None:
    """Of the first label: what the recovery attack ended with, a row a network."""
    label = next(iter(everything)).label
    parts = sorted((one for one in everything if one.label == label), key=_order)
    size = (8.6, 0.66 * len(parts) + 0.4)
    with figure(file, rows=len(parts), size=size, squeeze=False) as axes:
        for axis, part in zip(axes[:, 0], parts, strict=True):
            found = everything[part]
            axis.imshow(_strip(tensors_of(found)["recovered"]).numpy(), cmap="gray", vmin=0, vmax=255)
            share = found["traces"]["found"] / found["traces"]["starts"]
            name = f"{short(part.strategy)}{f' {part.seed}' if part.strategy == 'reference' else ''}"
            axis.set_ylabel(f"{name}\n{share:.0%}", rotation=0, ha="right", va="center")
            axis.grid(visible=False)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, 0].set_title(
            f"Attacks to recover the forgotten {label}; the share the judge takes for one", loc="left"
        )


def _strip(images: Tensor) -> Tensor:
    """uint8 [n, pixels] -> [side, COLUMNS * side], spread over the three kinds of starts."""
    chosen = images[torch.linspace(0, len(images) - 1, COLUMNS).long()]
    side = int(images.shape[1] ** 0.5)
    return chosen.view(COLUMNS, side, side).permute(1, 0, 2).reshape(side, COLUMNS * side)


def relearning(everything: Everything, file: Path) -> None:
    """The label's accuracy over steps, means over labels; and a figure that no network ever saw."""
    kinds = (("curve", "The forgotten label, learnt again"), ("unseen_curve", "What no network ever saw"))
    strategies = sorted({part.strategy for part in everything}, key=_order_of)
    others = [name for name in strategies if name != "reference"]
    styles = dict(zip(others, itertools.product(("-", "--", ":"), COLOURS), strict=False))
    with figure(file, columns=2, size=(8.6, 3.4), sharey=True) as axes:
        for axis, (kind, title) in zip(axes, kinds, strict=True):
            for strategy in strategies:
                curves = [
                    one["traces"][kind] for part, one in everything.items() if part.strategy == strategy
                ]
                steps = [step for step, _ in curves[0]]
                means = [
                    statistics.mean(point[1] for point in points) for points in zip(*curves, strict=True)
                ]
                usual = strategy == "reference"
                line, colour = ("-", "black") if usual else styles[strategy]
                width = 3.2 if usual else 1.4
                axis.plot(steps, means, line, label=short(strategy), linewidth=width, color=colour)
            axis.axhline(0.9, color=GREY, linewidth=0.8, linestyle=":")
            axis.set_title(title, loc="left")
            axis.set_xlabel("steps")
        axes[0].set_ylabel("draws the judge takes for it")
        percent(axes[0], low=0, high=1.02)
        axes[1].legend(loc="lower right")


def bars(rows: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Each figure's mean over labels, with the deviation between labels, and the lines it must keep."""
    names = list(rows)
    size = (8.6, 1.2 + 0.5 * len(names))
    with figure(file, rows=2, columns=3, size=size, sharey=True) as axes:
        for axis, (name, (title, lines)) in zip(axes.flat, BARS.items(), strict=True):
            _bars(axis, rows, name, lines)
            axis.set_title(title, loc="left")
        axes[0, 0].invert_yaxis()


def _bars(axis: Axes, rows: Mapping[str, Mapping[str, Any]], name: str, lines: Collection[float]) -> None:
    values = [math.nan if row[name] is None else row[name] for row in rows.values()]
    spreads = [row["spread"].get(name) or 0 for row in rows.values()]
    colours = [_colour(row, name) if lines else GREY for row in rows.values()]
    most = max(row["labels"] for row in rows.values())
    names = [
        short(one) + (f" ({row['labels']} label)" if row["labels"] < most else "")
        for one, row in rows.items()
    ]
    axis.barh(names, values, color=colours)
    axis.errorbar(values, range(len(values)), xerr=spreads, fmt="none", color="black", linewidth=0.9)
    for line in lines:
        axis.axvline(line, color="black", linewidth=0.9, linestyle="--")
    axis.grid(axis="y", visible=False)


def _colour(row: Mapping[str, Any], name: str) -> str:
    """Red: further off than one more reference may be. Orange: only the plain bar is missed."""
    if _among(name, row["missed"]):
        return RED
    return ORANGE if _among(name, row["bars_missed"]) else GREEN


def _among(name: str, missed: Collection[str]) -> bool:
    names = {
        "recovery_gap": {"recovery_gap", "recovery_within_spread"},
        "forgotten_above_references": {"forgotten_accuracy"},
    }
    return bool(names.get(name, {name}) & set(missed))


def _order(part: Part) -> tuple[int, str, int]:
    return (*_order_of(part.strategy), part.seed)


def _order_of(strategy: str) -> tuple[int, str]:
    """What was never forgotten first, then the references, then the strategies."""
    first = {"nothing": 0, "reference": 1}
    return first.get(strategy, 2), strategy
