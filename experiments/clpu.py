"""The script of the CLPU paper (Liu et al. 2022): is a model, after forgetting, one that never learned it?

    python -m experiments.clpu --seeds 5 [--json FILE] [--plots FOLDER] [--strategies NAMES] [--quick]

R learns labels of MNIST for good, T for a time, in networks of their own, F forgets them: by `change`, with
seeds keyed as the service's are. Groups of networks, each of its own seeds but for `exact`:

`without`   R01 T45 R45 R67: never saw 2 and 3; twice as many seeds, the second half is the reference group
`exact`     R01 T23 T45 F23 R45 R67: the same with 2 and 3 learnt for a time and dropped; all four cases of
            CLPU. The seeds are those of the first half of `without`, and `identical` counts the pairs of
            networks whose files are the same to the byte
`kept`      R01 R23 T45 R45 R67: the positive control, nothing is forgotten
STRATEGY    `kept`, and then F23 by each of the strategies: approximate forgetting of permanent labels

Two networks are compared by their output distributions, a Bernoulli a pixel, on the same real test images:
those of 2 and 3 under the labels retained (which every network has), and those of the labels retained. The
distance is the mean Jensen-Shannon divergence, in bits a pixel. `apart` is the difference of its mean across
the group and the reference to its mean within groups; p is of an exact permutation test. A large p does not
prove two groups alike; a small one shows that they are not. No correction is made for the number of tests.
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
from experiments.critic import Critic
from experiments.histories import params_of
from experiments.plots import COLOURS, GREY, figure
from experiments.running import Found, Tell, Work
from experiments.significance import bernoulli_divergence, interval, separation
from experiments.strategies import CPU, Archive, given
from worker.learning import datasets, strategy
from worker.learning.changing import change
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank, frozen
from worker.learning.strategy import Examples, TrainingContext, derive_seed
from worker.process.devices import compute_reproducibly

GONE, RETAINED = ("2", "3"), ("0", "1", "4", "5", "6", "7")
SCRIPTS = {
    "without": ("R01", "T45", "R45", "R67"),
    "exact": ("R01", "T23", "T45", "F23", "R45", "R67"),
    "kept": ("R01", "R23", "T45", "R45", "R67"),
}
ON = {"forgotten": "images of the forgotten labels", "retained": "images of the labels retained"}
IMAGES = 240  # test images a network is compared on, of each kind


def main() -> None:
    parser = running.options_of(__doc__)
    parser.add_argument("--strategies", default="surrogate,distill", help="forget strategies of `kept`")
    options = running.asked(parser, {"seeds": 5}, {"seeds": 2})
    found = running.all_of(works_of(options), options)
    networks = [network for one in found for network in one["networks"]]
    details = {"networks": [_without_outputs(one) for one in networks]}
    figures = summary(networks)
    running.delivered("clpu", figures, details, options, works=found)
    draw(figures, options.plots / "clpu.png")


def works_of(options: Any) -> list[Work]:
    """The runs of every group. The groups' seeds do not overlap, but for those of `exact`."""
    n, forgets, data = options.seeds, tuple(options.strategies.split(",")), running.data_of(options)
    seeds = {"without": range(2 * n), "exact": range(n), "kept": range(2 * n, 3 * n)}
    then = {"without": (), "exact": (), "kept": forgets}
    length = "quick" if options.quick else "full"
    return [
        Work(
            "-".join([group, *then[group], length, str(seed)]),
            len(SCRIPTS[group]) + len(then[group]),
            partial(run, group, seed, then[group], options.quick, data),
        )
        for group, chosen in seeds.items()
        for seed in chosen
    ]


def run(group: str, seed: int, forgets: Sequence[str], quick: bool, data: Path, tell: Tell) -> Found:
    """The networks of one seed of a group: one, and for `kept` one more for each way to forget."""
    compute_reproducibly(threads=1)
    mnist = datasets.load("mnist", data)
    critic, archive = Critic.of(mnist), Archive(mnist, blank({}, seed=seed))
    checkpoint = archive.start
    for step in SCRIPTS[group]:
        checkpoint = after(checkpoint, step, "surrogate", archive, mnist, seed, quick=quick)
        tell(f"{group}, seed {seed}: {step}")
    networks = [measured(group, checkpoint, critic, mnist, seed)]
    for forget in forgets:
        forgot = after(checkpoint, "F" + "".join(GONE), forget, archive, mnist, seed, quick=quick)
        networks.append(measured(forget, forgot, critic, mnist, seed))
        tell(f"{forget}, seed {seed}")
    return {"networks": networks}


def after(
    checkpoint: Checkpoint,
    step: str,
    forget: str,
    archive: Archive,
    mnist: datasets.Dataset,
    seed: int,
    *,
    quick: bool,
) -> Checkpoint:
    """The checkpoint after one step of a script, as a worker of the service makes it."""
    labels = tuple(step[1:])
    operation: Literal["learn", "forget"] = "forget" if step[0] == "F" else "learn"
    temporary = set(labels) <= set(checkpoint.temporary)
    name = {"F": "drop" if temporary else forget, "T": "isolated"}.get(
        step[0], "merge" if temporary else "replay_ewc"
    )
    chosen = strategy.find(operation, name)
    asked = Examples(labels, "mnist") if name in ("merge", "drop", forget) else given(mnist, labels)
    own = () if step[0] == "T" else (hashlib.sha256(checkpoint.to_bytes()).hexdigest(),)
    context = TrainingContext(CPU, derive_seed(seed, operation, sorted(labels), *own), archive)
    return change(checkpoint, chosen, asked, params_of(chosen, {}, quick=quick), context)


def measured(group: str, checkpoint: Checkpoint, critic: Critic, mnist: datasets.Dataset, seed: int) -> Found:
    """What is compared of a network, with the sha256 of its files."""
    files = [checkpoint.to_bytes(), *(one.to_bytes() for one in checkpoint.isolated)]
    known = {label.name for label in checkpoint.labels}
    return {
        "group": group,
        "seed": seed,
        "sha256": [hashlib.sha256(one).hexdigest() for one in files],
        "retained": statistics.mean(critic.shares(checkpoint, name, seed).open for name in RETAINED),
        "forgotten": [critic.shares(checkpoint, name, seed).open for name in GONE if name in known],
        "outputs": {
            "forgotten": _packed(outputs(checkpoint, mnist, GONE)),
            "retained": _packed(outputs(checkpoint, mnist, RETAINED)),
        },
    }


@torch.no_grad()
def outputs(checkpoint: Checkpoint, mnist: datasets.Dataset, labels: Sequence[str]) -> torch.Tensor:
    """The mean images made of real ones, [IMAGES, pixels] in [0, 1]: under their label, or one retained."""
    network, each = frozen(checkpoint, CPU), IMAGES // len(labels)
    images = torch.cat([mnist.test[name][:each] for name in labels]).float() / 255
    own = [name for name in labels for _ in range(each)]
    asked = [name if name in RETAINED else RETAINED[index % len(RETAINED)] for index, name in enumerate(own)]
    slots = torch.tensor([checkpoint.held[name] for name in asked])
    mean, _ = network.encode(images, slots)
    return network.decode(mean, slots).sigmoid()


def summary(networks: Sequence[Found]) -> Found:
    """Byte identity, and every group against the reference group."""
    by_group: dict[str, list[int]] = {}
    for index, one in enumerate(networks):
        by_group.setdefault(one["group"], []).append(index)
    without, exact = by_group.pop("without"), by_group["exact"]
    reference = without[len(without) // 2 :]
    twins = [
        networks[one]["sha256"] == networks[other]["sha256"]
        for one, other in zip(exact, without, strict=False)
    ]
    tests = {}
    for kind in ON:
        distances = distances_of([_unpacked(one["outputs"][kind]) for one in networks])
        tests[kind] = {name: _test(distances, group, reference) for name, group in by_group.items()}
        tests[kind]["reference"] = {"pairs_within": _pairs(distances, reference)}
    return {
        "seeds": len(exact),
        "identical": {"same": sum(twins), "of": len(twins)},
        "retained": {
            name: interval([networks[one]["retained"] for one in group])
            for name, group in {"without": without, **by_group}.items()
        },
        "forgotten": {
            name: interval([statistics.mean(networks[one]["forgotten"]) for one in group])
            for name, group in by_group.items()
            if networks[group[0]]["forgotten"]
        },
        "smallest_p": 2 / _splits(len(reference)),
        "tests": tests,
    }


def distances_of(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The mean divergence of the outputs of every two networks, [networks, networks], bits a pixel."""
    found = np.zeros((len(outputs), len(outputs)))
    for one in range(len(outputs)):
        for other in range(one):
            found[one, other] = found[other, one] = bernoulli_divergence(outputs[one], outputs[other]).mean()
    return found


def _test(distances: np.ndarray, group: Sequence[int], reference: Sequence[int]) -> Found:
    across = distances[np.ix_(group, reference)].ravel().tolist()
    return {**separation(distances, group, reference), "pairs_across": across}


def _pairs(distances: np.ndarray, group: Sequence[int]) -> list[float]:
    rows, columns = np.triu_indices(len(group), k=1)
    within = distances[np.ix_(group, group)][rows, columns]
    return list(map(float, within))


def _splits(n: int) -> int:
    return int(np.prod([(n + k) / k for k in range(1, n + 1)]) + 0.5)


def _packed(outputs: torch.Tensor) -> str:
    return base64.b64encode(outputs.numpy().astype(np.float16).tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.float16).astype(np.float64)


def _without_outputs(network: Found) -> Found:
    return {name: value for name, value in network.items() if name != "outputs"}


def draw(figures: Mapping[str, Any], file: Path) -> None:
    """Every pair of networks as a point: within the reference group, and from each other group to it."""
    with figure(file, columns=2, size=(9.4, 3.2)) as axes:
        for panel, (kind, title) in zip(axes, ON.items(), strict=True):
            _strip(panel, figures["tests"][kind])
            panel.set_title(title, loc="left")
        axes[0].set_ylabel("Jensen-Shannon divergence\nof outputs, bits a pixel")


def _strip(panel: Axes, tests: Mapping[str, Any]) -> None:
    groups = [name for name in tests if name != "reference"]
    columns = [tests["reference"]["pairs_within"], *(tests[name]["pairs_across"] for name in groups)]
    sideways = np.random.default_rng(0)
    for place, (values, colour) in enumerate(zip(columns, (GREY, *COLOURS), strict=False)):
        xs = place + sideways.uniform(-0.16, 0.16, len(values))
        panel.scatter(xs, values, s=10, color=colour, alpha=0.55, linewidths=0)
        panel.hlines(np.mean(values), place - 0.28, place + 0.28, color=colour, linewidth=2)
    named = [f"{name}\np = {tests[name]['p']:.2g}" for name in groups]
    panel.set_xticks(range(len(columns)), ["never saw\nthem", *named], fontsize=7.5)
    panel.set_ylim(bottom=0)
    panel.grid(axis="x", visible=False)


if __name__ == "__main__":
    main()
