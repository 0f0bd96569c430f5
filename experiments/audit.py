"""Audit forgetting: compare each strategy's network with networks that were trained without the label.

    python -m experiments.audit [--quick] [--strategies surrogate distill ...] [--json FILE] [--plots FOLDER]

The base network has learned all ten labels of MNIST with the default strategy. For each label, each strategy
forgets that label from the base, and the result is compared with references: networks that are retrained
without the label (docs/decisions/0032). The figures are the recovery attack, the steps to learn the
label again, the membership attack, the draws of the label, and the quality of the retained labels.

There are two control rows. `reference` is one more retrained network compared with the others; the audit is
only valid if it passes. `nothing` is the base itself with the label's status changed to forgotten; the audit
is only valid if it fails.

A strategy is named as in the catalog, with params or without (`surrogate:{"prune_share":0}`), or is one of
these variants: `surrogate_noise` uses noise as the surrogate, as in the paper; `selective_amnesia_shortened`
trains for 2,500 steps. `selective_amnesia` trains for its published 10,000 steps, and therefore forgets the
first label only.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from experiments import running
from experiments.audit_cases import (
    NOTHING,
    PROCEDURE,
    REFERENCE,
    Budget,
    Case,
    CaseResult,
    Procedure,
    make_base,
    run_case,
)
from experiments.audit_plots import plot_all
from experiments.audit_summary import summarize
from experiments.running import Result, Trial

SLOWEST = "selective_amnesia"
"""Takes minutes for a label, so it forgets the first one only."""
STRATEGIES = (
    "surrogate",
    "surrogate_noise",
    "distill",
    "dampening",
    "saliency",
    "retrain",
    "selective_amnesia_shortened",
    SLOWEST,
)
QUICK_STRATEGIES = ("surrogate", "distill", "selective_amnesia_shortened")
LABELS = tuple("0123456789")
FULL = {"strategies": STRATEGIES, "labels": LABELS, "references": 3}
QUICK = {"strategies": QUICK_STRATEGIES, "labels": ("3",)}


@dataclass(frozen=True)
class Plan:
    strategies: tuple[str, ...]
    labels: tuple[str, ...]
    references: int
    """Number of references of each label that the strategies are compared with."""
    budget: Budget


def main() -> None:
    options = running.parse_options(make_parser(), FULL, QUICK)
    plan = make_plan(options)
    results = run_cases(plan, options)
    folder = running.cache_of(options).folder
    measured = {case: CaseResult.of(result, folder) for case, result in results.items()}
    rows = make_rows(plan, measured)
    by_label = {strategy: row.pop("by_label") for strategy, row in rows.items()}
    details = {"dataset": "mnist", "budget": asdict(plan.budget), "by_label": by_label}
    trials = list(results.values())
    running.write_results("audit", {"strategies": rows}, details, options, trials=trials)
    plot_all(rows, measured, options.plots)


def make_parser() -> argparse.ArgumentParser:
    parser = running.make_parser(__doc__, seeds=False)
    parser.add_argument(
        "--strategies",
        nargs="+",
        help="forget strategies, as NAME or NAME:{params as JSON}; other params have their defaults",
    )
    parser.add_argument("--labels", nargs="+", help="labels to forget, each from the same base")
    parser.add_argument(
        "--references", type=_at_least_two, help="number of references that every strategy is compared with"
    )
    return parser


def _at_least_two(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("at least 2 are needed, because their spread is measured too")
    return int(text)


def make_plan(options: argparse.Namespace) -> Plan:
    starts, relearning_steps = (192, 120) if options.quick else (256, 240)
    budget = Budget(starts, relearning_steps, draws=1000)
    return Plan(tuple(options.strategies), tuple(options.labels), options.references, budget)


def labels_of(strategy: str, plan: Plan) -> tuple[str, ...]:
    return plan.labels[:1] if strategy == SLOWEST else plan.labels


def make_cases(plan: Plan) -> list[Case]:
    """Return all cases, the slowest first, so that all processes finish at about the same time."""
    candidates = [
        Case(label, strategy, 0)
        for strategy in reversed(plan.strategies)
        for label in labels_of(strategy, plan)
    ]
    references = [
        Case(label, REFERENCE, seed) for label in plan.labels for seed in range(plan.references + 1)
    ]
    return [*candidates, *references, *(Case(label, NOTHING, 0) for label in plan.labels)]


def run_cases(
    plan: Plan, options: argparse.Namespace, procedure: Procedure = PROCEDURE
) -> dict[Case, Result]:
    """Make the base and then, in parallel, all cases; return what was measured of each."""
    cache, data = running.cache_of(options), running.data_folder(options)
    running.run_all([Trial("base", 1, partial(make_base, procedure, cache, data))], options)
    cases = make_cases(plan)
    trials = [
        Trial(case.name(plan.budget), 1, partial(run_case, case, procedure, cache, data, plan.budget))
        for case in cases
    ]
    return dict(zip(cases, running.run_all(trials, options), strict=True))


def make_rows(plan: Plan, measured: Mapping[Case, CaseResult]) -> dict[str, Result]:
    """Return a row for each strategy and for both controls, with its figures label by label."""
    references = {
        label: [measured[Case(label, REFERENCE, seed)] for seed in range(plan.references)]
        for label in plan.labels
    }

    def row(strategy: str, seed: int) -> Result:
        labels = labels_of(strategy, plan)
        of_strategy = {label: measured[Case(label, strategy, seed)] for label in labels}
        return {"labels": len(labels)} | summarize(of_strategy, references)

    rows = {strategy: row(strategy, 0) for strategy in (*plan.strategies, NOTHING)}
    return rows | {REFERENCE: row(REFERENCE, plan.references)}


if __name__ == "__main__":
    main()
