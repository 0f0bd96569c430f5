"""The paper's experiment (section 5): random learning and forgetting, ten passes long; its figures 3 and 4.

    python -m experiments.random_passes --seeds 10 --passes 10 [--json FILE] [--plots FOLDER] [--quick]

The histories are those of `experiments.histories`, on MNIST. After every pass 1,000 draws of every label ever
learned are judged. `closed` takes the label the judge finds likeliest, as the paper's classifier does; `open`
counts a rejected draw as wrong; `relapse` is the share of a forgotten label's draws that are, by the open-set
judge, still its own, of the worst label. `coverage` is the share of real test images with a draw among their
five nearest neighbours, in the judge's last hidden layer.

`gap_to_simple` and `coverage_ratio` compare the last pass with a simple model of its labels; `every_pass`
does so after each pass, with intervals over the seeds: `--simple every` trains those models for it. There,
`relapse_above_simple` is by how much more a forgotten label is drawn than by a network that never saw it;
`by_chance` how often that is over 2 pp, where a simple model of another seed has the same labels, for both.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments import running
from experiments.histories import Plan, Setting, work_of
from experiments.history_plots import draw_histories
from experiments.running import Found
from experiments.significance import bootstrapped, interval

FULL = {"seeds": 10, "passes": 10, "simple": "every"}
QUICK = {"seeds": 2, "passes": 4, "simple": "last"}


def main() -> None:
    parser = parser_of_histories(__doc__)
    parser.add_argument("--learn", default="replay_ewc", help="learn strategy, with its default params")
    parser.add_argument(
        "--strategies", "--forget", default="surrogate", help="forget strategies, with commas between them"
    )
    parser.add_argument(
        "--simple", choices=("every", "last"), help="after which passes simple models are trained"
    )
    options = running.asked(parser, FULL, QUICK)
    plans = [Plan(options.learn, forget, quick=options.quick) for forget in options.strategies.split(",")]
    histories = every_history(plans, options)
    figures = {
        plan.forget: summary(found) | named(plan) for plan, found in zip(plans, histories, strict=True)
    }
    first, *others = figures.values()
    others_too = {"strategies": figures} if others else {}
    by_strategy = {plan.forget: found for plan, found in zip(plans, histories, strict=True)}
    details = {"histories": histories[0], "histories_of": by_strategy}
    works = [history for found in histories for history in found]
    running.delivered("random_passes", first | others_too, details, options, works=works)
    draw_histories(by_strategy, options.plots)


def named(plan: Plan) -> Found:
    return {"learn": plan.learn, "forget": plan.forget}


def parser_of_histories(description: str | None) -> argparse.ArgumentParser:
    """The options of every experiment that runs histories."""
    parser = running.options_of(description)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    return parser


def every_history(plans: Sequence[Plan], options: argparse.Namespace) -> list[list[Found]]:
    """The histories of all seeds by each plan, side by side; finished ones are kept beside the figures."""
    kept = running.kept_by(options)
    setting = Setting(
        running.data_of(options),
        options.passes,
        getattr(options, "simple", "never"),
        threads=options.threads,
    )
    works = [work_of(plan, seed, setting, kept) for plan in plans for seed in range(options.seeds)]
    found = running.all_of(works, options)
    return [found[index * options.seeds :][: options.seeds] for index in range(len(plans))]


def summary(histories: Sequence[Found]) -> Found:
    """The figures over every seed, with the spread over seeds of the first."""
    each = [[one["closed"] for one in history["passes"]] for history in histories]
    passes = [one for history in histories for one in history["passes"]]
    means = [statistics.mean(one) for one in each]
    ends = [(one["simple"], one["passes"][-1]) for one in histories]
    relapses = [one["relapse"] for one in passes if one["relapse"] is not None]
    return {
        "seeds": len(histories),
        "passes": len(each[0]),
        "mean_retained": statistics.mean(means),
        "spread_over_seeds": statistics.pstdev(means),
        "worst_pass": min(map(min, each)),
        "open_retained": statistics.mean(one["open"] for one in passes),
        "gap_to_simple": statistics.mean(simple["closed"] - last["closed"] for simple, last in ends),
        "open_gap_to_simple": statistics.mean(simple["open"] - last["open"] for simple, last in ends),
        "coverage": statistics.mean(one["coverage"] for one in passes),
        "coverage_ratio": statistics.mean(last["coverage"] / simple["coverage"] for simple, last in ends),
        "first3": statistics.mean(value for one in each for value in one[:3]),
        "last3": statistics.mean(value for one in each for value in one[-3:]),
        "worst_relapse": max(relapses, default=None),
        "seconds_per_pass": statistics.median(one["seconds"] for one in passes),
        "slowest_pass": max(one["seconds"] for one in passes),
        "retained": bootstrapped(means),
        "open": over_seeds(histories, lambda one: one["open"]),
        "drift": interval([statistics.mean(one[-3:]) - statistics.mean(one[:3]) for one in each]),
        "passes_under_90": sum(value < 0.9 for one in each for value in one) / len(passes),
        "mean_relapse": statistics.mean(relapses) if relapses else None,
        "every_pass": against_simple(histories),
        "last_pass": at_the_end(histories),
    }


def against_simple(histories: Sequence[Found]) -> Found | None:
    """Each pass against the simple model of its labels: means over passes, intervals over seeds."""
    if any(one["simple"] is None for history in histories for one in history["passes"]):
        return None
    simple = [one["simple"] for history in histories for one in history["passes"]]
    above = [over for history in histories for over in relapse_above_simple(history)]
    relapses = [statistics.mean(over) for over in map(relapse_above_simple, histories) if over]
    return {
        "gap": over_seeds(histories, lambda one: one["simple"]["closed"] - one["closed"]),
        "open_gap": over_seeds(histories, lambda one: one["simple"]["open"] - one["open"]),
        "coverage_ratio": over_seeds(histories, lambda one: one["coverage"] / one["simple"]["coverage"]),
        "simple_open": over_seeds(histories, lambda one: one["simple"]["open"]),
        "simple_seconds": statistics.median(one["seconds"] for one in simple),
        "relapse_above_simple": interval(relapses) if relapses else None,
        "relapses_over_2_pp": over_2_pp(above),
        "by_chance": by_chance(histories),
    }


def over_2_pp(above: Sequence[float]) -> float | None:
    return sum(over > 0.02 for over in above) / len(above) if above else None


def relapse_above_simple(history: Found) -> list[float]:
    """How much more of a forgotten label is drawn than the simple model draws of it where it never learnt.

    One value for each forgotten label after each pass.
    """
    return [
        share - one["simple"]["unfilled"][label]
        for one in history["passes"]
        for label, share in one["gone"].items()
    ]


def by_chance(histories: Sequence[Found]) -> Found:
    """What a simple model of another seed and the same labels does, and what the histories do there."""
    simple = [(history["seed"], one["simple"]) for history in histories for one in history["passes"]]
    ours, others = [], []
    for history in histories:
        for one in history["passes"]:
            beside = [
                other
                for seed, other in simple
                if seed != history["seed"] and other["by_label"].keys() == one["by_label"].keys()
            ]
            for label, share in one["gone"].items() if beside else ():
                usual = one["simple"]["unfilled"][label]
                ours.append(share - usual)
                others.append(beside[0]["unfilled"][label] - usual)
    return {
        "n": len(ours),
        "relapses_over_2_pp": over_2_pp(ours),
        "another_simple_over_2_pp": over_2_pp(others),
    }


def at_the_end(histories: Sequence[Found]) -> Found:
    """The paper's figure 3: label by label, how far the last pass is from its simple model."""
    gaps = [
        history["simple"]["by_label"][label]["closed"] - shares["closed"]
        for history in histories
        for label, shares in history["passes"][-1]["by_label"].items()
    ]
    return {"labels": len(gaps), "mean_gap": statistics.mean(gaps), "worst_gap": max(gaps)}


def over_seeds(histories: Sequence[Found], figure: Callable[[Found], float]) -> dict[str, Any]:
    """The mean over a history's passes, and then over histories, which are independent of each other."""
    return interval([statistics.mean(map(figure, history["passes"])) for history in histories])


if __name__ == "__main__":
    main()
