"""The paper's experiment (section 5): random learning and forgetting, ten passes long.

    python -m experiments.random_passes --seeds 10 --passes 10 --json FILE

A model starts from a random set of MNIST's labels. Each pass is a coin flip: learn a random non-empty subset
of what is missing, or forget a random proper subset of what is held. After every pass 1,000 draws of every
label ever learned are judged. `closed` takes the label the judge finds likeliest, as the paper's classifier
does; `open` counts a rejected draw as wrong; `relapse` is the share of a forgotten label's draws that are, by
the open-set judge, still its own, of the worst label. `simple` is a fresh network trained on real images of
the labels held after the last pass.

A seed that is finished is kept in FILE.seeds/ and not run again; seeds run side by side in --processes.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from experiments.strategies import CPU, Archive, given
from worker.devices import compute_reproducibly
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.judging.judge import Judge, load_judge
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Workbench

DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--learn", default="replay_ewc", help="learn strategy, with its default params")
    parser.add_argument("--forget", default="surrogate", help="forget strategy, with its default params")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    options = parser.parse_args()
    kept = options.json.with_suffix(options.json.suffix + ".seeds")
    kept.mkdir(parents=True, exist_ok=True)
    one = partial(
        remembered_history,
        kept,
        passes=options.passes,
        names=(options.learn, options.forget),
        data=Path(options.data).expanduser(),
    )
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        histories = list(pool.map(one, range(options.seeds)))
    figures = summary(histories) | {"learn": options.learn, "forget": options.forget}
    options.json.write_text(json.dumps(figures | {"histories": histories}, indent=2) + "\n")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def remembered_history(
    kept: Path, seed: int, *, passes: int, names: tuple[str, str], data: Path
) -> dict[str, Any]:
    """The history of a seed, read from `kept` where it is finished already."""
    file = kept / f"{names[0]}-{names[1]}-{passes}-{seed}.json"
    if not file.is_file():
        made = json.dumps(history(seed, passes, names, data))
        unfinished = file.with_suffix(".part")
        unfinished.write_text(made)
        unfinished.rename(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def history(seed: int, passes: int, names: tuple[str, str], data: Path) -> dict[str, Any]:
    """One start and its passes, and the simple model at their end."""
    compute_reproducibly(threads=1)
    mnist, judge, chance = datasets.load("mnist", data), load_judge("mnist"), random.Random(seed)
    archive = Archive(mnist, blank({"architecture": "mlp"}, seed=seed))
    first = chance.sample(mnist.labels, chance.randint(1, len(mnist.labels)))
    checkpoint = changed("learn", names[0], archive.start, given(mnist, tuple(first)), archive, seed)
    rows: list[dict[str, Any]] = []
    for number in range(1, passes + 1):
        held, missing = sorted(checkpoint.held), sorted(set(mnist.labels) - set(checkpoint.held))
        learns = bool(missing) and (len(held) < 2 or chance.random() < 0.5)
        most = len(missing) if learns else len(held) - 1
        chosen = tuple(sorted(chance.sample(missing if learns else held, chance.randint(1, most))))
        operation, name = ("learn", names[0]) if learns else ("forget", names[1])
        asked = given(mnist, chosen) if learns else Examples(chosen, "mnist")
        began = time.perf_counter()
        checkpoint = changed(operation, name, checkpoint, asked, archive, 1000 * seed + number)
        seconds = time.perf_counter() - began
        figures = judged(checkpoint, judge, seed=1000 * seed + number)
        rows.append({"pass": number, "operation": operation, "labels": chosen, "seconds": seconds} | figures)
        sys.stderr.write(
            f"seed {seed} pass {number}: {operation} {' '.join(chosen)}, {figures['closed']:.3f}\n"
        )
    everything = given(mnist, tuple(sorted(checkpoint.held)))
    simple = changed("learn", "retrain", archive.start, everything, archive, seed)
    return {"seed": seed, "passes": rows, "simple": judged(simple, judge, seed=seed)}


def changed(
    operation: str, name: str, checkpoint: Checkpoint, asked: Examples, archive: Archive, seed: int
) -> Checkpoint:
    chosen = strategy.find(operation, name)
    return chosen.run(checkpoint, asked, chosen.Params(), Workbench(CPU, seed, archive))


def judged(checkpoint: Checkpoint, judge: Judge, *, seed: int) -> dict[str, Any]:
    """Mean accuracies over the labels held, the worst label's, relapse of the forgotten, and the size."""
    shares = {name: accuracies(checkpoint, name, judge, seed) for name in checkpoint.held}
    gone = [accuracies(checkpoint, name, judge, seed)[1] for name in checkpoint.forgotten]
    return {
        "closed": statistics.mean(closed for closed, _ in shares.values()),
        "open": statistics.mean(opened for _, opened in shares.values()),
        "worst_label": min(closed for closed, _ in shares.values()),
        "relapse": max(gone, default=None),
        "held": len(shares),
        "parameters": checkpoint.parameters,
    }


@torch.no_grad()
def accuracies(checkpoint: Checkpoint, label: str, judge: Judge, seed: int) -> tuple[float, float]:
    """Closed-set and open-set accuracy of one label's draws; the judge's last answer is "none of these"."""
    right = judge.labels.index(label)
    logits = judge.network(draw(checkpoint, label, DRAWS, seed))
    closed, opened = (answers.argmax(dim=1).eq(right).float().mean() for answers in (logits[:, :-1], logits))
    return closed.item(), opened.item()


def summary(histories: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures over every seed, with the spread over seeds of the first."""
    each = [[one["closed"] for one in history["passes"]] for history in histories]
    passes = [one for history in histories for one in history["passes"]]
    means = [statistics.mean(one) for one in each]
    gaps = [one["simple"]["closed"] - one["passes"][-1]["closed"] for one in histories]
    relapses = [one["relapse"] for one in passes if one["relapse"] is not None]
    return {
        "seeds": len(histories),
        "passes": len(each[0]),
        "mean_retained": statistics.mean(means),
        "spread_over_seeds": statistics.pstdev(means),
        "worst_pass": min(map(min, each)),
        "open_retained": statistics.mean(one["open"] for one in passes),
        "gap_to_simple": statistics.mean(gaps),
        "first3": statistics.mean(value for one in each for value in one[:3]),
        "last3": statistics.mean(value for one in each for value in one[-3:]),
        "worst_relapse": max(relapses, default=None),
        "seconds_per_pass": statistics.median(one["seconds"] for one in passes),
        "slowest_pass": max(one["seconds"] for one in passes),
    }


if __name__ == "__main__":
    main()
