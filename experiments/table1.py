"""The paper's table 1: Selective Amnesia at a fixed size against forgetting with resizing, paired.

    python -m experiments.table1 --seeds 10 [--json FILE] [--plots FOLDER] [--steps 4000] [--quick]

A seed draws two to ten labels of MNIST, a model learns them, and every arm forgets the same random proper
subset of them from that same model, in the same number of steps:

`fixed`            Selective Amnesia at its published values, but for the schedule: see `shortened`.
`resized`          its objective, batch, learning rate and EWC strength again, under targeted dropout of a
                   tenth of the units, which are pruned at the end; its Fisher is over what is retained.
`resized_free`     the same without EWC: with `fixed` the paper's own pair, which differs in both.
`unpruned`         `resized` without its dropout and pruning: what they alone do.
`service`          the strategy `surrogate` as the service runs it, at its own, shorter schedule.

`retained` and `retained_closed` are the accuracy of 1,000 draws of each label retained, by the judge with and
without its right to reject; the paper's classifier has none. `forgotten` is the open-set accuracy of the
labels forgotten. Each comparison is of `retained_closed`, as in the paper's table, and of `retained`.
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
from experiments.critic import Critic, judged
from experiments.histories import params_of
from experiments.plots import BLUE, GREY, ORANGE, figure, percent
from experiments.running import Found, Tell, Work
from experiments.significance import interval, paired
from experiments.strategies import CPU, Archive, given
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.unlearning.selective_amnesia import SelectiveAmnesiaParams
from worker.process.devices import compute_reproducibly

PUBLISHED = SelectiveAmnesiaParams()
BATCH = 128  # published: 512, four times the time of a step
FIGURES = ("retained_closed", "retained", "worst_label", "coverage", "forgotten", "seconds", "parameters")
COMPARED = {  # what is compared, and with what
    "same_ewc": ("resized", "fixed"),
    "confounded": ("resized_free", "fixed"),
    "pruning_alone": ("resized", "unpruned"),
    "service": ("service", "fixed"),
}


def main() -> None:
    parser = running.options_of(__doc__)
    parser.add_argument("--steps", type=int, help="of every arm but `service`")
    options = running.asked(parser, {"seeds": 10, "steps": 4000}, {"seeds": 2, "steps": 300})
    data = running.data_of(options)
    works = [
        Work(
            f"{options.steps}{'-quick' if options.quick else ''}-{seed}",
            1 + len(arms(1)),
            partial(run, seed, options.steps, options.quick, data),
        )
        for seed in range(options.seeds)
    ]
    found = running.all_of(works, options)
    names = ("steps", "batch_size", "learning_rate")
    budget = {name: shortened(options.steps)[name] for name in names}
    budget["published"] = {name: getattr(PUBLISHED.schedule, name) for name in names}
    running.delivered("table1", budget | summary(found), {"runs": found}, options, works=found)
    draw(found, options.plots / "table1.png")


def arms(steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The arms, each a forget strategy and its params."""
    schedule = shortened(steps)
    same = {
        "schedule": schedule,
        "replay_match": PUBLISHED.replay_match,
        "surrogate": "uniform_noise",
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


def shortened(steps: int) -> dict[str, Any]:
    """The published schedule in fewer and smaller steps, as many times faster: steps * learning rate stays.

    Fewer steps forget less. Of ten labels, one run each, a forgotten one kept 88 % of its draws after 1,000
    steps of 512 at the published rate, 44 % after 300 of 512 at 33 times that, 13 % after 2,500 of 128 at 4.
    """
    published = PUBLISHED.schedule
    rate = published.learning_rate * published.steps / steps
    return {**published.model_dump(), "steps": steps, "batch_size": BATCH, "learning_rate": rate}


def run(seed: int, steps: int, quick: bool, data: Path, tell: Tell) -> Found:
    """One base, and what every arm makes of it."""
    compute_reproducibly(threads=1)
    mnist, chance = datasets.load("mnist", data), random.Random(seed)
    critic = Critic.of(mnist)
    learnt = tuple(sorted(chance.sample(mnist.labels, chance.randint(2, len(mnist.labels)))))
    gone = tuple(sorted(chance.sample(learnt, chance.randint(1, len(learnt) - 1))))
    start = blank({}, seed=seed)
    archive = Archive(mnist, start)
    learn = strategy.find("learn", "replay_ewc")
    brief = params_of(learn, {}, quick=quick)
    base = learn.run(start, given(mnist, learnt), brief, TrainingContext(CPU, seed, archive))
    before = judged(base, critic, seed=seed)
    tell(f"seed {seed}: learnt {' '.join(learnt)}")
    rows = {}
    for name, (forget, params) in arms(steps).items():
        rows[name] = arm(base, gone, forget, params, critic, seed)
        tell(f"seed {seed}: {name} forgot {' '.join(gone)}, {rows[name]['retained_closed']:.1%} retained")
    return {"seed": seed, "labels": learnt, "gone": gone, "before": before, "arms": rows}


def arm(
    base: Checkpoint, gone: tuple[str, ...], forget: str, params: dict[str, Any], critic: Critic, seed: int
) -> Found:
    chosen = strategy.find("forget", forget)
    began = time.perf_counter()
    after = chosen.run(base, Examples(gone, "mnist"), chosen.Params(**params), TrainingContext(CPU, seed))
    seconds = time.perf_counter() - began
    figures = judged(after, critic, seed=seed)
    return {
        "retained_closed": figures["closed"],
        "retained": figures["open"],
        "worst_label": figures["worst_label"],
        "coverage": figures["coverage"],
        "forgotten": statistics.mean(figures["gone"].values()),
        "seconds": seconds,
        "parameters": figures["parameters"],
    }


def summary(found: Sequence[Found]) -> Found:
    """Means with intervals over the seeds, and the paired comparisons."""

    def column(arm: str, name: str) -> list[float]:
        return [one["arms"][arm][name] for one in found]

    return {
        "arms": {name: {one: interval(column(name, one)) for one in FIGURES} for name in found[0]["arms"]},
        "compared": {
            name: {
                "arms": [one, other],
                **{
                    measure: paired(column(one, measure), column(other, measure))
                    for measure in ("retained_closed", "retained", "coverage")
                },
            }
            for name, (one, other) in COMPARED.items()
        },
    }


def draw(found: Sequence[Found], file: Path) -> None:
    """Every seed's pair as a line between its two arms, for the clean comparison and for the paper's."""
    with figure(file, columns=2, size=(6.4, 2.9), sharey=True) as axes:
        for panel, (name, title) in zip(
            axes, (("same_ewc", "the same EWC in both arms"), ("confounded", "the paper's pair")), strict=True
        ):
            _pairs(panel, found, name, title)
        axes[0].set_ylabel("accuracy of the labels retained")
        percent(axes[0])


def _pairs(panel: Axes, found: Sequence[Found], name: str, title: str) -> None:
    resized, fixed = COMPARED[name]
    pairs = np.array([[one["arms"][arm]["retained_closed"] for arm in (fixed, resized)] for one in found])
    for pair in pairs:
        panel.plot([0, 1], pair, color=GREY, linewidth=0.8, marker="o", markersize=3)
    for place, (values, colour) in enumerate(zip(pairs.T, (ORANGE, BLUE), strict=True)):
        one = interval(values.tolist())
        low, high = (one["low"] or one["mean"]), (one["high"] or one["mean"])
        bounds = [[one["mean"] - low], [high - one["mean"]]]
        panel.errorbar(place + (-0.12, 0.12)[place], one["mean"], bounds, fmt="s", color=colour, capsize=3)
    test = paired(pairs[:, 1].tolist(), pairs[:, 0].tolist())
    said = "" if test["p"] is None else f", p = {test['p']:.2g}"
    panel.set_title(f"{title}\n{100 * test['mean']:+.2f} pp{said}", loc="left")
    ewc = ",\nno EWC" if resized == "resized_free" else ""
    panel.set_xticks([0, 1], ["Selective Amnesia,\nfixed size", f"with resizing{ewc}"])
    panel.set_xlim(-0.4, 1.4)
    panel.grid(axis="x", visible=False)


if __name__ == "__main__":
    main()
