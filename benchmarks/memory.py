"""The most memory a worker needs for one job: of each strategy, and of an evaluation, on MNIST at full size.

    python -m benchmarks.memory --json -

Each runs in a process of its own that loads the dataset, a model that learned 0-4 and the judge, as
a worker does; `peak_mb` is the largest resident set any of them reached (ru_maxrss). Trainings are cut to a
few steps: a step needs no more memory the hundredth time. Fisher and curvature have all their examples, and
the evaluation all its draws and attacks.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.strategies import FOR_TEMPORARY_LABELS, HELD, NEW, TO_FORGET
from experiments.training_setup import CPU, DatasetArchive, examples_of
from worker.learning import datasets, drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.feature_network import load_feature_network
from worker.learning.judging.full import FullParams, full
from worker.learning.judging.judge import load_judge
from worker.learning.judging.relearning import Relearning
from worker.learning.judging.report import quick
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.training import Schedule
from worker.process.devices import compute_reproducibly

FEW: dict[str, Any] = {"steps": 5}
EVALUATE = ("evaluate", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--one", nargs=2, metavar=("OPERATION", "STRATEGY"), help="this one, in this process")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(f"{peak_of(*options.one, Path(options.data).expanduser())}\n")
        return
    peaks = {" ".join(one): in_its_own_process(one, options.data) for one in jobs()}
    text = json.dumps({"peak_mb": max(peaks.values()), "mb": peaks}, indent=2)
    if options.json == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(options.json).write_text(text + "\n")


def jobs() -> list[tuple[str, str]]:
    """(operation, strategy) of each kind of job."""
    return [*((one.operation, one.name) for one in strategy.all_strategies()), EVALUATE]


def in_its_own_process(one: tuple[str, str], data: str) -> float:
    sys.stderr.write(" ".join(one) + "\n")
    command = [sys.executable, "-m", "benchmarks.memory", "--data", data, "--one", *one]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(operation: str, name: str, data: Path) -> float:
    """Megabytes (of 10^6 bytes) at the most, from the start of this process to the report."""
    compute_reproducibly(threads=1)
    mnist, archive_start = datasets.load("mnist", data), blank({}, seed=0)
    archive = DatasetArchive(mnist, archive_start)
    start = ran("learn", "replay_ewc", archive_start, examples_of(mnist, HELD), archive)
    if (operation, name) == EVALUATE:
        evaluated(ran("forget", "surrogate", start, Examples(TO_FORGET, "mnist"), archive), archive)
        return peak_mb()
    requests = {
        "learn": examples_of(mnist, NEW),
        "forget": Examples(TO_FORGET, "mnist"),
        "resize": Examples((), "mnist"),
    }
    labels = requests[operation]
    if name in FOR_TEMPORARY_LABELS:
        start, labels = (
            ran("learn", "isolated", start, examples_of(mnist, NEW), archive),
            Examples(NEW, "mnist"),
        )
    after = ran(operation, name, start, labels, archive)
    quick(after, load_judge, n=1000, seed=0, draw=drawing.draw)
    return peak_mb()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def evaluated(checkpoint: Checkpoint, archive: DatasetArchive) -> None:
    params = FullParams(reference=Schedule(**FEW), relearning=Relearning(steps=8))
    full(
        checkpoint,
        load_judge,
        load_feature_network,
        TrainingContext(CPU, 0, archive),
        params,
        draw=drawing.draw,
    )


def ran(operation: str, name: str, start: Any, labels: Examples, archive: DatasetArchive) -> Any:
    found = strategy.find(operation, name)
    few = {
        field: FEW for field in ("schedule", "search", "compression") if field in found.Params.model_fields
    }
    return found.run(start, labels, found.Params(**few), TrainingContext(CPU, 0, archive))


if __name__ == "__main__":
    main()
