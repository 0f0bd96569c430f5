"""How small a network can be made: targeted dropout on and off, Taylor against magnitude, tuned or not.

    python -m experiments.compression --seeds 5 [--json FILE] [--plots FOLDER] [--quick]

The start is the paper's network after it learned all labels of MNIST by the default strategy. From there
units are removed, the same share of every hidden layer, in one of these ways:

`magnitude`, `taylor`              those with the smallest L2 norm of incoming weights, or those the loss is
                                   predicted to miss least; nothing is trained.
`magnitude_tuned`, `taylor_tuned`  and then what stays is trained to be the old function, `--steps` steps.
`dropout_on`, `dropout_off`        the smallest by magnitude after as long a training, under targeted dropout
                                   of the share to be removed, or without; nothing is trained afterwards.
`dropout_half`                     the same under targeted dropout of half of the units at any share.

The mean activation of what is removed is folded into the next bias in every way. `open` is the accuracy of
1,000 draws a label by the judge, a rejected draw counting as wrong; `coverage` the variety of the draws.
`cliff` is the largest share that, like all smaller ones, costs at most 5 pp of accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from matplotlib.ticker import PercentFormatter
from torch import Tensor

from experiments import running
from experiments.critic import Critic, judged
from experiments.plots import BLUE, GREEN, GREY, ORANGE, RED, band, figure, percent
from experiments.running import Found, Tell, Work
from experiments.significance import interval, paired
from experiments.strategies import CPU, given
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank, build, frozen, weights_of
from worker.learning.replay import interleave, replay
from worker.learning.resizing.targeted_dropout import TargetedDropout, bottom
from worker.learning.resizing.targeted_dropout_prune import TargetedDropoutPruneParams, prune
from worker.learning.resizing.taylor import Curvature, Removed, curvature, without
from worker.learning.resizing.taylor_prune import least_missed, matched, replay_set
from worker.learning.resizing.units import seams_of
from worker.learning.retention import distillation
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.training import Parts, Schedule, fit
from worker.process.devices import compute_reproducibly

SHARES: tuple[float, ...] = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK_SHARES = (0.3, 0.6, 0.9)
HALF = 0.5
DROP_PROBABILITY = 0.75  # below 1: what is at risk still learns, and need not be removed
TAYLOR_DRAWS, FISHER_DRAWS = 2000, 1  # the Fisher of a result is asked for by nobody here
AFFORDED = 0.05  # accuracy that may be lost on this side of the cliff


def main() -> None:
    parser = running.options_of(__doc__)
    parser.add_argument("--steps", type=int, help="of every training after the first")
    options = running.asked(parser, {"seeds": 5, "steps": 300}, {"seeds": 1, "steps": 60})
    shares, learning = (QUICK_SHARES, 200) if options.quick else (SHARES, 1000)
    data = running.data_of(options)
    works = [
        Work(
            f"{learning}-{options.steps}-{len(shares)}-{seed}",
            1 + len(shares),
            partial(run, seed, shares, learning, options.steps, data),
        )
        for seed in range(options.seeds)
    ]
    found = running.all_of(works, options)
    running.delivered(
        "compression", {"steps": options.steps} | summary(found), {"runs": found}, options, works=found
    )
    draw(found, options.plots / "compression.png")


def run(seed: int, shares: Sequence[float], learning: int, steps: int, data: Path, tell: Tell) -> Found:
    """One network, and what is left of its draws after each share is removed in each way."""
    compute_reproducibly(threads=1)
    mnist, context = datasets.load("mnist", data), TrainingContext(CPU, seed)
    critic, learn = Critic.of(mnist), strategy.find("learn", "replay_ewc")
    params = learn.Params.model_validate({"schedule": {"steps": learning}})
    base = learn.run(blank({}, seed=seed), given(mnist, mnist.labels), params, context)
    before = _figures(base, critic, seed)
    tell(f"seed {seed}: learnt, {before['open']:.1%}")
    around = curvature(build(base, CPU), replay_set(base, TAYLOR_DRAWS, context), context)
    spared = trained(base, HALF, steps, context)
    rows = []
    for share in shares:
        smaller = every_way(base, around, spared, share, steps, context)
        rows.append({"share": share, **{name: _figures(one, critic, seed) for name, one in smaller.items()}})
        tell(f"seed {seed}: {share:.0%} removed")
    return {"seed": seed, "before": before, "rows": rows}


def every_way(
    base: Checkpoint,
    around: Curvature,
    spared: Checkpoint,
    share: float,
    steps: int,
    context: TrainingContext,
) -> dict[str, Checkpoint]:
    """The base without the share of its units, way by way. spared: trained under dropout of half of them."""
    schedule = Schedule(steps=steps)
    magnitude = without(base, smallest(base, share), around)
    taylor = without(base, least_missed(around, share, "layer"), around)
    dropped = {
        name: targeted(base, share, probability, schedule, context)
        for name, probability in (("dropout_on", 1.0), ("dropout_off", 0.0))
    }
    return {
        "magnitude": magnitude,
        "taylor": taylor,
        "magnitude_tuned": matched(base, magnitude, schedule, FISHER_DRAWS, context),
        "taylor_tuned": matched(base, taylor, schedule, FISHER_DRAWS, context),
        **dropped,
        "dropout_half": removed_from(spared, share, context),
    }


def targeted(
    base: Checkpoint, share: float, probability: float, schedule: Schedule, context: TrainingContext
) -> Checkpoint:
    """The base after training under targeted dropout with the probability, and after losing the share."""
    params = TargetedDropoutPruneParams(
        schedule=schedule,
        share=share,
        drop_probability=probability,
        ewc_strength=0.0,
        fisher_examples=FISHER_DRAWS,
    )
    return prune(base, Examples((), "mnist"), params, context)


def trained(base: Checkpoint, share: float, steps: int, context: TrainingContext) -> Checkpoint:
    """The base after training to be itself under targeted dropout of the share; nothing is removed."""
    network, teacher = build(base, CPU), frozen(base, CPU)
    dropout = TargetedDropout(network, share, DROP_PROBABILITY, context.generator("targeted dropout"))

    def loss(parts: Parts, done: float) -> Tensor:
        (replayed,) = parts
        return distillation(network, teacher, replayed, masks=dropout.masks(done)).mean()

    source = replay(teacher, sorted(base.held.values()), context.generator("replay"))
    schedule = Schedule(steps=steps)
    batches = interleave([(source, 1.0)], schedule.batch_size, CPU)
    fit(network, loss, batches, schedule, context, phase="dropout")
    return replace(base, weights=weights_of(network))


def removed_from(checkpoint: Checkpoint, share: float, context: TrainingContext) -> Checkpoint:
    """The checkpoint less the share of its units with the smallest incoming weights."""
    draws = replay_set(checkpoint, TAYLOR_DRAWS, context)
    around = curvature(build(checkpoint, CPU), draws, context)
    return without(checkpoint, smallest(checkpoint, share), around)


def smallest(checkpoint: Checkpoint, share: float) -> Removed:
    """Magnitude pruning: the share of every hidden layer with the smallest L2 norm of incoming weights."""
    incoming = {seam.layer: checkpoint.weights[f"{seam.layer}.weight"] for seam in seams_of(checkpoint)}
    return {layer: bottom(weight.norm(dim=1), share) for layer, weight in incoming.items()}


def _figures(checkpoint: Checkpoint, critic: Critic, seed: int) -> Found:
    figures = judged(checkpoint, critic, seed=seed)
    return {name: figures[name] for name in ("open", "closed", "coverage", "parameters")}


def summary(found: Sequence[Found]) -> Found:
    """Curves with intervals over the seeds, the paired comparisons at each share, and the cliffs."""
    ways = [name for name in found[0]["rows"][0] if name != "share"]
    before = interval([one["before"]["open"] for one in found])
    curves = {way: [_point(found, index, way) for index in range(len(found[0]["rows"]))] for way in ways}
    pairs = (("dropout_on", "dropout_off"), ("taylor", "magnitude"), ("taylor_tuned", "magnitude_tuned"))
    return {
        "shares": [row["share"] for row in found[0]["rows"]],
        "before": before,
        "curves": curves,
        "compared": {
            f"{one}-{other}": [
                paired(_values(found, index, one, "open"), _values(found, index, other, "open"))
                for index in range(len(found[0]["rows"]))
            ]
            for one, other in pairs
        },
        "cliff": {way: cliff(curve, before["mean"]) for way, curve in curves.items()},
    }


def cliff(curve: Sequence[Found], before: float) -> float:
    """The largest share that, as all smaller ones, costs at most 5 pp of accuracy; 0 if none does."""
    affordable = takewhile(lambda one: before - one["open"]["mean"] <= AFFORDED, curve)
    return max((one["share"] for one in affordable), default=0.0)


def _point(found: Sequence[Found], index: int, way: str) -> Found:
    figures = ("open", "coverage", "parameters")
    share = found[0]["rows"][index]["share"]
    return {"share": share, **{name: interval(_values(found, index, way, name)) for name in figures}}


def _values(found: Sequence[Found], index: int, way: str, figure: str) -> list[float]:
    return [one["rows"][index][way][figure] for one in found]


PANELS: tuple[tuple[str, Mapping[str, tuple[str, str, str]]], ...] = (  # title, way -> name, colour, line
    (
        "Targeted dropout, nothing trained after",
        {
            "dropout_on": ("of the share removed", BLUE, "-"),
            "dropout_half": ("of half of the units", GREEN, "-"),
            "dropout_off": ("none, as long a training", RED, "--"),
        },
    ),
    (
        "Which units go",
        {
            "taylor_tuned": ("Taylor, then tuned", BLUE, "-"),
            "magnitude_tuned": ("magnitude, then tuned", ORANGE, "-"),
            "taylor": ("Taylor, as it is", BLUE, "--"),
            "magnitude": ("magnitude, as it is", ORANGE, "--"),
        },
    ),
)


def draw(found: Sequence[Found], file: Path) -> None:
    """Accuracy and coverage against the share of units removed, with 95 % intervals over the seeds."""
    figures = summary(found)
    with figure(file, rows=2, columns=2, size=(7.4, 5.0), sharex=True, sharey="row") as axes:
        for row, (measure, name) in enumerate((("open", "accuracy of draws"), ("coverage", "coverage"))):
            for panel, (title, ways) in zip(axes[row], PANELS, strict=True):
                for way, (label, colour, line) in ways.items():
                    points = [one[measure] for one in figures["curves"][way]]
                    band(panel, figures["shares"], points, colour=colour, label=label, linestyle=line)
                if row == 0:
                    panel.set_title(title, loc="left")
                    panel.axhline(figures["before"]["mean"], color=GREY, linestyle=":", linewidth=1)
                else:
                    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2, handlelength=2.8)
                    panel.set_xlabel("share of units removed from every hidden layer")
                    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            axes[row][0].set_ylabel(name)
            percent(axes[row][0], low=0, high=1.02)


if __name__ == "__main__":
    main()
