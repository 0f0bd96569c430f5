"""Compare the resize policy `auto` with fixed shares, over the same random histories.

    python -m experiments.auto_size --seeds 10 --passes 10 [--json FILE] [--plots FOLDER] [--quick]

Both arms run the histories of `experiments.histories`, with the same labels in each pass. `fixed` is the
default: a learn adds 10 % of the units, a forget removes 10 %. In `auto` a learn adds 35 %, a forget removes
none, and the strategy `auto` resizes after every operation. Accuracy is open-set. `width_follows_labels` is
the rank correlation of the number of hidden units and the number of labels held over the passes of a history,
averaged over histories.
"""

import statistics
from dataclasses import replace

from experiments import running
from experiments.histories import Plan
from experiments.history_experiments import make_parser, run_histories
from experiments.history_plots import plot_accuracy, plot_size
from experiments.running import Result
from experiments.significance import spearman
from experiments.training_setup import QUICK_DIVISOR

FIXED = Plan("replay_ewc", "surrogate")
AUTO = Plan(
    "replay_ewc",
    "surrogate",
    suffix="-auto",
    learn_params={"expand_share": 0.35},
    forget_params={"prune_share": 0.0},
    resize="auto",
)


def main() -> None:
    full, quick = {"seeds": 10, "passes": 10}, {"seeds": 1, "passes": 4}
    options = running.parse_options(make_parser(__doc__), full, quick)
    divisor = QUICK_DIVISOR if options.quick else 1
    plans = [replace(plan, step_divisor=divisor) for plan in (FIXED, AUTO)]
    fixed, auto = run_histories(plans, options)
    details = {"fixed": fixed, "auto": auto}
    running.write_results("auto_size", summarize(fixed, auto), details, options, trials=[*fixed, *auto])
    plot_accuracy(details, options.plots / "auto-size-accuracy.png")
    plot_size(auto, options.plots / "auto-size.png")


def summarize(fixed: list[Result], auto: list[Result]) -> Result:
    """Compare both arms over histories with the same seeds."""

    def mean(histories: list[Result], figure: str) -> float:
        return statistics.mean(float(one[figure]) for history in histories for one in history["passes"])

    correlations = [
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
        "width_follows_labels": statistics.mean(correlations),
    }


if __name__ == "__main__":
    main()
