"""Run every strategy from the same start, and write docs/strategies.md.

    python -m experiments.strategies --seeds 1 --json - --page docs/strategies.md
    python -m experiments.strategies --page docs/strategies.md --text-only

The second form runs nothing: it writes the page with the strategies' docstrings as they are now, and takes
the measured figures from the page that is there.
"""

import argparse
import inspect
import json
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.running import add_data_option, data_folder
from experiments.scoring import Scorer
from experiments.training_setup import CPU, DatasetArchive, examples_of
from worker.learning import datasets, drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.judge import load_judge
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Strategy, TrainingContext
from worker.process.devices import compute_reproducibly

HELD, NEW, TO_FORGET = ("0", "1", "2", "3", "4"), ("5", "6", "7"), ("3",)
FOR_TEMPORARY_LABELS = ("merge", "drop")
"""Strategies that need isolated networks, here those of the labels NEW."""
COLUMNS = ("operation", "strategy", "retained", "coverage", "new", "forgotten", "seconds", "parameters")
INTRO = """
Every strategy runs with its default params, from a model that has learned 0-4 with the default strategy. A
learn strategy learns 5, 6 and 7, a forget strategy forgets 3, a resize strategy resizes. For `merge` and
`drop`, the model has learned 5, 6 and 7 as temporary labels; they make them permanent or forget them.
Accuracy is the share of 1,000 draws of each label that the open-set judge takes for that label; a draw it
rejects counts as wrong. Coverage is the share of real test images of the retained labels with a draw among
their five nearest neighbours. It is shown because accuracy alone also rises if all draws of a label look
the same.
"""
ONE_SEED, SEVERAL_SEEDS = "MNIST, one CPU thread, 1 seed.", "MNIST, one CPU thread, means of {} seeds."

Key = tuple[str, str]
"""Operation and name of a strategy."""
Figures = Mapping[Key, Sequence[str]]
"""For each strategy, its cells of the table from the third column on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="number of runs, each with its own seed")
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--page", type=Path, help="file for the page of strategies")
    parser.add_argument(
        "--text-only", action="store_true", help="run nothing: write the page again, with the figures it has"
    )
    add_data_option(parser)
    options = parser.parse_args()
    if options.text_only:
        if options.page is None:
            parser.error("--text-only needs --page")
        options.page.write_text(page(*read_figures(options.page.read_text())))
        return
    compute_reproducibly(threads=1)
    try:
        mnist = datasets.load("mnist", data_folder(options))
    except datasets.DatasetUnavailable as error:
        raise SystemExit(str(error)) from None
    rows = [row for seed in range(options.seeds) for row in measure_all(mnist, seed)]
    text = json.dumps({"dataset": "mnist", "seeds": options.seeds, "rows": rows}, indent=2) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        Path(options.json).write_text(text)
    if options.page:
        options.page.write_text(page(format_figures(rows), options.seeds))


def measure_all(mnist: datasets.Dataset, seed: int) -> list[dict[str, Any]]:
    """Run and measure every strategy; return a row for each."""
    empty = blank({"architecture": "mlp"}, seed=seed)
    archive, scorer = DatasetArchive(mnist, empty), Scorer.of(mnist)
    learn, isolated = strategy.find("learn", "replay_ewc"), strategy.find("learn", "isolated")
    start = learn.run(empty, examples_of(mnist, HELD), learn.Params(), TrainingContext(CPU, seed, archive))
    with_temporary = isolated.run(
        start, examples_of(mnist, NEW), isolated.Params(), TrainingContext(CPU, seed, archive)
    )
    requests = {
        "learn": examples_of(mnist, NEW),
        "forget": Examples(TO_FORGET, "mnist"),
        "resize": Examples((), "mnist"),
    }
    rows = []
    for one in strategy.all_strategies():
        temporary = one.name in FOR_TEMPORARY_LABELS
        request = Examples(NEW, "mnist") if temporary else requests[one.operation]
        rows.append(measure(one, with_temporary if temporary else start, request, archive, scorer, seed))
    return rows


def measure(
    one: Strategy, start: Checkpoint, request: Examples, archive: DatasetArchive, scorer: Scorer, seed: int
) -> dict[str, Any]:
    """Run the strategy from the start; return its row."""
    sys.stderr.write(f"seed {seed}: {one.operation} {one.name}\n")
    began = time.perf_counter()
    after = one.run(start, request, one.Params(), TrainingContext(CPU, seed, archive))
    seconds = time.perf_counter() - began
    report = measure_quick_report(after, load_judge, n=1000, seed=seed, draw=drawing.draw)
    accuracy = {name: figure.measured_value for name, figure in report.retained.labels.items()}
    retained = [name for name in accuracy if name not in NEW]
    return {
        "operation": one.operation,
        "strategy": one.name,
        "seed": seed,
        "retained": statistics.mean(accuracy[name] for name in retained),
        "coverage": statistics.mean(scorer.scores(after, name, seed).coverage for name in retained),
        "new": statistics.mean(accuracy[name] for name in NEW) if one.operation == "learn" else None,
        "forgotten": report.forgotten.value,
        "seconds": round(seconds, 1),
        "parameters": sum(network.parameters for network in (after, *after.isolated)),
    }


def page(figures: Figures, seeds: int) -> str:
    """Return the page: a table of the figures, and what each strategy does, from its docstring."""
    strategies = strategy.all_strategies()
    lines = [
        "# Strategies",
        "",
        "Written by `python -m experiments.strategies`; do not edit by hand. `make pages` updates its text.",
        "",
        f"{' '.join(INTRO.split())} {ONE_SEED if seeds == 1 else SEVERAL_SEEDS.format(seeds)}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(_table_row(one, figures) for one in strategies),
    ]
    for one in strategies:
        lines += ["", f"## {one.operation}: `{one.name}`", "", inspect.cleandoc(one.run.__doc__ or "")]
        lines += ["", f"Source: {one.source}."]
    return "\n".join(lines) + "\n"


def _table_row(one: Strategy, figures: Figures) -> str:
    if (one.operation, one.name) not in figures:
        raise SystemExit(
            f"there are no figures of the {one.operation} strategy {one.name!r}: run without --text-only"
        )
    name = f"`{one.name}`" + (" (default)" if one.default else "")
    return f"| {' | '.join([one.operation, name, *figures[one.operation, one.name]])} |"


def read_figures(text: str) -> tuple[Figures, int]:
    """Return the figures of a page of strategies, as text, and the number of seeds they are means of."""
    rows = re.findall(r"^\| (\w+) \| `(\w+)`(?: \(default\))? \| (.+) \|$", text, re.MULTILINE)
    seeds = re.search(r"(\d+) seed", text)
    if not rows or seeds is None:
        raise SystemExit("the page has no figures to keep: run without --text-only")
    return {(operation, name): cells.split(" | ") for operation, name, cells in rows}, int(seeds[1])


def format_figures(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Return each strategy's means over its rows, one for each seed, as the cells of the table."""
    by_strategy: dict[Key, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_strategy.setdefault((row["operation"], row["strategy"]), []).append(row)
    return {key: _cells(rows_of_strategy) for key, rows_of_strategy in by_strategy.items()}


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return statistics.mean(values) if values else None

    def share(name: str) -> str:
        value = mean(name)
        return "-" if value is None else f"{100 * value:.1f} %"

    shares = [share(column) for column in ("retained", "coverage", "new", "forgotten")]
    return [*shares, f"{mean('seconds') or 0:.1f}", f"{mean('parameters') or 0:,.0f}"]


if __name__ == "__main__":
    main()
