"""The pictures of random histories: the paper's figures 3 and 4, relapse, and size beside labels held."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.plots import BLUE, COLOURS, GREY, ORANGE, RED, figure, percent, runs
from experiments.running import Found

PAPERS_MEAN = 0.95  # of figure 4
PANELS = 10

Histories = Sequence[Found]


def draw_histories(histories: Mapping[str, Histories], folder: Path) -> None:
    """All pictures, PNG: those of one strategy for each; figure 4 holds them all."""
    accuracy_over_passes(histories, folder / "accuracy-over-passes.png")
    for name, found in histories.items():
        suffix = "" if len(histories) == 1 else f"-{name}"
        bars_by_label(found, folder / f"labels-against-simple{suffix}.png")
        relapse_over_passes(found, folder / f"relapse-over-passes{suffix}.png")
        size_over_passes(found, folder / f"size-over-passes{suffix}.png")


def bars_by_label(histories: Histories, file: Path) -> None:
    """Figure 3: a panel a seed, a pair of bars for each label held after the last pass."""
    shown = histories[:PANELS]
    columns = min(5, len(shown))
    rows = math.ceil(len(shown) / columns)
    with figure(
        file, rows=rows, columns=columns, size=(2.1 * columns, 1.9 * rows + 0.4), squeeze=False
    ) as axes:
        for panel in axes.flat[len(shown) :]:
            panel.set_axis_off()
        for panel, history in zip(axes.flat, shown, strict=False):
            _bars(panel, history)
        for panel in axes[:, 0]:
            panel.set_ylabel("accuracy of draws")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        axes.flat[0].figure.legend(handles, labels, loc="outside upper center", ncols=2)


def _bars(panel: Axes, history: Found) -> None:
    ours, simple = history["passes"][-1]["by_label"], history["simple"]["by_label"]
    labels, places = list(ours), np.arange(len(ours))
    for shift, found, colour, name in (
        (-0.2, ours, BLUE, f"after {len(history['passes'])} passes"),
        (0.2, simple, ORANGE, "simple: trained on the labels left, at once"),
    ):
        heights = [found[label]["closed"] for label in labels]
        panel.bar(places + shift, heights, 0.4, color=colour, label=name)
    panel.set_xticks(places, labels)
    panel.set_title(f"seed {history['seed']}", loc="left")
    panel.grid(axis="x", visible=False)
    lowest = min(shares["closed"] for found in (ours, simple) for shares in found.values())
    percent(panel, low=min(0.8, math.floor(20 * lowest) / 20), high=1.005)


def accuracy_over_passes(histories: Mapping[str, Histories], file: Path) -> None:
    """Figure 4: average accuracy of the labels held after every pass; the paper's as a line."""
    with figure(file, size=(5.6, 3.2)) as axes:
        for colour, (name, found) in zip(COLOURS, histories.items(), strict=False):
            rows = [[one["closed"] for one in history["passes"]] for history in found]
            runs(axes, _numbers(found), rows, colour=colour, label=f"{name}: mean of {len(rows)} seeds")
        _simple(axes, next(iter(histories.values())))
        axes.axhline(PAPERS_MEAN, color=GREY, linestyle=":", label="the paper's runs, about 95 % on average")
        axes.set_xlabel("pass")
        axes.set_ylabel("accuracy of the labels held")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        percent(axes, low=min(0.9, *_all(histories, "closed")) - 0.01, high=1.002)
        axes.legend(loc="lower right")


def _simple(axes: Axes, histories: Histories) -> None:
    if any(one["simple"] is None for history in histories for one in history["passes"]):
        return
    rows = [[one["simple"]["closed"] for one in history["passes"]] for history in histories]
    axes.plot(
        _numbers(histories), np.mean(rows, axis=0), color=ORANGE, linestyle="--", label="simple models: mean"
    )


def relapse_over_passes(histories: Histories, file: Path) -> None:
    """Every forgotten label after every later pass, by the open-set judge; and where none ever was."""
    with figure(file, size=(5.6, 2.8)) as axes:
        passes = [one for history in histories for one in history["passes"]]
        points = [(one["pass"], share) for one in passes for share in one["gone"].values()]
        sideways = np.random.default_rng(0).uniform(-0.18, 0.18, len(points))
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        axes.scatter(np.add(xs, sideways), ys, s=9, color=RED, alpha=0.45, linewidths=0, label="a label")
        means = [(number, [y for x, y in points if x == number]) for number in sorted(set(xs))]
        axes.plot(
            [number for number, _ in means], [np.mean(found) for _, found in means], color=BLUE, label="mean"
        )
        if all(one["simple"] for one in passes):
            _never_learnt(axes, passes)
        axes.set_xlabel("pass")
        axes.set_ylabel("draws still judged as\nthe forgotten label")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        percent(axes, low=-0.001, high=max(0.05, 1.1 * max(ys, default=0)))
        axes.legend(loc="upper right", ncols=3)


def _never_learnt(axes: Axes, passes: Sequence[Found]) -> None:
    drawn: dict[int, list[float]] = {}
    for one in passes:
        drawn.setdefault(one["pass"], []).extend(one["simple"]["unfilled"][label] for label in one["gone"])
    means = {number: np.mean(shares) for number, shares in sorted(drawn.items()) if shares}
    axes.plot(list(means), list(means.values()), color=ORANGE, linestyle="--", label="simple models: mean")


def size_over_passes(histories: Histories, file: Path) -> None:
    """Labels held, hidden units and parameters after every pass."""
    drawn: tuple[tuple[str, Callable[[Found], float], str], ...] = (
        ("labels held", lambda one: one["held"], GREY),
        ("hidden units", lambda one: one["units"], BLUE),
        ("parameters, millions", lambda one: one["parameters"] / 1e6, RED),
    )
    with figure(file, columns=3, size=(8.6, 2.6)) as axes:
        for panel, (name, value, colour) in zip(axes, drawn, strict=True):
            rows = [[value(one) for one in history["passes"]] for history in histories]
            runs(panel, _numbers(histories), rows, colour=colour, label="mean")
            panel.set_title(name, loc="left")
            panel.set_xlabel("pass")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _numbers(histories: Histories) -> list[int]:
    return [one["pass"] for one in histories[0]["passes"]]


def _all(histories: Mapping[str, Histories], name: str) -> list[float]:
    return [one[name] for found in histories.values() for history in found for one in history["passes"]]
