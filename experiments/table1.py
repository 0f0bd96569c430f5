"""Reproduce the paper's table 1: compare Selective Amnesia at a fixed size with forgetting with resizing.

    python -m experiments.table1 --seeds 10 [--json FILE] [--plots FOLDER] [--steps 4000] [--quick]

For each seed, a model learns two to ten random labels of MNIST. Then every arm forgets the same random proper
subset of them from that same model, with the same number of steps:

`fixed`            Selective Amnesia with its published values, except for a shortened schedule.
`resized`          the same objective, batch size, learning rate and EWC strength, under targeted dropout of a
                   tenth of the units, which are pruned at the end. Its Fisher is over the retained labels.
`resized_free`     the same as `resized` without EWC. With `fixed`, it is the pair that the paper compares,
                   whose arms differ in EWC as well as in resizing.
`unpruned`         the same as `resized` without dropout and pruning, to show the effect of these alone.
`service`          the strategy `surrogate` as the service runs it, with its own, shorter schedule.

`retained` and `retained_closed` are the accuracy of 1,000 draws of each retained label, by a judge that may
reject and by one that may not, as the paper's classifier. `forgotten` is the open-set accuracy of the
forgotten labels. Each comparison is made for `retained_closed`, as in the paper's table, and for `retained`.
"""

import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import running
from experiments.plots import BLUE, GREY, ORANGE, figure, percent_axis
from experiments.running import OnStep, Result, Trial
from experiments.scoring import Scorer, score_checkpoint
from experiments.significance import interval, paired_t_test
from experiments.training_setup import (
    CPU,
    PUBLISHED,
    QUICK_DIVISOR,
    DatasetArchive,
    examples_of,
    params_of,
    shortened_schedule,
)
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.process.devices import compute_reproducibly

FIGURES = ("retained_closed", "retained", "worst_label", "coverage", "forgotten", "seconds", "parameters")
COMPARED = {
    "same_ewc": ("resized", "fixed"),
    "confounded": ("resized_free", "fixed"),
    "pruning_alone": ("resized", "unpruned"),
    "service": ("service", "fixed"),
}
"""Comparison -> its two arms; the figures of the second are subtracted from those of the first."""


def main() -> None:
    parser = running.make_parser(__doc__)
    parser.add_argument("--steps", type=int, help="training steps of every arm except `service`")
    options = running.parse_options(parser, {"seeds": 10, "steps": 4000}, {"seeds": 2, "steps": 300})
    data = running.data_folder(options)
    trials = [
        Trial(
            f"{options.steps}{'-quick' if options.quick else ''}-{seed}",
            1 + len(arms(1)),
            partial(run, seed, options.steps, options.quick, data),
        )
        for seed in range(options.seeds)
    ]
    results = running.run_all(trials, options)
    names = ("steps", "batch_size", "learning_rate")
    budget = {name: shortened_schedule(options.steps)[name] for name in names}
    budget["published"] = {name: getattr(PUBLISHED.schedule, name) for name in names}
    figures = budget | summarize(results)
    running.write_results("table1", figures, {"runs": results}, options, trials=results)
    plot(results, options.plots / "table1.png")


def arms(steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the forget strategy and the params of each arm."""
    schedule = shortened_schedule(steps)
    same = {
        "schedule": schedule,
        "replay_match": PUBLISHED.replay_match,
        "surrogate": "uniform_noise",
        "surrogate_share": 0.5,  # as many examples as replay, as in `fixed`
        "prune_by": "targeted_dropout",
    }
    ewc = PUBLISHED.ewc_strength
    return {
        "fixed": ("selective_amnesia", {"schedule": schedule}),
        "resized": ("surrogate", {**same, "ewc_strength": ewc, "prune_share": 0.1}),
        "resized_free": ("surrogate", {**same, "ewc_strength": 0.0, "prune_share": 0.1}),
        "unpruned": ("surrogate", {**same, "ewc_strength": ewc, "prune_share": 0.0}),
        "service": ("surrogate", {}),
    }


def run(seed: int, steps: int, quick: bool, data: Path, on_step: OnStep) -> Result:
    """Train the model of a seed, forget with every arm from it, and return the figures of all."""
    compute_reproducibly(threads=1)
    mnist, rng = datasets.load("mnist", data), random.Random(seed)
    scorer = Scorer.of(mnist)
    labels = tuple(sorted(rng.sample(mnist.labels, rng.randint(2, len(mnist.labels)))))
    to_forget = tuple(sorted(rng.sample(labels, rng.randint(1, len(labels) - 1))))
    start = blank({}, seed=seed)
    learn = strategy.find("learn", "replay_ewc")
    params = params_of(learn, {}, step_divisor=QUICK_DIVISOR if quick else 1)
    context = TrainingContext(CPU, seed, DatasetArchive(mnist, start))
    model = learn.run(start, examples_of(mnist, labels), params, context)
    before = score_checkpoint(model, scorer, seed=seed)
    on_step(f"seed {seed}: learned {' '.join(labels)}")
    figures = {}
    for name, (forget, values) in arms(steps).items():
        figures[name] = run_arm(model, to_forget, forget, values, scorer, seed)
        retained = figures[name]["retained_closed"]
        on_step(f"seed {seed}: {name} forgot {' '.join(to_forget)}, {retained:.1%} retained")
    return {"seed": seed, "labels": labels, "forgotten_labels": to_forget, "before": before, "arms": figures}


def run_arm(
    model: Checkpoint,
    to_forget: tuple[str, ...],
    forget: str,
    params: dict[str, Any],
    scorer: Scorer,
    seed: int,
) -> Result:
    """Forget the labels with a strategy, and return the figures of the resulting network."""
    chosen = strategy.find("forget", forget)
    began = time.perf_counter()
    request = Examples(to_forget, "mnist")
    after = chosen.run(model, request, chosen.Params(**params), TrainingContext(CPU, seed))
    seconds = time.perf_counter() - began
    scores = score_checkpoint(after, scorer, seed=seed)
    return {
        "retained_closed": scores["closed"],
        "retained": scores["open"],
        "worst_label": scores["worst_label"],
        "coverage": scores["coverage"],
        "forgotten": statistics.mean(scores["forgotten_by_label"].values()),
        "seconds": seconds,
        "parameters": scores["parameters"],
    }


def summarize(results: Sequence[Result]) -> Result:
    """Return each arm's means with intervals over the seeds, and the paired comparisons."""

    def values(arm: str, figure: str) -> list[float]:
        return [one["arms"][arm][figure] for one in results]

    names = results[0]["arms"]
    return {
        "arms": {arm: {figure: interval(values(arm, figure)) for figure in FIGURES} for arm in names},
        "compared": {
            name: {
                "arms": [first, second],
                **{
                    figure: paired_t_test(values(first, figure), values(second, figure))
                    for figure in ("retained_closed", "retained", "coverage")
                },
            }
            for name, (first, second) in COMPARED.items()
        },
    }


def plot(results: Sequence[Result], file: Path) -> None:
    """Draw each seed as a line between two arms, for the pair with the same EWC and for the paper's pair."""
    with figure(file, columns=2, size=(6.4, 2.9), sharey=True) as axes:
        for panel, (name, title) in zip(
            axes, (("same_ewc", "the same EWC in both arms"), ("confounded", "the paper's pair")), strict=True
        ):
            _plot_pairs(panel, results, name, title)
        axes[0].set_ylabel("accuracy of the labels retained")
        percent_axis(axes[0])


def _plot_pairs(panel: Axes, results: Sequence[Result], name: str, title: str) -> None:
    resized, fixed = COMPARED[name]
    pairs = np.array([[one["arms"][arm]["retained_closed"] for arm in (fixed, resized)] for one in results])
    for pair in pairs:
        panel.plot([0, 1], pair, color=GREY, linewidth=0.8, marker="o", markersize=3)
    for place, (values, colour) in enumerate(zip(pairs.T, (ORANGE, BLUE), strict=True)):
        one = interval(values.tolist())
        low, high = (one["low"] or one["mean"]), (one["high"] or one["mean"])
        bounds = [[one["mean"] - low], [high - one["mean"]]]
        panel.errorbar(place + (-0.12, 0.12)[place], one["mean"], bounds, fmt="s", color=colour, capsize=3)
    test = paired_t_test(pairs[:, 1].tolist(), pairs[:, 0].tolist())
    p_value = "" if test["p"] is None else f", p = {test['p']:.2g}"
    panel.set_title(f"{title}\n{100 * test['mean']:+.2f} pp{p_value}", loc="left")
    ewc = ",\nno EWC" if resized == "resized_free" else ""
    panel.set_xticks([0, 1], ["Selective Amnesia,\nfixed size", f"with resizing{ewc}"])
    panel.set_xlim(-0.4, 1.4)
    panel.grid(axis="x", visible=False)


if __name__ == "__main__":
    main()
