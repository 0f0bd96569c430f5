"""What is left of a forgotten label: every strategy beside networks that never saw it.

    python -m experiments.audit [--quick] [--strategies surrogate distill ...] [--json FILE] [--plots FOLDER]

The base learnt MNIST's ten labels by the default strategy. Each strategy forgets one label of it, label by
label, and is compared with references retrained without that label (docs/decisions/0032): the recovery
attack, the steps to learn the label again, the membership attack, the label's draws, and the quality of what
is retained. `reference` is one more retrained network against the others: the audit must pass it, or it is
broken. `nothing` is the base itself with the label struck out by name only: the audit must flag it.

Strategies are named as in the catalog, with params if they carry some (`surrogate:{"prune_share":0}`), or by
one of these names: `surrogate_noise` maps onto noise, as in the paper; `selective_amnesia_shortened` takes
2,500 steps where `selective_amnesia` takes its published 10,000, which is for the first label only.
What is finished is kept in FILE.seeds/ and not made again; parts are made side by side in --processes.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from experiments import running
from experiments.audit_parts import Effort, Part, base_of, examined, with_tensors
from experiments.audit_plots import plots
from experiments.audit_rows import row
from experiments.running import Found, Work

ANOTHER = "reference"  # one more of them, compared like a strategy
NOTHING = "nothing"
PUBLISHED = "selective_amnesia"  # minutes a label
STRATEGIES = (
    "surrogate",
    "surrogate_noise",
    "distill",
    "dampening",
    "saliency",
    "retrain",
    "selective_amnesia_shortened",
    PUBLISHED,
)
QUICK = ("surrogate", "distill", "selective_amnesia_shortened")
LABELS = tuple("0123456789")
FULL = {"strategies": STRATEGIES, "labels": LABELS, "references": 3}
BRIEF = {"strategies": QUICK, "labels": ("3",)}


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
    rows = summary(plan, found)
    by_label = {strategy: one.pop("by_label") for strategy, one in rows.items()}
    how = {"dataset": "mnist", "effort": plan.effort.as_json(), "by_label": by_label}
    running.delivered("audit", {"strategies": rows}, how, options, works=list(found.values()))
    plots(rows, found, options.plots)


def parser() -> argparse.ArgumentParser:
    one = running.options_of(__doc__, seeds=False)
    one.add_argument("--strategies", nargs="+", help="forget strategies, with their default params")
    one.add_argument("--labels", nargs="+", help="labels to forget, each from the same base")
    one.add_argument("--references", type=_several, help="networks that every strategy is compared with")
    return one


def _several(typed: str) -> int:
    if int(typed) < 2:
        raise argparse.ArgumentTypeError("at least 2: how far they are from each other is measured too")
    return int(typed)


def plan_of(options: argparse.Namespace) -> Plan:
    starts, relearning_steps = (192, 120) if options.quick else (256, 240)
    effort = Effort(starts, relearning_steps, draws=1000)
    return Plan(tuple(options.strategies), tuple(options.labels), options.references, effort)


def labels_for(strategy: str, plan: Plan) -> tuple[str, ...]:
    return plan.labels[:1] if strategy == PUBLISHED else plan.labels


def parts_of(plan: Plan) -> list[Part]:
    """Everything to be made and examined, the costliest first, so that no process ends long after another."""
    candidates = [
        Part(label, strategy, 0)
        for strategy in reversed(plan.strategies)
        for label in labels_for(strategy, plan)
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
        labels = labels_for(strategy, plan)
        found = row({label: by[strategy, label, seed] for label in labels}, references)
        return {"labels": len(labels)} | found

    rows = {strategy: of(strategy, 0) for strategy in (*plan.strategies, NOTHING)}
    return rows | {ANOTHER: of(ANOTHER, plan.references)}


if __name__ == "__main__":
    main()
