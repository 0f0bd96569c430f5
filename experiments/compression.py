"""Compare ways to prune a network: targeted dropout or none, Taylor or magnitude, fine-tuned or not.

    python -m experiments.compression --seeds 5 [--json FILE] [--plots FOLDER] [--quick]

The start is the paper's network after it learned all labels of MNIST with the default strategy. From it, each
of these methods removes the same share of the units of every hidden layer:

`magnitude`, `taylor`              the units with the smallest L2 norm of incoming weights, or those whose
                                   removal is predicted to raise the loss least. Nothing is trained.
`magnitude_tuned`, `taylor_tuned`  the same, and then the smaller network is trained for `--steps` steps to
                                   match the function of the larger one.
`dropout_on`, `dropout_off`        the units with the smallest norm after as many steps of training, under
                                   targeted dropout of the share to be removed, or without dropout. Nothing is
                                   trained afterwards.
`dropout_half`                     the same under targeted dropout of half of the units, whatever the share.

Every method adds the mean activation of a removed unit to the next layer's bias. `open` is the accuracy of
1,000 draws a label by the open-set judge, `coverage` measures the variety of the draws. `cliff` is the
largest share that, like all smaller ones, costs at most 5 percentage points (pp) of accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from matplotlib.ticker import PercentFormatter
from torch import Tensor

from experiments import running
from experiments.plots import BLUE, GREEN, GREY, ORANGE, RED, figure, percent_axis, plot_band
from experiments.running import OnStep, Result, Trial
from experiments.scoring import Scorer, score_checkpoint
from experiments.significance import interval, paired_t_test
from experiments.training_setup import CPU, examples_of
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.distillation import match_function
from worker.learning.networks import blank, build, frozen, weights_of
from worker.learning.replay_losses import distillation_loss
from worker.learning.resizing.targeted_dropout_prune import TargetedDropoutPruneParams, prune
from worker.learning.sources import generative_replay, interleave
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.training import Parts, Schedule, fit
from worker.learning.units.removal import (
    Curvature,
    least_important_units,
    measure_curvature,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import UnitMask, prunable_layers
from worker.learning.units.targeted_dropout import TargetedDropout, smallest_share
from worker.process.devices import compute_reproducibly

SHARES: tuple[float, ...] = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK_SHARES = (0.3, 0.6, 0.9)
HALF = 0.5
DROP_PROBABILITY = 0.75
"""How often `dropout_half` drops each unit that it may drop. It is below 1, so that these are trained too."""
TAYLOR_DRAWS = 2000
MAX_LOSS = 0.05
"""Accuracy that a share below the cliff may cost."""


def main() -> None:
    parser = running.make_parser(__doc__)
    parser.add_argument("--steps", type=int, help="steps of every training except the first")
    options = running.parse_options(parser, {"seeds": 5, "steps": 300}, {"seeds": 1, "steps": 60})
    shares, learn_steps = (QUICK_SHARES, 200) if options.quick else (SHARES, 1000)
    data = running.data_folder(options)
    trials = [
        Trial(
            f"{learn_steps}-{options.steps}-{len(shares)}-{seed}",
            1 + len(shares),
            partial(run, seed, shares, learn_steps, options.steps, data),
        )
        for seed in range(options.seeds)
    ]
    results = running.run_all(trials, options)
    figures = {"steps": options.steps} | summarize(results)
    running.write_results("compression", figures, {"runs": results}, options, trials=results)
    plot(figures, options.plots / "compression.png")


def run(
    seed: int, shares: Sequence[float], learn_steps: int, steps: int, data: Path, on_step: OnStep
) -> Result:
    """Train one network, prune it with each method by each share, and score the draws of every network."""
    compute_reproducibly(threads=1)
    mnist, context = datasets.load("mnist", data), TrainingContext(CPU, seed)
    scorer, learn = Scorer.of(mnist), strategy.find("learn", "replay_ewc")
    params = learn.Params.model_validate({"schedule": {"steps": learn_steps}})
    base = learn.run(blank({}, seed=seed), examples_of(mnist, mnist.labels), params, context)
    before = _scores(base, scorer, seed)
    on_step(f"seed {seed}: learned, {before['open']:.1%}")
    curvature = measure_curvature(build(base, CPU), replay_sample(base, TAYLOR_DRAWS, context), context)
    half_dropped = train_with_dropout(base, HALF, steps, context)
    rows = []
    for share in shares:
        smaller = compress(base, curvature, half_dropped, share, steps, context)
        rows.append({"share": share, **{name: _scores(one, scorer, seed) for name, one in smaller.items()}})
        on_step(f"seed {seed}: {share:.0%} removed")
    return {"seed": seed, "before": before, "rows": rows}


def compress(
    base: Checkpoint,
    curvature: Curvature,
    half_dropped: Checkpoint,
    share: float,
    steps: int,
    context: TrainingContext,
) -> dict[str, Checkpoint]:
    """Remove the share of the base's units with each method.

    half_dropped: the base after training under targeted dropout of half of its units.
    """
    schedule = Schedule(steps=steps)
    magnitude = remove_units(base, smallest_units(base, share), curvature)
    taylor = remove_units(base, least_important_units(curvature, share, "layer"), curvature)
    dropped = {
        name: prune_after_dropout(base, share, probability, schedule, context)
        for name, probability in (("dropout_on", 1.0), ("dropout_off", 0.0))
    }
    return {
        "magnitude": magnitude,
        "taylor": taylor,
        "magnitude_tuned": match_function(base, magnitude, schedule, context),
        "taylor_tuned": match_function(base, taylor, schedule, context),
        **dropped,
        "dropout_half": remove_smallest(half_dropped, share, context),
    }


def prune_after_dropout(
    base: Checkpoint, share: float, probability: float, schedule: Schedule, context: TrainingContext
) -> Checkpoint:
    """Train the base under targeted dropout with the probability, and then remove the share of its units."""
    params = TargetedDropoutPruneParams(
        schedule=schedule,
        share=share,
        drop_probability=probability,
        ewc_strength=0.0,
    )
    return prune(base, Examples((), "mnist"), params, context)


def train_with_dropout(base: Checkpoint, share: float, steps: int, context: TrainingContext) -> Checkpoint:
    """Train the base to match itself under targeted dropout of the share; remove nothing."""
    network, teacher = build(base, CPU), frozen(base, CPU)
    dropout = TargetedDropout(network, share, DROP_PROBABILITY, context.generator("targeted dropout"))

    def loss(parts: Parts, progress: float) -> Tensor:
        (replayed,) = parts
        return distillation_loss(network, teacher, replayed, masks=dropout.masks(progress)).mean()

    source = generative_replay(teacher, sorted(base.retained.values()), context.generator("replay"))
    schedule = Schedule(steps=steps)
    batches = interleave([(source, 1.0)], schedule.batch_size, CPU)
    fit(network, loss, batches, schedule, context, phase="dropout")
    return replace(base, weights=weights_of(network))


def remove_smallest(checkpoint: Checkpoint, share: float, context: TrainingContext) -> Checkpoint:
    """Return the checkpoint without the share of its units that have the smallest incoming weights."""
    draws = replay_sample(checkpoint, TAYLOR_DRAWS, context)
    curvature = measure_curvature(build(checkpoint, CPU), draws, context)
    return remove_units(checkpoint, smallest_units(checkpoint, share), curvature)


def smallest_units(checkpoint: Checkpoint, share: float) -> UnitMask:
    """Return the units to prune by magnitude: the share of every layer with the smallest incoming L2 norm."""
    norms = {
        layer.name: checkpoint.weights[f"{layer.name}.weight"].norm(dim=1)
        for layer in prunable_layers(checkpoint)
    }
    return {layer: smallest_share(norm, share) for layer, norm in norms.items()}


def _scores(checkpoint: Checkpoint, scorer: Scorer, seed: int) -> Result:
    scores = score_checkpoint(checkpoint, scorer, seed=seed)
    return {name: scores[name] for name in ("open", "closed", "coverage", "parameters")}


def summarize(results: Sequence[Result]) -> Result:
    """Return each method's curve and cliff, with intervals over the seeds, and paired tests at each share."""
    shares = [row["share"] for row in results[0]["rows"]]
    methods = [name for name in results[0]["rows"][0] if name != "share"]

    def values(index: int, method: str, figure: str) -> list[float]:
        return [one["rows"][index][method][figure] for one in results]

    def point(index: int, share: float, method: str) -> Result:
        figures = ("open", "coverage", "parameters")
        return {"share": share, **{figure: interval(values(index, method, figure)) for figure in figures}}

    before = interval([one["before"]["open"] for one in results])
    curves = {
        method: [point(index, share, method) for index, share in enumerate(shares)] for method in methods
    }
    pairs = (("dropout_on", "dropout_off"), ("taylor", "magnitude"), ("taylor_tuned", "magnitude_tuned"))
    return {
        "shares": shares,
        "before": before,
        "curves": curves,
        "compared": {
            f"{first}-{second}": [
                paired_t_test(values(index, first, "open"), values(index, second, "open"))
                for index in range(len(shares))
            ]
            for first, second in pairs
        },
        "cliff": {method: find_cliff(curve, before["mean"]) for method, curve in curves.items()},
    }


def find_cliff(curve: Sequence[Result], before: float) -> float:
    """Return the largest share that, like all smaller ones, costs at most MAX_LOSS; 0 if none does."""
    affordable = takewhile(lambda one: before - one["open"]["mean"] <= MAX_LOSS, curve)
    return max((one["share"] for one in affordable), default=0.0)


PANELS: tuple[tuple[str, Mapping[str, tuple[str, str, str]]], ...] = (
    (
        "Targeted dropout, no training afterwards",
        {
            "dropout_on": ("dropout of the share removed", BLUE, "-"),
            "dropout_half": ("dropout of half of the units", GREEN, "-"),
            "dropout_off": ("no dropout, same training", RED, "--"),
        },
    ),
    (
        "Choice of the units",
        {
            "taylor_tuned": ("Taylor, fine-tuned", BLUE, "-"),
            "magnitude_tuned": ("magnitude, fine-tuned", ORANGE, "-"),
            "taylor": ("Taylor", BLUE, "--"),
            "magnitude": ("magnitude", ORANGE, "--"),
        },
    ),
)
"""For each plot, its title and what it shows: method -> name, colour, line style."""


def plot(figures: Result, file: Path) -> None:
    """Draw accuracy and coverage against the share of units removed, with 95 % intervals over the seeds."""
    with figure(file, rows=2, columns=2, size=(7.4, 5.0), sharex=True, sharey="row") as axes:
        for row, (measure, name) in enumerate((("open", "accuracy of draws"), ("coverage", "coverage"))):
            for panel, (title, methods) in zip(axes[row], PANELS, strict=True):
                for method, (label, colour, line) in methods.items():
                    points = [one[measure] for one in figures["curves"][method]]
                    plot_band(panel, figures["shares"], points, colour=colour, label=label, linestyle=line)
                if row == 0:
                    panel.set_title(title, loc="left")
                    panel.axhline(figures["before"]["mean"], color=GREY, linestyle=":", linewidth=1)
                else:
                    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2, handlelength=2.8)
                    panel.set_xlabel("share of units removed from every hidden layer")
                    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            axes[row][0].set_ylabel(name)
            percent_axis(axes[row][0], low=0, high=1.02)


if __name__ == "__main__":
    main()
