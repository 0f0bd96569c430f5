"""Audit forgetting: compare each strategy's network with networks that never saw the label.

    python -m experiments.audit [--quick] [--dataset NAME] [--architecture NAME] [--labels 2,3 ...]
        [--seeds N] [--strategies surrogate distill ...] [--references N] [--json FILE] [--plots FOLDER]

The base network has learned eight labels in two jobs, five and three, with the default strategy, or with
`hypernetwork` if `--architecture hyper` is given, which is for `--strategies noise_alignment`. For each
label, each strategy forgets that label from its base, and the result is compared with references of two kinds
(docs/decisions/0032 and 0154):

- retrained: new networks, trained once on the labels that are retained;
- matched in procedure: networks with the history of the candidate, in which another label stood in for the
  label and was forgotten by the same strategy.

The figures are the recovery attack, the steps to learn the label again, the membership attack, the draws of
the label, the quality of the retained labels, and the attacks on the weights (docs/decisions/0153): the
free-column search, few-shot column fits, a probe of decoder units, training on auxiliary data, and how likely
a network and a reference find each other's draws.

There are three control rows. `reference` is one more retrained network and `matched` one more matched
reference, each compared with the others of its kind; the audit is only valid if they pass. `nothing` is the
base itself with the label's status changed to forgotten; the audit is only valid if it fails.

A strategy is named as in the catalog, with params or without (`surrogate:{"prune_share":0}`), or is one of
these variants: `surrogate_noise` uses noise as the surrogate, as in the paper; `selective_amnesia_shortened`
trains for 2,500 steps. `selective_amnesia` trains for its published 10,000 steps, and therefore forgets the
first label only, and has no matched references. With several seeds, each has a base of its own.

An audit that was interrupted continues where it stopped, and one of more labels or seeds uses what was
measured before: every network and its figures are kept beside FILE as soon as they are made.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from itertools import combinations, product

from experiments import running
from experiments.audit_attacks import alignment_figures
from experiments.audit_cases import (
    MATCHED,
    NOTHING,
    PROCEDURE,
    REFERENCE,
    Budget,
    Case,
    CaseResult,
    Procedure,
    make_base,
    run_alignment,
    run_case,
    train_classifiers,
)
from experiments.audit_histories import Setting, history_of
from experiments.audit_plots import plot_all
from experiments.audit_summary import summarize
from experiments.running import Result, Trial
from worker.learning import datasets
from worker.learning.networks import ARCHITECTURES

MATCHED_CONTROL = "matched"
"""The row of one more matched reference of the first strategy."""
SLOWEST = "selective_amnesia"
"""Takes minutes for a label, so it forgets the first one only, and has no matched references."""
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
FULL = {"strategies": STRATEGIES, "labels": (), "references": 3, "seeds": 1}
QUICK = {"strategies": QUICK_STRATEGIES, "labels": ("3",)}


@dataclass(frozen=True)
class Plan:
    strategies: tuple[str, ...]
    labels: tuple[str, ...]
    references: int
    """Number of references of each kind and label that the strategies are compared with."""
    budget: Budget
    seeds: int = 1
    """Number of bases that each strategy forgets a label from."""

    @property
    def matched(self) -> tuple[str, ...]:
        """The strategies that have matched references."""
        return tuple(one for one in self.strategies if one != SLOWEST) or self.strategies

    def labels_of(self, strategy: str) -> tuple[str, ...]:
        return self.labels[:1] if strategy == SLOWEST else self.labels


def main() -> None:
    options = running.parse_options(make_parser(), FULL, QUICK)
    plan, setting = make_plan(options), make_setting(options)
    results = run_cases(plan, setting, options)
    cache = running.cache_of(options)
    measured = {case: CaseResult.of(result, cache.folder) for case, result in results.items()}
    rows = make_rows(plan, measured, align(plan, setting, options))
    by_label = {strategy: take_by_label(row) for strategy, row in rows.items()}
    details = {"dataset": setting.dataset, "budget": asdict(plan.budget), "by_label": by_label}
    trials = list(results.values())
    running.write_results("audit", {"strategies": rows}, details, options, trials=trials)
    shown = {case: one for case, one in measured.items() if is_plotted(case, plan)}
    plot_all(rows, shown, options.plots)


def make_setting(options: argparse.Namespace) -> Setting:
    return Setting(options.dataset, running.data_folder(options), options.architecture)


def is_plotted(case: Case, plan: Plan) -> bool:
    """Whether the plots show a case: matched references are those of the first strategy."""
    return not case.strategy.startswith(MATCHED) or case.strategy == MATCHED + plan.matched[0]


def make_parser() -> argparse.ArgumentParser:
    parser = running.make_parser(__doc__)
    parser.add_argument(
        "--strategies",
        nargs="+",
        help="forget strategies, as NAME or NAME:{params as JSON}; other params have their defaults",
    )
    parser.add_argument("--labels", nargs="+", help="labels to forget; of the dataset's, the first ten")
    parser.add_argument(
        "--references", type=_at_least_two, help="number of references of each kind to compare with"
    )
    parser.add_argument("--dataset", default="mnist", help="with at least ten labels; %(default)s")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="mlp", help="%(default)s")
    return parser


def _at_least_two(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("at least 2 are needed, because their spread is measured too")
    return int(text)


def make_plan(options: argparse.Namespace) -> Plan:
    starts, relearning_steps = (192, 120) if options.quick else (256, 240)
    budget = Budget(starts, relearning_steps, draws=1000)
    info, _ = datasets.find(options.dataset)
    named = tuple(label for word in options.labels for label in word.split(",") if label)
    labels = named or info.labels[:10]
    return Plan(tuple(options.strategies), labels, options.references, budget, options.seeds)


def make_cases(plan: Plan) -> list[Case]:
    """Return all cases, the slowest first, so that all processes finish at about the same time."""
    candidates = [
        Case(label, strategy, seed)
        for strategy in reversed(plan.strategies)
        for label in plan.labels_of(strategy)
        for seed in range(plan.seeds)
    ]
    return [
        *candidates,
        *(
            Case(label, MATCHED + strategy, number)
            for strategy in plan.matched
            for label in plan.labels
            for number in range(plan.references + (strategy == plan.matched[0]))
        ),
        *(Case(label, REFERENCE, number) for label in plan.labels for number in range(plan.references + 1)),
        *(Case(label, NOTHING, seed) for label in plan.labels for seed in range(plan.seeds)),
    ]


def run_cases(
    plan: Plan, setting: Setting, options: argparse.Namespace, procedure: Procedure = PROCEDURE
) -> dict[Case, Result]:
    """Make the classifiers and the bases and then, in parallel, all cases; return what was measured."""
    cache, labels = running.cache_of(options), datasets.find(setting.dataset)[0].labels
    histories = list(dict.fromkeys(history_of(label, labels) for label in plan.labels))
    bases = [
        Trial(
            f"base-{setting.name}-{'-'.join(history.jobs[0])}-{seed}",
            1,
            partial(make_base, procedure, history, seed, setting, cache),
        )
        for history in histories
        for seed in range(plan.seeds)
    ]
    classifiers = Trial(f"classifiers-{setting.dataset}", 1, partial(train_classifiers, setting, cache))
    running.run_all([classifiers, *bases], options)
    cases = make_cases(plan)
    trials = [
        Trial(
            f"{setting.name}-{case.name(plan.budget)}",
            1,
            partial(run_case, case, procedure, setting, cache, plan.budget),
        )
        for case in cases
    ]
    return dict(zip(cases, running.run_all(trials, options), strict=True))


def align(plan: Plan, setting: Setting, options: argparse.Namespace) -> dict[str, Result]:
    """Measure how likely networks of a label find each other's draws: names of two networks -> nats."""
    cache, trials = running.cache_of(options), []
    for label in plan.labels:
        found = {
            pair
            for one in make_comparisons(plan)
            if label in plan.labels_of(one.row)
            for pair in one.pairs(label)
        }
        pairs = sorted(found, key=lambda pair: [case.network_name for case in pair])
        names = [case.network_name for pair in pairs for case in pair]
        key = sha256(json.dumps(names).encode()).hexdigest()[:12]
        run = partial(run_alignment, pairs, setting, cache)
        trials.append(Trial(f"alignment-{setting.name}-{label}-{key}", 1, run))
    results = running.run_all(trials, options)
    return {names: nats for one in results for names, nats in one.items() if names != running.SECONDS}


def make_rows(
    plan: Plan, measured: Mapping[Case, CaseResult], alignment: Mapping[str, Result] | None = None
) -> dict[str, Result]:
    """Return a row for each strategy and for the controls, with its figures beside both kinds of references.

    The figures beside retrained references are the row's own, those beside matched ones are in `matched`.
    alignment: what `align` returned.
    """
    rows: dict[str, Result] = {}
    for one in make_comparisons(plan):
        labels = plan.labels_of(one.row)
        networks, references = (
            {
                label: [
                    _with_alignment(case, one.references(label), measured, alignment or {})
                    for case in cases_of(label)
                ]
                for label in labels
            }
            for cases_of in (one.cases, one.references)
        )
        found = summarize(networks, references)
        if one.kind == REFERENCE:
            rows[one.row] = {"labels": len(labels), "seeds": len(one.seeds)} | found
        else:
            rows[one.row]["matched"] = found
    return rows


def _with_alignment(
    case: Case,
    references: Sequence[Case],
    measured: Mapping[Case, CaseResult],
    alignment: Mapping[str, Result],
) -> CaseResult:
    names = [one.network_name for one in references]
    return measured[case].with_figures(alignment_figures(case.network_name, names, alignment))


@dataclass(frozen=True)
class RowComparison:
    """Which networks of a row are compared with which references."""

    row: str
    strategy: str
    """Of the row's networks."""
    seeds: Sequence[int]
    kind: str
    """The `strategy` of the references: REFERENCE, or MATCHED with a strategy after it."""
    numbers: range
    """Of the references."""

    def cases(self, label: str) -> list[Case]:
        return [Case(label, self.strategy, seed) for seed in self.seeds]

    def references(self, label: str) -> list[Case]:
        return [Case(label, self.kind, number) for number in self.numbers]

    def pairs(self, label: str) -> set[tuple[Case, Case]]:
        """The pairs of networks whose alignment is compared."""
        group = self.references(label)
        return {*product(self.cases(label), group), *combinations(group, 2)}


def make_comparisons(plan: Plan) -> list[RowComparison]:
    """Return the comparisons of all rows; that with retrained references is the first of a row."""
    seeds, numbers, first = range(plan.seeds), range(plan.references), MATCHED + plan.matched[0]
    found = []
    for strategy in plan.strategies:
        found.append(RowComparison(strategy, strategy, seeds, REFERENCE, numbers))
        if strategy in plan.matched:
            found.append(RowComparison(strategy, strategy, seeds, MATCHED + strategy, numbers))
    one_more = [plan.references]
    return [
        *found,
        RowComparison(NOTHING, NOTHING, seeds, REFERENCE, numbers),
        RowComparison(NOTHING, NOTHING, seeds, first, numbers),
        RowComparison(REFERENCE, REFERENCE, one_more, REFERENCE, numbers),
        RowComparison(MATCHED_CONTROL, first, one_more, REFERENCE, numbers),
        RowComparison(MATCHED_CONTROL, first, one_more, first, numbers),
    ]


def take_by_label(row: Result) -> Result:
    """Remove the figures of single labels from a row and return them."""
    matched = row.get("matched")
    return {
        "figures": row.pop("by_label"),
        "attacks": {name: one.pop("by_label") for name, one in row["attacks"].items()},
        "matched": take_by_label(matched) if matched else None,
    }


if __name__ == "__main__":
    main()
