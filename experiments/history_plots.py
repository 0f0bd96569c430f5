"""Plots of random histories: the paper's figures 3 and 4, the relapses, and the size of the network."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.plots import BLUE, COLOURS, GREY, ORANGE, RED, figure, percent_axis, plot_runs
from experiments.running import Result

PAPERS_MEAN = 0.95
"""Mean accuracy in the paper's figure 4."""
PANELS = 10

Histories = Sequence[Result]


def plot_histories(histories: Mapping[str, Histories], folder: Path) -> None:
    """Write all plots as PNG: one figure 4 for all forget strategies, and the other plots for each."""
    plot_accuracy(histories, folder / "accuracy-over-passes.png")
    for name, runs in histories.items():
        suffix = "" if len(histories) == 1 else f"-{name}"
        plot_accuracy_by_label(runs, folder / f"labels-against-simple{suffix}.png")
        plot_relapses(runs, folder / f"relapse-over-passes{suffix}.png")
        plot_size(runs, folder / f"size-over-passes{suffix}.png")


def plot_accuracy_by_label(histories: Histories, file: Path) -> None:
    """Draw figure 3: a panel for each seed, with two bars for each label held after the last pass."""
    shown = histories[:PANELS]
    columns = min(5, len(shown))
    rows = math.ceil(len(shown) / columns)
    with figure(
        file, rows=rows, columns=columns, size=(2.1 * columns, 1.9 * rows + 0.4), squeeze=False
    ) as axes:
        for panel in axes.flat[len(shown) :]:
            panel.set_axis_off()
        for panel, history in zip(axes.flat, shown, strict=False):
            plot_bars(panel, history)
        for panel in axes[:, 0]:
            panel.set_ylabel("accuracy of draws")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        axes.flat[0].figure.legend(handles, labels, loc="outside upper center", ncols=2)


def plot_bars(panel: Axes, history: Result) -> None:
    """Plot the accuracy of each label held after the last pass, beside that of the simple model."""
    ours, simple = history["passes"][-1]["by_label"], history["simple"]["by_label"]
    labels, places = list(ours), np.arange(len(ours))
    for shift, scores, colour, name in (
        (-0.2, ours, BLUE, f"after {len(history['passes'])} passes"),
        (0.2, simple, ORANGE, "simple: trained on the labels left, at once"),
    ):
        heights = [scores[label]["closed"] for label in labels]
        panel.bar(places + shift, heights, 0.4, color=colour, label=name)
    panel.set_xticks(places, labels)
    panel.set_title(f"seed {history['seed']}", loc="left")
    panel.grid(axis="x", visible=False)
    lowest = min(one["closed"] for scores in (ours, simple) for one in scores.values())
    percent_axis(panel, low=min(0.8, math.floor(20 * lowest) / 20), high=1.005)


def plot_accuracy(histories: Mapping[str, Histories], file: Path) -> None:
    """Draw figure 4: the mean accuracy of the labels held after every pass, and the paper's as a line."""
    with figure(file, size=(5.6, 3.2)) as axes:
        for colour, (name, runs) in zip(COLOURS, histories.items(), strict=False):
            rows = [[one["closed"] for one in history["passes"]] for history in runs]
            plot_runs(axes, _numbers(runs), rows, colour=colour, label=f"{name}: mean of {len(rows)} seeds")
        _plot_simple(axes, next(iter(histories.values())))
        axes.axhline(PAPERS_MEAN, color=GREY, linestyle=":", label="the paper's runs, about 95 % on average")
        axes.set_xlabel("pass")
        axes.set_ylabel("accuracy of the labels held")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        percent_axis(axes, low=min(0.9, *_values(histories, "closed")) - 0.01, high=1.002)
        axes.legend(loc="lower right")


def _plot_simple(axes: Axes, histories: Histories) -> None:
    if any(one["simple"] is None for history in histories for one in history["passes"]):
        return
    rows = [[one["simple"]["closed"] for one in history["passes"]] for history in histories]
    axes.plot(
        _numbers(histories), np.mean(rows, axis=0), color=ORANGE, linestyle="--", label="simple models: mean"
    )


def plot_relapses(histories: Histories, file: Path) -> None:
    """Draw how often each forgotten label is drawn after every later pass, and how often simple models do."""
    with figure(file, size=(5.6, 2.8)) as axes:
        passes = [one for history in histories for one in history["passes"]]
        points = [(one["pass"], share) for one in passes for share in one["forgotten_by_label"].values()]
        jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(points))
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        axes.scatter(np.add(xs, jitter), ys, s=9, color=RED, alpha=0.45, linewidths=0, label="a label")
        means = [(number, [y for x, y in points if x == number]) for number in sorted(set(xs))]
        axes.plot(
            [number for number, _ in means],
            [np.mean(shares) for _, shares in means],
            color=BLUE,
            label="mean",
        )
        if all(one["simple"] for one in passes):
            _plot_never_learned(axes, passes)
        axes.set_xlabel("pass")
        axes.set_ylabel("draws still judged as\nthe forgotten label")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        percent_axis(axes, low=-0.001, high=max(0.05, 1.1 * max(ys, default=0)))
        axes.legend(loc="upper right", ncols=3)


def _plot_never_learned(axes: Axes, passes: Sequence[Result]) -> None:
    drawn: dict[int, list[float]] = {}
    for one in passes:
        drawn.setdefault(one["pass"], []).extend(
            one["simple"]["unfilled"][label] for label in one["forgotten_by_label"]
        )
    means = {number: np.mean(shares) for number, shares in sorted(drawn.items()) if shares}
    axes.plot(list(means), list(means.values()), color=ORANGE, linestyle="--", label="simple models: mean")


def plot_size(histories: Histories, file: Path) -> None:
    """Draw the labels held, the hidden units and the parameters after every pass."""
    drawn: tuple[tuple[str, Callable[[Result], float], str], ...] = (
        ("labels held", lambda one: one["held"], GREY),
        ("hidden units", lambda one: one["units"], BLUE),
        ("parameters, millions", lambda one: one["parameters"] / 1e6, RED),
    )
    with figure(file, columns=3, size=(8.6, 2.6)) as axes:
        for panel, (name, value, colour) in zip(axes, drawn, strict=True):
            rows = [[value(one) for one in history["passes"]] for history in histories]
            plot_runs(panel, _numbers(histories), rows, colour=colour, label="mean")
            panel.set_title(name, loc="left")
            panel.set_xlabel("pass")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _numbers(histories: Histories) -> list[int]:
    return [one["pass"] for one in histories[0]["passes"]]


def _values(histories: Mapping[str, Histories], name: str) -> list[float]:
    return [one[name] for runs in histories.values() for history in runs for one in history["passes"]]
