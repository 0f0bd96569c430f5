"""Run the script of the CLPU paper (Liu et al. 2022), and compare its networks by what they forgot.

    python -m experiments.clpu --seeds 5 [--json FILE] [--plots FOLDER] [--strategies NAMES] [--quick]

A script is a sequence of steps such as R01. R learns labels of MNIST permanently, T learns them temporarily,
each in a network of its own, and F forgets them. Every step runs as a job of the service would, with a seed
derived in the same way. There is one
group of networks for each script, and each group has its own seeds, except for `exact`:

`without`   R01 T45 R45 R67: never saw 2 and 3. It has twice as many seeds; the second half is the reference
            group.
`exact`     R01 T23 T45 F23 R45 R67: the same, but 2 and 3 are learned temporarily and dropped, so that all
            four cases of CLPU occur. Its seeds are those of the first half of `without`, and `identical`
            counts the pairs of networks whose files are equal byte for byte.
`kept`      R01 R23 T45 R45 R67: the positive control, which forgets nothing.
STRATEGY    `kept` and then F23 with each of the strategies: approximate forgetting of permanent labels.

Two networks are compared by the images they make of the same real test images, once of labels 2 and 3 and
once of the retained labels. A network encodes and decodes an image under a label it holds; for 2 and 3, every
network uses a retained label. Each pixel of the result is the mean of a Bernoulli distribution, and the
distance of two networks is the mean Jensen-Shannon divergence, in bits a pixel.

The excess of a group is its mean distance from the reference group minus the mean distance within the groups;
p is that of an exact permutation test. A small p shows that the groups differ. A large p does not prove that
they are alike. There is no correction for the number of tests.
"""

import base64
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes

from experiments import running
from experiments.plots import COLOURS, GREY, figure
from experiments.running import OnStep, Result, Trial
from experiments.scoring import Scorer
from experiments.significance import Array, bernoulli_divergence, interval, permutation_test
from experiments.training_setup import CPU, QUICK_DIVISOR, DatasetArchive, examples_of, params_of
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank, frozen
from worker.learning.strategy import Examples, TrainingContext, derive_seed
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly

FORGOTTEN, RETAINED = ("2", "3"), ("0", "1", "4", "5", "6", "7")
SCRIPTS = {
    "without": ("R01", "T45", "R45", "R67"),
    "exact": ("R01", "T23", "T45", "F23", "R45", "R67"),
    "kept": ("R01", "R23", "T45", "R45", "R67"),
}
FORGET_STEP = "F" + "".join(FORGOTTEN)
COMPARED_ON = {"forgotten": "images of the forgotten labels", "retained": "images of the labels retained"}
"""Kind of test images -> title of its plot."""
IMAGES = 240
"""Number of test images of each kind."""


def main() -> None:
    parser = running.make_parser(__doc__)
    parser.add_argument(
        "--strategies",
        default="surrogate,distill",
        help="forget strategies, separated by commas; %(default)s",
    )
    options = running.parse_options(parser, {"seeds": 5}, {"seeds": 2})
    results = running.run_all(make_trials(options), options)
    networks = [network for one in results for network in one["networks"]]
    details = {"networks": [_without_outputs(one) for one in networks]}
    figures = summarize(networks)
    running.write_results("clpu", figures, details, options, trials=results)
    plot(figures, options.plots / "clpu.png")


def make_trials(options: Any) -> list[Trial]:
    """Return a trial for each seed of each group. Only `exact` shares its seeds with another group."""
    n, strategies, data = options.seeds, tuple(options.strategies.split(",")), running.data_folder(options)
    seeds = {"without": range(2 * n), "exact": range(n), "kept": range(2 * n, 3 * n)}
    forget_strategies = {"without": (), "exact": (), "kept": strategies}
    divisor, length = (QUICK_DIVISOR, "quick") if options.quick else (1, "full")
    return [
        Trial(
            "-".join([group, *forget_strategies[group], length, str(seed)]),
            len(SCRIPTS[group]) + len(forget_strategies[group]),
            partial(run, group, seed, forget_strategies[group], divisor, data),
        )
        for group, of_group in seeds.items()
        for seed in of_group
    ]


def run(
    group: str,
    seed: int,
    forget_strategies: Sequence[str],
    step_divisor: int,
    data: Path,
    on_step: OnStep,
) -> Result:
    """Run a group's script with a seed, and then forget with each strategy; measure the networks left."""
    compute_reproducibly(threads=1)
    mnist = datasets.load("mnist", data)
    scorer, archive = Scorer.of(mnist), DatasetArchive(mnist, blank({}, seed=seed))
    checkpoint = archive.blank_model
    for step in SCRIPTS[group]:
        checkpoint = run_step(step, checkpoint, "surrogate", archive, mnist, seed, step_divisor=step_divisor)
        on_step(f"{group}, seed {seed}: {step}")
    networks = [measure(group, checkpoint, scorer, mnist, seed)]
    for forget in forget_strategies:
        after = run_step(FORGET_STEP, checkpoint, forget, archive, mnist, seed, step_divisor=step_divisor)
        networks.append(measure(forget, after, scorer, mnist, seed))
        on_step(f"{forget}, seed {seed}")
    return {"networks": networks}


def run_step(
    step: str,
    checkpoint: Checkpoint,
    forget: str,
    archive: DatasetArchive,
    mnist: datasets.Dataset,
    seed: int,
    *,
    step_divisor: int = 1,
) -> Checkpoint:
    """Return the checkpoint after one step of a script, as a worker of the service would make it.

    forget: the strategy that forgets permanent labels.
    """
    labels = tuple(step[1:])
    operation: Literal["learn", "forget"] = "forget" if step[0] == "F" else "learn"
    temporary = set(labels) <= set(checkpoint.temporary)
    name = {"F": "drop" if temporary else forget, "T": "isolated"}.get(
        step[0], "merge" if temporary else "replay_ewc"
    )
    chosen = strategy.find(operation, name)
    shows_images = name not in ("merge", "drop", forget)
    request = examples_of(mnist, labels) if shows_images else Examples(labels, "mnist")
    ancestor = () if step[0] == "T" else (hashlib.sha256(checkpoint.to_bytes()).hexdigest(),)
    context = TrainingContext(CPU, derive_seed(seed, operation, sorted(labels), *ancestor), archive)
    return apply_strategy(
        checkpoint, chosen, request, params_of(chosen, {}, step_divisor=step_divisor), context
    )


def measure(group: str, checkpoint: Checkpoint, scorer: Scorer, mnist: datasets.Dataset, seed: int) -> Result:
    """Return the sha256 of the network's files, its accuracy, and its outputs for the test images."""
    files = [checkpoint.to_bytes(), *(one.to_bytes() for one in checkpoint.isolated)]
    known = {label.name for label in checkpoint.labels}
    return {
        "group": group,
        "seed": seed,
        "sha256": [hashlib.sha256(one).hexdigest() for one in files],
        "retained": statistics.mean(scorer.scores(checkpoint, name, seed).open for name in RETAINED),
        "forgotten": [scorer.scores(checkpoint, name, seed).open for name in FORGOTTEN if name in known],
        "outputs": {
            "forgotten": pack(outputs(checkpoint, mnist, FORGOTTEN)),
            "retained": pack(outputs(checkpoint, mnist, RETAINED)),
        },
    }


@torch.no_grad()
def outputs(checkpoint: Checkpoint, mnist: datasets.Dataset, labels: Sequence[str]) -> torch.Tensor:
    """Encode and decode real test images of the labels; return the mean images, [IMAGES, pixels] in [0, 1].

    Each is encoded under its own label if that is retained, else under one of the retained labels in turn.
    """
    network, each = frozen(checkpoint, CPU), IMAGES // len(labels)
    images = torch.cat([mnist.test[name][:each] for name in labels]).float() / 255
    own = [name for name in labels for _ in range(each)]
    under = [name if name in RETAINED else RETAINED[index % len(RETAINED)] for index, name in enumerate(own)]
    slots = torch.tensor([checkpoint.retained[name] for name in under])
    mean, _ = network.encode(images, slots)
    return network.decode(mean, slots).sigmoid()


def summarize(networks: Sequence[Result]) -> Result:
    """Count the identical networks, and compare every group with the reference group."""
    by_group: dict[str, list[int]] = {}
    for index, one in enumerate(networks):
        by_group.setdefault(one["group"], []).append(index)
    without, exact = by_group.pop("without"), by_group["exact"]
    reference = without[len(without) // 2 :]
    identical = [
        networks[one]["sha256"] == networks[other]["sha256"]
        for one, other in zip(exact, without, strict=False)
    ]
    tests = {}
    for kind in COMPARED_ON:
        distances = distances_between([_unpack(one["outputs"][kind]) for one in networks])
        tests[kind] = {name: _test(distances, group, reference) for name, group in by_group.items()}
        tests[kind]["reference"] = {"pairs_within": _pairs(distances, reference)}
    return {
        "seeds": len(exact),
        "identical": {"same": sum(identical), "of": len(identical)},
        "retained": {
            name: interval([networks[one]["retained"] for one in group])
            for name, group in {"without": without, **by_group}.items()
        },
        "forgotten": {
            name: interval([statistics.mean(networks[one]["forgotten"]) for one in group])
            for name, group in by_group.items()
            if networks[group[0]]["forgotten"]
        },
        "smallest_p": 2 / _number_of_splits(len(reference)),
        "tests": tests,
    }


def distances_between(outputs: Sequence[Array]) -> Array:
    """Return the mean divergence of the outputs of every two networks, [networks, networks], bits a pixel."""
    distances = np.zeros((len(outputs), len(outputs)))
    for one in range(len(outputs)):
        for other in range(one):
            distance = bernoulli_divergence(outputs[one], outputs[other]).mean()
            distances[one, other] = distances[other, one] = distance
    return distances


def _test(distances: Array, group: Sequence[int], reference: Sequence[int]) -> Result:
    across = distances[np.ix_(group, reference)].ravel().tolist()
    return {**permutation_test(distances, group, reference), "pairs_across": across}


def _pairs(distances: Array, group: Sequence[int]) -> list[float]:
    """The distances of every two networks of a group."""
    rows, columns = np.triu_indices(len(group), k=1)
    within = distances[np.ix_(group, group)][rows, columns]
    return list(map(float, within))


def _number_of_splits(n: int) -> int:
    """The number of ways to split 2n networks into two groups of n."""
    return int(np.prod([(n + k) / k for k in range(1, n + 1)]) + 0.5)


def pack(outputs: torch.Tensor) -> str:
    """Return the images as base64 text of float16."""
    return base64.b64encode(outputs.numpy().astype(np.float16).tobytes()).decode()


def _unpack(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), np.float16).astype(np.float64)


def _without_outputs(network: Result) -> Result:
    return {name: value for name, value in network.items() if name != "outputs"}


def plot(figures: Mapping[str, Any], file: Path) -> None:
    """Draw the distance of every pair: within the reference group, and between it and each other group."""
    with figure(file, columns=2, size=(9.4, 3.2)) as axes:
        for panel, (kind, title) in zip(axes, COMPARED_ON.items(), strict=True):
            _plot_pairs(panel, figures["tests"][kind])
            panel.set_title(title, loc="left")
        axes[0].set_ylabel("Jensen-Shannon divergence\nof outputs, bits a pixel")


def _plot_pairs(panel: Axes, tests: Mapping[str, Any]) -> None:
    groups = [name for name in tests if name != "reference"]
    columns = [tests["reference"]["pairs_within"], *(tests[name]["pairs_across"] for name in groups)]
    jitter = np.random.default_rng(0)
    for place, (values, colour) in enumerate(zip(columns, (GREY, *COLOURS), strict=False)):
        xs = place + jitter.uniform(-0.16, 0.16, len(values))
        panel.scatter(xs, values, s=10, color=colour, alpha=0.55, linewidths=0)
        panel.hlines(np.mean(values), place - 0.28, place + 0.28, color=colour, linewidth=2)
    names = [f"{name}\np = {tests[name]['p']:.2g}" for name in groups]
    panel.set_xticks(range(len(columns)), ["never saw\n2 and 3", *names], fontsize=7.5)
    panel.set_ylim(bottom=0)
    panel.grid(axis="x", visible=False)


if __name__ == "__main__":
    main()
