"""What is left of a forgotten label: every strategy beside networks that never saw it.

    python -m experiments.audit --json FILE [--quick] [--strategies surrogate distill ...] [--plots FOLDER]

The base learnt MNIST's ten labels by the default strategy. Each strategy forgets one label of it, label by
label, and is compared with references retrained without that label (docs/decisions/0032): the recovery
attack, the steps to learn the label again, the membership attack, the label's draws, and the quality of what
is retained. `reference` is one more retrained network against the others: the audit must pass it, or it is
broken. `nothing` is the base itself with the label struck out by name only: the audit must flag it.

A strategy may carry params: `surrogate:{"surrogate":"uniform_noise"}`. Selective Amnesia takes its published
10,000 steps on the first label and the share --budget of them on the others. What is finished is kept in
FILE.seeds/ and not made again; parts are made side by side in --processes.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from experiments import running
from experiments.audit_parts import Effort, Part, base_of, examined, with_tensors
from experiments.audit_rows import row
from experiments.running import Found, Work

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
FULL = {"strategies": STRATEGIES, "labels": LABELS, "references": 3, "budget": 0.1}
BRIEF = {"strategies": QUICK, "labels": ("3", "8"), "budget": 0.02}


@dataclass(frozen=True)
class Plan:
    strategies: tuple[str, ...]
    labels: tuple[str, ...]
    references: int
    effort: Effort


def main() -> None:
    options = running.asked(parser(), FULL, BRIEF)
    plan = plan_of(options)
    found = finished(plan, options)
    rows = {"strategies": summary(plan, found)}
    how = {"dataset": "mnist", "effort": plan.effort.as_json(), "budgets": budgets(found)}
    running.delivered("audit", rows, how, options, works=list(found.values()))
    if options.plots:
        from experiments.audit_plots import plots  # matplotlib takes a second to import

        plots(rows["strategies"], found, options.plots)


def parser() -> argparse.ArgumentParser:
    one = running.options_of(__doc__, seeds=False)
    one.add_argument("--strategies", nargs="+", help="forget strategies, with their default params")
    one.add_argument("--labels", nargs="+", help="labels to forget, each from the same base")
    one.add_argument("--references", type=int, help="networks that every strategy is compared with")
    one.add_argument("--budget", type=float, help="of Selective Amnesia's published steps, in (0, 1]")
    return one


def plan_of(options: argparse.Namespace) -> Plan:
    brief = options.quick
    effort = Effort(
        starts=192 if brief else 256,
        relearning_steps=80 if brief else 120,
        draws=1000,
        budget=options.budget,
        published_first=not brief,
    )
    return Plan(tuple(options.strategies), tuple(options.labels), options.references, effort)


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


def finished(plan: Plan, options: argparse.Namespace) -> dict[Part, Found]:
    """Every part's findings. The base is made first; then all others, side by side."""
    folder, data = running.kept_by(options).folder, running.data_of(options)
    running.all_of([Work("base", 1, partial(base_of, folder, data))], options)
    parts = parts_of(plan)
    works = [
        Work(part.name(plan.effort), 1, partial(examined, part, folder, data, plan.effort)) for part in parts
    ]
    found = running.all_of(works, options)
    return {
        part: with_tensors(one, part, folder, plan.effort) for part, one in zip(parts, found, strict=True)
    }


def summary(plan: Plan, found: Mapping[Part, Found]) -> dict[str, Found]:
    """A row a strategy, with its figures by label."""
    by = {(part.strategy, part.label, part.seed): one for part, one in found.items()}
    references = {
        label: [by[ANOTHER, label, seed] for seed in range(plan.references)] for label in plan.labels
    }

    def of(strategy: str, seed: int) -> Found:
        return row({label: by[strategy, label, seed] for label in plan.labels}, references)

    rows = {strategy: of(strategy, 0) for strategy in (*plan.strategies, NOTHING)}
    return rows | {ANOTHER: of(ANOTHER, plan.references)}


def budgets(parts: Iterable[Part]) -> dict[str, float]:
    """Where a strategy was given less than its published steps: the share it was given, by label."""
    return {f"{part.strategy} {part.label}": part.budget for part in parts if part.budget < 1}


if __name__ == "__main__":
    main()
