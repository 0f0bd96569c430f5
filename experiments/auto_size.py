"""Whether the policy `auto` chooses a better size than fixed shares do, over the same random histories.

    python -m experiments.auto_size --seeds 10 --passes 10 [--json FILE] [--plots FOLDER] [--quick]

Two arms run the histories of `experiments.histories`, pass by pass the same labels. `fixed` learns with
10 % more units and forgets with 10 % fewer, as by default. `auto` learns with 35 % more, forgets without
pruning, and resizes by `auto` after every operation. Accuracy is open-set. `width_follows_labels` is the rank
correlation of hidden units and labels held over the passes of a history, the mean over histories.

A finished history is kept in FILE.seeds/ and not run again; histories run side by side in --processes.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments import running
from experiments.histories import Plan
from experiments.history_plots import accuracy_over_passes, size_over_passes
from experiments.random_passes import every_history, parser_of_histories

FIXED = Plan("replay_ewc", "surrogate")
AUTO = Plan(
    "replay_ewc",
    "surrogate",
    name="-auto",
    learn_params={"expand_share": 0.35},
    forget_params={"prune_share": 0.0},
    resize="auto",
)


def main() -> None:
    full, quick = {"seeds": 10, "passes": 10}, {"seeds": 1, "passes": 4}
    options = running.asked(parser_of_histories(__doc__), full, quick)
    plans = [replace(plan, quick=options.quick) for plan in (FIXED, AUTO)]
    fixed, auto = every_history(plans, options)
    details = {"fixed": fixed, "auto": auto}
    running.delivered("auto_size", compared(fixed, auto), details, options, works=[*fixed, *auto])
    accuracy_over_passes(details, options.plots / "auto-size-accuracy.png")
    size_over_passes(auto, options.plots / "auto-size.png")


def compared(fixed: list[dict[str, Any]], auto: list[dict[str, Any]]) -> dict[str, Any]:
    """The automatic size against the fixed one, over histories with the same seeds."""

    def mean(histories: list[dict[str, Any]], figure: str) -> float:
        return statistics.mean(float(one[figure]) for history in histories for one in history["passes"])

    follows = [
        spearman([one["units"] for one in history["passes"]], [one["held"] for one in history["passes"]])
        for history in auto
    ]
    gains = [mean([one], "open") - mean([other], "open") for one, other in zip(auto, fixed, strict=True)]
    return {
        "seeds": len(auto),
        "accuracy": mean(auto, "open"),
        "accuracy_fixed": mean(fixed, "open"),
        "accuracy_difference": statistics.mean(gains),
        "spread_over_seeds": statistics.pstdev(gains),
        "parameters": mean(auto, "parameters"),
        "parameters_fixed": mean(fixed, "parameters"),
        "parameters_saved": 1 - mean(auto, "parameters") / mean(fixed, "parameters"),
        "width_follows_labels": statistics.mean(follows),
    }


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The correlation of ranks, equal values sharing theirs; 0 where one side never changes."""
    if len(set(one)) == 1 or len(set(other)) == 1:
        return 0.0
    return statistics.correlation(_ranks(one), _ranks(other))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]


if __name__ == "__main__":
    main()
