"""The paper's experiment (section 5): random learning and forgetting, ten passes long.

    python -m experiments.random_passes --seeds 10 --passes 10 --json FILE

A model starts from a random set of MNIST's labels. Each pass is a coin flip: learn a random non-empty subset
of what is missing, or forget a random proper subset of what is held. After every pass 1,000 draws of every
label ever learned are judged. `closed` takes the label the judge finds likeliest, as the paper's classifier
does; `open` counts a rejected draw as wrong; `relapse` is the share of a forgotten label's draws that are, by
the open-set judge, still its own, of the worst label. `coverage` is the share of real test images with a draw
among their five nearest neighbours, in the judge's last hidden layer. `simple` is a fresh network trained on
real images of the labels held after the last pass; the gap and the ratio to it are those of that pass.

A seed that is finished is kept in FILE.seeds/ and not run again; seeds run side by side in --processes.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from experiments.strategies import CPU, Archive, given
from worker.devices import compute_reproducibly
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.judging.coverage import Neighbourhoods, embedded
from worker.learning.judging.judge import Judge, load_judge
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Workbench

DRAWS = 1000


def main() -> None:
    parser = parser_of_histories(__doc__)
    parser.add_argument("--learn", default="replay_ewc", help="learn strategy, with its default params")
    parser.add_argument("--forget", default="surrogate", help="forget strategy, with its default params")
    options = parser.parse_args()
    histories = every_history(Plan(options.learn, options.forget), options)
    figures = summary(histories) | {"learn": options.learn, "forget": options.forget}
    options.json.write_text(json.dumps(figures | {"histories": histories}, indent=2) + "\n")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def parser_of_histories(description: str | None) -> argparse.ArgumentParser:
    """The options of every experiment that runs histories."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    return parser


def every_history(plan: "Plan", options: argparse.Namespace) -> list[dict[str, Any]]:
    """The histories of all seeds by one plan, side by side; finished ones are kept beside the figures."""
    kept = options.json.with_suffix(options.json.suffix + ".seeds")
    kept.mkdir(parents=True, exist_ok=True)
    data = Path(options.data).expanduser()
    one = partial(remembered_history, kept, passes=options.passes, plan=plan, data=data)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, range(options.seeds)))


@dataclass(frozen=True)
class Plan:
    """How a history learns and forgets: strategies, params besides their defaults, a resize after each."""

    learn: str
    forget: str
    name: str = ""
    learn_params: Mapping[str, Any] = field(default_factory=dict)
    forget_params: Mapping[str, Any] = field(default_factory=dict)
    resize: str | None = None

    def operation(self, name: Literal["learn", "forget"]) -> tuple[str, Mapping[str, Any]]:
        return (self.learn, self.learn_params) if name == "learn" else (self.forget, self.forget_params)


def remembered_history(kept: Path, seed: int, *, passes: int, plan: Plan, data: Path) -> dict[str, Any]:
    """The history of a seed, read from `kept` where it is finished already."""
    file = kept / f"{plan.learn}-{plan.forget}{plan.name}-{passes}-{seed}.json"
    if not file.is_file():
        made = json.dumps(history(seed, passes, plan, data))
        unfinished = file.with_suffix(".part")
        unfinished.write_text(made)
        unfinished.rename(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def history(seed: int, passes: int, plan: Plan, data: Path) -> dict[str, Any]:
    """One start and its passes, and the simple model at their end."""
    compute_reproducibly(threads=1)
    mnist, chance = datasets.load("mnist", data), random.Random(seed)
    critic = Critic.of(mnist)
    archive = Archive(mnist, blank({"architecture": "mlp"}, seed=seed))
    first = chance.sample(mnist.labels, chance.randint(1, len(mnist.labels)))
    checkpoint = changed("learn", plan, archive.start, given(mnist, tuple(first)), archive, seed)
    rows: list[dict[str, Any]] = []
    for number in range(1, passes + 1):
        held, missing = sorted(checkpoint.held), sorted(set(mnist.labels) - set(checkpoint.held))
        learns = bool(missing) and (len(held) < 2 or chance.random() < 0.5)
        most = len(missing) if learns else len(held) - 1
        chosen = tuple(sorted(chance.sample(missing if learns else held, chance.randint(1, most))))
        operation: Literal["learn", "forget"] = "learn" if learns else "forget"
        asked = given(mnist, chosen) if learns else Examples(chosen, "mnist")
        began = time.perf_counter()
        checkpoint = changed(operation, plan, checkpoint, asked, archive, 1000 * seed + number)
        seconds = time.perf_counter() - began
        figures = judged(checkpoint, critic, seed=1000 * seed + number)
        rows.append({"pass": number, "operation": operation, "labels": chosen, "seconds": seconds} | figures)
        sys.stderr.write(
            f"seed {seed} pass {number}: {operation} {' '.join(chosen)}, {figures['closed']:.3f}\n"
        )
    everything = given(mnist, tuple(sorted(checkpoint.held)))
    simple = changed("learn", Plan("retrain", ""), archive.start, everything, archive, seed)
    return {"seed": seed, "passes": rows, "simple": judged(simple, critic, seed=seed)}


def changed(
    operation: Literal["learn", "forget"],
    plan: Plan,
    checkpoint: Checkpoint,
    asked: Examples,
    archive: Archive,
    seed: int,
) -> Checkpoint:
    """The checkpoint after the operation, and after the resize that follows it, if one does."""
    name, params = plan.operation(operation)
    chosen, bench = strategy.find(operation, name), Workbench(CPU, seed, archive)
    after = chosen.run(checkpoint, asked, chosen.Params(**params), bench)
    if plan.resize is None:
        return after
    resize = strategy.find("resize", plan.resize)
    return resize.run(after, Examples((), "mnist"), resize.Params(), bench.apart("resize"))


class Shares(NamedTuple):
    """Of one label's draws; each in [0, 1]."""

    closed: float  # the likeliest label is the right one
    open: float  # and the judge does not reject the draw
    coverage: float


@dataclass(frozen=True)
class Critic:
    """The judge, and what the real test images of each label look like to it."""

    judge: Judge
    real: dict[str, Neighbourhoods]

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> "Critic":
        judge = load_judge(dataset.name)
        test = {name: images.float() / 255 for name, images in dataset.test.items()}
        return cls(judge, {name: Neighbourhoods.of(embedded(judge, images)) for name, images in test.items()})


def judged(checkpoint: Checkpoint, critic: Critic, *, seed: int) -> dict[str, Any]:
    """Means over the labels held, the worst label's accuracy, relapse of the forgotten, and the size."""
    shares = {name: shares_of(checkpoint, name, critic, seed) for name in checkpoint.held}
    gone = [shares_of(checkpoint, name, critic, seed).open for name in checkpoint.forgotten]
    return {
        "closed": statistics.mean(one.closed for one in shares.values()),
        "open": statistics.mean(one.open for one in shares.values()),
        "coverage": statistics.mean(one.coverage for one in shares.values()),
        "worst_label": min(one.closed for one in shares.values()),
        "relapse": max(gone, default=None),
        "held": len(shares),
        "parameters": checkpoint.parameters,
        "units": sum(map(sum, checkpoint.widths.values())),
    }


@torch.no_grad()
def shares_of(checkpoint: Checkpoint, label: str, critic: Critic, seed: int) -> Shares:
    """What the critic says of 1,000 draws; the judge's last answer is "none of these"."""
    right = critic.judge.labels.index(label)
    drawn = embedded(critic.judge, draw(checkpoint, label, DRAWS, seed))
    logits = list(critic.judge.network.children())[-1](drawn)
    closed, opened = (answers.argmax(dim=1).eq(right).float().mean() for answers in (logits[:, :-1], logits))
    return Shares(closed.item(), opened.item(), critic.real[label].coverage(drawn))


def summary(histories: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures over every seed, with the spread over seeds of the first."""
    each = [[one["closed"] for one in history["passes"]] for history in histories]
    passes = [one for history in histories for one in history["passes"]]
    means = [statistics.mean(one) for one in each]
    ends = [(one["simple"], one["passes"][-1]) for one in histories]
    gaps = [simple["closed"] - last["closed"] for simple, last in ends]
    relapses = [one["relapse"] for one in passes if one["relapse"] is not None]
    return {
        "seeds": len(histories),
        "passes": len(each[0]),
        "mean_retained": statistics.mean(means),
        "spread_over_seeds": statistics.pstdev(means),
        "worst_pass": min(map(min, each)),
        "open_retained": statistics.mean(one["open"] for one in passes),
        "gap_to_simple": statistics.mean(gaps),
        "open_gap_to_simple": statistics.mean(simple["open"] - last["open"] for simple, last in ends),
        "coverage": statistics.mean(one["coverage"] for one in passes),
        "coverage_ratio": statistics.mean(last["coverage"] / simple["coverage"] for simple, last in ends),
        "first3": statistics.mean(value for one in each for value in one[:3]),
        "last3": statistics.mean(value for one in each for value in one[-3:]),
        "worst_relapse": max(relapses, default=None),
        "seconds_per_pass": statistics.median(one["seconds"] for one in passes),
        "slowest_pass": max(one["seconds"] for one in passes),
    }


if __name__ == "__main__":
    main()
