"""What is left of a forgotten label: every strategy beside networks that never saw it.

    python -m experiments.audit --json FILE [--quick] [--strategies surrogate distill ...] [--plots FOLDER]

The base learnt MNIST's ten labels by the default strategy. Each strategy forgets one label of it, label by
label, and is compared with references retrained without that label (docs/decisions/0032): the recovery
attack, the steps to learn the label again, the membership attack, the label's draws, and the quality of what
is retained. `reference` is one more retrained network against the others: the audit must pass it, or it is
broken. `nothing` is the base itself with the label struck out by name only: the audit must flag it.

A strategy may carry params: `surrogate:{"surrogate":"uniform_noise"}`. Selective Amnesia takes its published
10,000 steps on the first label and the share --budget of them on the others. What is finished is kept in
FILE.parts/ and not made again; parts are made side by side in --processes.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import running
from experiments.audit_parts import Effort, Part, made
from experiments.audit_rows import row

REFERENCES = 3  # networks that every strategy is compared with
ANOTHER = "reference"  # one more of them, compared like a strategy
NOTHING = "nothing"
STRATEGIES = (
    "surrogate",
    'surrogate:{"surrogate":"uniform_noise"}',
    "distill",
    "dampening",
    "retrain",
    "selective_amnesia",
)
QUICK = ("surrogate", "distill", "dampening", "selective_amnesia")
LABELS = tuple("0123456789")


@dataclass(frozen=True)
class Plan:
    strategies: tuple[str, ...]
    labels: tuple[str, ...]
    references: int
    effort: Effort


def main() -> None:
    options = parser().parse_args()
    plan = plan_of(options)
    parts = parts_of(plan)
    everything = finished(parts, options)
    figures = summary(plan, everything)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.plots:
        from experiments.audit_plots import plots  # matplotlib takes a second to import

        plots(figures, everything, options.plots)
    sys.stdout.write(json.dumps(figures["strategies"], indent=2) + "\n")


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    one.add_argument("--json", type=Path, required=True, help="file for the figures")
    one.add_argument("--quick", action="store_true", help="two labels, fewer strategies and looks: minutes")
    one.add_argument("--strategies", nargs="+", help="forget strategies, with their default params")
    one.add_argument("--labels", nargs="+", help="labels to forget, each from the same base")
    one.add_argument("--references", type=int, default=REFERENCES)
    one.add_argument("--budget", type=float, help="of Selective Amnesia's published steps, in (0, 1]")
    one.add_argument("--plots", type=Path, help="folder for the pictures")
    one.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    one.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    return one


def plan_of(options: argparse.Namespace) -> Plan:
    brief = options.quick
    effort = Effort(
        starts=192 if brief else 256,
        relearning_steps=80 if brief else 120,
        draws=1000,
        budget=options.budget or (0.02 if brief else 0.1),
        published_first=not brief,
    )
    labels = tuple(options.labels or (LABELS[3:9:5] if brief else LABELS))
    strategies = tuple(options.strategies or (QUICK if brief else STRATEGIES))
    return Plan(strategies, labels, options.references, effort)


def parts_of(plan: Plan) -> list[Part]:
    """Everything to be made and examined, the costliest first, so that no process ends long after another."""

    def budget(strategy: str, label: str) -> float:
        if not strategy.startswith("selective_amnesia"):
            return 1.0
        published = plan.effort.published_first and label == plan.labels[0]
        return 1.0 if published else plan.effort.budget

    candidates = [
        Part(label, strategy, 0, budget(strategy, label))
        for strategy in reversed(plan.strategies)
        for label in plan.labels
    ]
    references = [Part(label, ANOTHER, seed) for label in plan.labels for seed in range(plan.references + 1)]
    return [*candidates, *references, *(Part(label, NOTHING, 0) for label in plan.labels)]


def finished(parts: Sequence[Part], options: argparse.Namespace) -> dict[Part, dict[str, Any]]:
    """Every part's findings. The base is made first; then all others, side by side."""
    kept = options.json.with_suffix(options.json.suffix + ".parts")
    kept.mkdir(parents=True, exist_ok=True)
    data, effort = Path(options.data).expanduser(), plan_of(options).effort
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        running.pool(options.processes) as pool,
    ):
        shown = progress.add_task("the base", total=len(parts) + 1)
        pool.submit(made, None, kept, data, effort).result()
        progress.advance(shown)
        waiting = {pool.submit(made, part, kept, data, effort): part for part in parts}
        everything = {}
        for done in as_completed(waiting):
            part = waiting[done]
            everything[part] = done.result()
            progress.update(shown, advance=1, description=f"{part.strategy} forgets {part.label}"[:40])
    return everything


def summary(plan: Plan, everything: dict[Part, dict[str, Any]]) -> dict[str, Any]:
    """A row a strategy, its figures by label, and how it was measured."""
    by = {(part.strategy, part.label, part.seed): found for part, found in everything.items()}
    references = {
        label: [by[ANOTHER, label, seed] for seed in range(plan.references)] for label in plan.labels
    }

    def of(strategy: str, seed: int) -> dict[str, Any]:
        return row({label: by[strategy, label, seed] for label in plan.labels}, references)

    rows = {strategy: of(strategy, 0) for strategy in (*plan.strategies, NOTHING)}
    rows[ANOTHER] = of(ANOTHER, plan.references)
    return {
        "dataset": "mnist",
        "labels": plan.labels,
        "references": plan.references,
        "effort": plan.effort.as_json(),
        "budgets": budgets(everything),
        "strategies": rows,
    }


def budgets(parts: Iterable[Part]) -> dict[str, float]:
    """Where a strategy was given less than its published steps: the share it was given, by label."""
    return {f"{part.strategy} {part.label}": part.budget for part in parts if part.budget < 1}


if __name__ == "__main__":
    main()
