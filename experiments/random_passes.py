"""The paper's experiment (section 5): ten passes of random learning and forgetting; its figures 3 and 4.

    python -m experiments.random_passes --seeds 10 --passes 10 [--json FILE] [--plots FOLDER] [--quick]
    python -m experiments.random_passes --learn-params '{"schedule_labels": 5}'
    python -m experiments.random_passes --architecture hyper --learn hypernetwork --forget noise_alignment

The histories are those of `experiments.histories`, on MNIST. After every pass, 1,000 draws of every label
that was ever learned are judged:

`closed`    closed-set accuracy: the judge's likeliest label counts, as with the paper's classifier.
`open`      open-set accuracy: a draw that the judge rejects counts as wrong.
`relapse`   the share of a forgotten label's draws that the open-set judge still takes for the label, for
            the label for which it is highest.
`coverage`  the share of real test images with a draw among their five nearest neighbours, in the output of
            the judge's last hidden layer.
`relative_coverage`  coverage divided by that of as many real train images, so that it does not depend on how
            many images there are; about 1 for perfect draws.

`gap_to_simple` and `coverage_ratio` compare the last pass with a simple model of its labels. `every_pass`
does so after each pass, with intervals over the seeds; it needs `--simple every`. In it,
`relapse_above_simple` is the share of a forgotten label's draws that are taken for the label, minus the same
share for a network that never saw the label. `by_chance` says how often that difference is over 2 percentage
points (pp): for the histories, and for simple models of another seed with the same labels.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments import running
from experiments.histories import Plan
from experiments.history_experiments import make_parser, run_histories
from experiments.history_plots import plot_histories
from experiments.running import Result
from experiments.significance import bootstrap_interval, interval
from experiments.training_setup import QUICK_DIVISOR
from worker.learning.networks import ARCHITECTURES

FULL = {"seeds": 10, "passes": 10, "simple": "every"}
QUICK = {"seeds": 2, "passes": 4, "simple": "last"}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="mlp", help="%(default)s")
    parser.add_argument("--learn", default="replay_ewc", help="learn strategy, with its default params")
    parser.add_argument(
        "--strategies", "--forget", default="surrogate", help="forget strategies, separated by commas"
    )
    for operation in ("learn", "forget"):
        parser.add_argument(
            f"--{operation}-params",
            type=json.loads,
            default={},
            metavar="JSON",
            help="params of the strategy",
        )
    parser.add_argument(
        "--simple", choices=("every", "last"), help="after which passes simple models are trained"
    )
    options = running.parse_options(parser, FULL, QUICK)
    divisor = QUICK_DIVISOR if options.quick else 1
    forget_strategies = options.strategies.split(",")
    params = {"learn_params": options.learn_params, "forget_params": options.forget_params}
    plans = [Plan(options.learn, forget, step_divisor=divisor, **params) for forget in forget_strategies]
    histories = dict(zip(forget_strategies, run_histories(plans, options), strict=True))
    figures = {
        forget: summarize(runs) | {"learn": options.learn, "forget": forget}
        for forget, runs in histories.items()
    }
    first, *others = forget_strategies
    figures_of_all = {"strategies": figures} if others else {}
    details = {"histories": histories[first], "histories_of": histories}
    trials = [history for runs in histories.values() for history in runs]
    running.write_results("random_passes", figures[first] | figures_of_all, details, options, trials=trials)
    plot_histories(histories, options.plots)


def summarize(histories: Sequence[Result]) -> Result:
    """Return the figures over all seeds; `spread_over_seeds` is of the first, mean_retained."""
    accuracies = [[one["closed"] for one in history["passes"]] for history in histories]
    passes = [one for history in histories for one in history["passes"]]
    means = [statistics.mean(one) for one in accuracies]
    last_passes = [(one["simple"], one["passes"][-1]) for one in histories]
    relapses = [one["relapse"] for one in passes if one["relapse"] is not None]
    return {
        "seeds": len(histories),
        "passes": len(accuracies[0]),
        "mean_retained": statistics.mean(means),
        "spread_over_seeds": statistics.pstdev(means),
        "worst_pass": min(map(min, accuracies)),
        "open_retained": statistics.mean(one["open"] for one in passes),
        "gap_to_simple": statistics.mean(simple["closed"] - last["closed"] for simple, last in last_passes),
        "open_gap_to_simple": statistics.mean(simple["open"] - last["open"] for simple, last in last_passes),
        "coverage": statistics.mean(one["coverage"] for one in passes),
        "relative_coverage": statistics.mean(one["relative_coverage"] for one in passes),
        "coverage_ratio": statistics.mean(
            last["coverage"] / simple["coverage"] for simple, last in last_passes
        ),
        "first3": statistics.mean(value for one in accuracies for value in one[:3]),
        "last3": statistics.mean(value for one in accuracies for value in one[-3:]),
        "worst_relapse": max(relapses, default=None),
        "seconds_per_pass": statistics.median(one["seconds"] for one in passes),
        "slowest_pass": max(one["seconds"] for one in passes),
        "retained": bootstrap_interval(means),
        "open": interval_over_seeds(histories, lambda one: one["open"]),
        "drift": interval([statistics.mean(one[-3:]) - statistics.mean(one[:3]) for one in accuracies]),
        "passes_under_90": sum(value < 0.9 for one in accuracies for value in one) / len(passes),
        "mean_relapse": statistics.mean(relapses) if relapses else None,
        "every_pass": compare_every_pass(histories),
        "last_pass": compare_last_pass(histories),
    }


def compare_every_pass(histories: Sequence[Result]) -> Result | None:
    """Compare each pass with the simple model of its labels: means over passes, intervals over seeds.

    None if some pass has no simple model.
    """
    if any(one["simple"] is None for history in histories for one in history["passes"]):
        return None
    simple = [one["simple"] for history in histories for one in history["passes"]]
    excesses = [excess for history in histories for excess in relapse_excesses(history)]
    means = [statistics.mean(one) for one in map(relapse_excesses, histories) if one]
    return {
        "gap": interval_over_seeds(histories, lambda one: one["simple"]["closed"] - one["closed"]),
        "open_gap": interval_over_seeds(histories, lambda one: one["simple"]["open"] - one["open"]),
        "coverage_ratio": interval_over_seeds(
            histories, lambda one: one["coverage"] / one["simple"]["coverage"]
        ),
        "relative_coverage_ratio": interval_over_seeds(
            histories, lambda one: one["relative_coverage"] / one["simple"]["relative_coverage"]
        ),
        "simple_open": interval_over_seeds(histories, lambda one: one["simple"]["open"]),
        "simple_seconds": statistics.median(one["seconds"] for one in simple),
        "relapse_above_simple": interval(means) if means else None,
        "relapses_over_2_pp": share_over_2_pp(excesses),
        "by_chance": compare_with_chance(histories),
    }


def share_over_2_pp(excesses: Sequence[float]) -> float | None:
    return sum(excess > 0.02 for excess in excesses) / len(excesses) if excesses else None


def relapse_excesses(history: Result) -> list[float]:
    """Return, for each forgotten label after each pass, its relapse minus what chance explains.

    The latter is how often the simple model of that pass draws the label in a slot that no label ever filled.
    """
    return [
        share - one["simple"]["unfilled"][label]
        for one in history["passes"]
        for label, share in one["forgotten_by_label"].items()
    ]


def compare_with_chance(histories: Sequence[Result]) -> Result:
    """Compare the excess of the histories' relapses with that of simple models of another seed.

    Only the passes count for which another seed has a simple model of the same labels.
    """
    simple = [(history["seed"], one["simple"]) for history in histories for one in history["passes"]]
    of_histories, of_others = [], []
    for history in histories:
        for one in history["passes"]:
            same_labels = [
                other
                for seed, other in simple
                if seed != history["seed"] and other["by_label"].keys() == one["by_label"].keys()
            ]
            for label, share in one["forgotten_by_label"].items() if same_labels else ():
                expected = one["simple"]["unfilled"][label]
                of_histories.append(share - expected)
                of_others.append(same_labels[0]["unfilled"][label] - expected)
    return {
        "n": len(of_histories),
        "relapses_over_2_pp": share_over_2_pp(of_histories),
        "another_simple_over_2_pp": share_over_2_pp(of_others),
    }


def compare_last_pass(histories: Sequence[Result]) -> Result:
    """Compare the last pass with its simple model, label by label, as the paper's figure 3 does."""
    gaps = [
        history["simple"]["by_label"][label]["closed"] - scores["closed"]
        for history in histories
        for label, scores in history["passes"][-1]["by_label"].items()
    ]
    return {"labels": len(gaps), "mean_gap": statistics.mean(gaps), "worst_gap": max(gaps)}


def interval_over_seeds(histories: Sequence[Result], figure: Callable[[Result], float]) -> dict[str, Any]:
    """Return the interval over histories of a figure's mean over the passes of a history."""
    return interval([statistics.mean(map(figure, history["passes"])) for history in histories])


if __name__ == "__main__":
    main()
