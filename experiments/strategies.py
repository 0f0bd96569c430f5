"""Every strategy on the same start, measured in one run; writes docs/strategies.md.

    python -m experiments.strategies --seeds 1 --json - --page docs/strategies.md

The start is a model that learned 0-4 by the default strategy. Each learn strategy then learns 5, 6 and 7,
each forget strategy forgets 3, each resize strategy resizes, with its default params; `merge` and `drop` find
5, 6 and 7 learnt temporarily, and make them permanent or forget them. Accuracy is the share of 1,000 draws a
label that the open-set judge takes for their label; a rejected draw is a wrong one. Coverage is the share of
real test images, of the labels retained, with a draw among their five nearest neighbours: accuracy alone
rises when draws collapse.
"""

import argparse
import inspect
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from experiments.critic import Critic
from worker.learning import datasets, drawing, strategy
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.judge import load_judge
from worker.learning.judging.report import quick
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Strategy, TrainingContext
from worker.process.devices import compute_reproducibly

START, NEW, GONE = ("0", "1", "2", "3", "4"), ("5", "6", "7"), ("3",)
OF_TEMPORARY = ("merge", "drop")  # work on isolated networks: those of NEW
CPU = torch.device("cpu")
COLUMNS = ("operation", "strategy", "retained", "coverage", "new", "forgotten", "seconds", "parameters")


class Archive:
    """Real images, and the blank model as everybody's ancestor."""

    def __init__(self, dataset: datasets.Dataset, start: Checkpoint) -> None:
        self._dataset, self.start = dataset, start

    def images(self, label: Label) -> torch.Tensor:
        return self._dataset.train[label.name]

    def held_out(self, label: Label) -> torch.Tensor:
        return self._dataset.test[label.name]

    def newest_without(self, names: object) -> Checkpoint:
        return self.start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs, each with a seed of its own")
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--page", help="file for the page of strategies")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    try:
        mnist = datasets.load("mnist", Path(options.data).expanduser())
    except datasets.DatasetUnavailable as error:
        raise SystemExit(str(error)) from None
    rows = [row for seed in range(options.seeds) for row in measured(mnist, seed)]
    text = json.dumps({"dataset": "mnist", "seeds": options.seeds, "rows": rows}, indent=2) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        Path(options.json).write_text(text)
    if options.page:
        Path(options.page).write_text(page(rows, options.seeds))


def measured(mnist: datasets.Dataset, seed: int) -> list[dict[str, Any]]:
    """One row a strategy."""
    empty = blank({"architecture": "mlp"}, seed=seed)
    archive = Archive(mnist, empty)
    default = strategy.find("learn", "replay_ewc")
    start = default.run(empty, given(mnist, START), default.Params(), TrainingContext(CPU, seed, archive))
    asked = {"learn": given(mnist, NEW), "forget": Examples(GONE, "mnist"), "resize": Examples((), "mnist")}
    beside = strategy.find("learn", "isolated")
    temporary = beside.run(start, given(mnist, NEW), beside.Params(), TrainingContext(CPU, seed, archive))
    rows, critic = [], Critic.of(mnist)
    for one in strategy.all_strategies():
        isolated = one.name in OF_TEMPORARY
        labels = Examples(NEW, "mnist") if isolated else asked[one.operation]
        rows.append(row(one, temporary if isolated else start, labels, archive, critic, seed))
    return rows


def given(mnist: datasets.Dataset, names: tuple[str, ...]) -> Examples:
    return Examples(names, mnist.name, {name: mnist.train[name] for name in names})


def row(
    one: Strategy, start: Checkpoint, asked: Examples, archive: Archive, critic: Critic, seed: int
) -> dict[str, Any]:
    sys.stderr.write(f"seed {seed}: {one.operation} {one.name}\n")
    began = time.perf_counter()
    after = one.run(start, asked, one.Params(), TrainingContext(CPU, seed, archive))
    seconds = time.perf_counter() - began
    report = quick(after, load_judge, n=1000, seed=seed, draw=drawing.draw)
    accuracy = {name: figure["accuracy"] for name, figure in report["retained"]["labels"].items()}
    retained = [name for name in accuracy if name not in NEW]
    return {
        "operation": one.operation,
        "strategy": one.name,
        "seed": seed,
        "retained": statistics.mean(accuracy[name] for name in retained),
        "coverage": statistics.mean(critic.shares(after, name, seed).coverage for name in retained),
        "new": statistics.mean(accuracy[name] for name in NEW) if one.operation == "learn" else None,
        "forgotten": report["forgotten"]["accuracy"],
        "seconds": round(seconds, 1),
        "parameters": sum(network.parameters for network in (after, *after.isolated)),
    }


def page(rows: list[dict[str, Any]], seeds: int) -> str:
    """The page of strategies: what each does, from its own docstring, and one table of one run."""
    intro = " ".join((__doc__ or "").split("The start is", 1)[1].split())
    lines = [
        "# Strategies",
        "",
        "Written by `python -m experiments.strategies --page docs/strategies.md`; do not edit it by hand.",
        "",
        f"The start is {intro} MNIST, one CPU thread, {seeds} seed{'s' if seeds > 1 else ''} (means).",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *(cells(one, [row for row in rows if key(row) == (one.operation, one.name)]) for one in known()),
    ]
    for one in known():
        lines += ["", f"## {one.operation}: `{one.name}`", "", inspect.cleandoc(one.run.__doc__ or "")]
        lines += ["", f"Source: {one.source}."]
    return "\n".join(lines) + "\n"


def known() -> list[Strategy]:
    return strategy.all_strategies()


def key(row: dict[str, Any]) -> tuple[str, str]:
    return row["operation"], row["strategy"]


def cells(one: Strategy, rows: list[dict[str, Any]]) -> str:
    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return statistics.mean(values) if values else None

    def share(name: str) -> str:
        value = mean(name)
        return "-" if value is None else f"{100 * value:.1f} %"

    seconds, parameters = mean("seconds") or 0, mean("parameters") or 0
    name = f"`{one.name}`" + (" (default)" if one.default else "")
    shares = " | ".join(share(column) for column in ("retained", "coverage", "new", "forgotten"))
    return f"| {one.operation} | {name} | {shares} | {seconds:.1f} | {parameters:,.0f} |"


if __name__ == "__main__":
    main()
