"""Pictures of an audit: what the attacks found, the curves of learning again, and the figures as bars."""

import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.audit_parts import Part, tensors_of

Everything = Mapping[Part, dict[str, Any]]
COLUMNS = 16  # recovered images a row
BARS = {  # figure -> what it is called, and the lines it must keep
    "recovery_gap": ("recovery: candidate - references", (-0.1, 0.1)),
    "relearn_ratio": ("steps to relearn / references", (0.8,)),
    "membership_auc_gap": ("membership: |AUC - references|", (0.02,)),
    "forgotten_above_references": ("forgotten label drawn, above references", (0.02,)),
    "coverage_ratio": ("coverage of the retained / references", (0.95,)),
    "likeness": ("energy distance of the draws", ()),
}


def plots(figures: Mapping[str, Any], everything: Everything, folder: Path) -> None:
    """Writes recovered.png, relearning.png and figures.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in (
        ("recovered", _recovered(everything)),
        ("relearning", _relearning(everything)),
        ("figures", _bars(figures["strategies"])),
    ):
        plot.savefig(folder / f"{name}.png", dpi=110)
        plt.close(plot)


def short(strategy: str) -> str:
    """`surrogate:{"surrogate":"never_learned"}` as `surrogate never_learned`."""
    name, _, sent = strategy.partition(":")
    return f"{name} {sent.split(':')[-1].strip('{} ').replace(chr(34), '')}".strip()


def _recovered(everything: Everything) -> Figure:
    """Of the first label: what the recovery attack ended with, a row a network."""
    label = min(part.label for part in everything)
    parts = sorted((one for one in everything if one.label == label), key=_order)
    plot, axes = plt.subplots(len(parts), 1, figsize=(11, 0.85 * len(parts) + 0.6), squeeze=False)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        found = everything[part]
        axis.imshow(_strip(tensors_of(found)["recovered"]).numpy(), cmap="gray", vmin=0, vmax=255)
        share = found["traces"]["found"] / found["traces"]["starts"]
        name = f"{short(part.strategy)}{f' {part.seed}' if part.strategy == 'reference' else ''}"
        axis.set_ylabel(f"{name}\n{share:.0%}", rotation=0, ha="right", va="center", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    plot.suptitle(
        f"Recovery attacks on the forgotten {label}, and the share the judge takes for one", fontsize=11
    )
    plot.tight_layout()
    return plot


def _strip(images: Tensor) -> Tensor:
    """uint8 [n, pixels] -> [side, COLUMNS * side], spread over the three kinds of starts."""
    chosen = images[torch.linspace(0, len(images) - 1, COLUMNS).long()]
    side = int(images.shape[1] ** 0.5)
    return chosen.view(COLUMNS, side, side).permute(1, 0, 2).reshape(side, COLUMNS * side)


def _relearning(everything: Everything) -> Figure:
    """The label's accuracy over steps, means over labels; and a figure that no network ever saw."""
    plot, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    kinds = (("curve", "The forgotten label"), ("unseen_curve", "What no network ever saw"))
    for axis, (kind, title) in zip(axes, kinds, strict=True):
        for strategy in sorted({part.strategy for part in everything}, key=_order_of):
            curves = [
                found["traces"][kind] for part, found in everything.items() if part.strategy == strategy
            ]
            steps = [step for step, _ in curves[0]]
            means = [statistics.mean(point[1] for point in points) for points in zip(*curves, strict=True)]
            usual = strategy == "reference"
            axis.plot(steps, means, label=short(strategy), lw=3 if usual else 1.4, c="k" if usual else None)
        axis.axhline(0.9, c="grey", lw=0.8, ls=":")
        axis.set(title=title, xlabel="steps")
    axes[0].set_ylabel("share of draws the judge takes for it")
    axes[1].legend(fontsize=8)
    plot.tight_layout()
    return plot


def _bars(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each figure's mean over labels, with the deviation between labels, and the lines it must keep."""
    names = list(rows)
    plot, axes = plt.subplots(2, 3, figsize=(12, 2.2 + 0.55 * len(names)), sharey=True)
    for axis, (figure, (title, lines)) in zip(axes.flat, BARS.items(), strict=True):
        spreads = [(rows[name]["spread"].get(figure) or 0) for name in names]
        colours = [_colour(rows[name], figure) if lines else "tab:grey" for name in names]
        axis.barh([short(name) for name in names], [rows[name][figure] for name in names], color=colours)
        axis.errorbar(
            [rows[name][figure] for name in names], range(len(names)), xerr=spreads, fmt="none", c="k"
        )
        for line in lines:
            axis.axvline(line, c="k", lw=0.9, ls="--")
        axis.set_title(title, fontsize=9)
    axes[0, 0].invert_yaxis()
    plot.tight_layout()
    return plot


def _colour(row: Mapping[str, Any], figure: str) -> str:
    """Red: further off than one more reference may be. Orange: only the plain bar is missed."""
    if _among(figure, row["missed"]):
        return "tab:red"
    return "tab:orange" if _among(figure, row["bars_missed"]) else "tab:green"


def _among(figure: str, missed: Collection[str]) -> bool:
    names = {
        "recovery_gap": {"recovery_gap", "recovery_within_spread"},
        "forgotten_above_references": {"forgotten_accuracy"},
    }
    return bool(names.get(figure, {figure}) & set(missed))


def _order(part: Part) -> tuple[int, str, int]:
    return (*_order_of(part.strategy), part.seed)


def _order_of(strategy: str) -> tuple[int, str]:
    """What was never forgotten first, then the references, then the strategies."""
    first = {"nothing": 0, "reference": 1}
    return first.get(strategy, 2), strategy
