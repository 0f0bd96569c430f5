"""Measure the peak memory of a worker in a job: of each strategy and of an evaluation, on MNIST at full size.

    python -m benchmarks.memory --json -

Each job runs in its own process, which loads the dataset, a model that learned 0-4, and the judge, as a
worker does. `peak_mb` is the largest resident set of any of them (ru_maxrss). Trainings take only a few
steps, because later steps need no more memory than the first. The Fisher information and the curvature are
over all their examples, and the evaluation makes all its draws and attacks.
"""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from experiments.strategies import FOR_TEMPORARY_LABELS, HELD, NEW, TO_FORGET
from experiments.training_setup import CPU, DatasetArchive, examples_of
from worker.learning import datasets, drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.feature_network import load_feature_network
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.judge import load_judge
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.judging.relearning import Relearning
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.training import Schedule
from worker.process.devices import compute_reproducibly

FEW_STEPS: dict[str, Any] = {"steps": 5}
EVALUATE = ("evaluate", "full")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--one", nargs=2, metavar=("OPERATION", "STRATEGY"), help="run this job alone, in this process"
    )
    add_data_option(parser)
    options = parser.parse_args()
    if options.one:
        operation, name = options.one
        sys.stdout.write(f"{run_and_measure(operation, name, data_folder(options))}\n")
        return
    peaks = {" ".join(job): measure_in_process(job, options.data) for job in jobs()}
    write_figures({"peak_mb": max(peaks.values()), "mb": peaks}, options.json)


def jobs() -> list[tuple[str, str]]:
    """Return (operation, strategy) of each kind of job."""
    return [*((one.operation, one.name) for one in strategy.all_strategies()), EVALUATE]


def measure_in_process(job: tuple[str, str], data: str) -> float:
    """Run the job in a new process; return its peak memory in megabytes."""
    sys.stderr.write(" ".join(job) + "\n")
    command = [sys.executable, "-m", "benchmarks.memory", "--data", data, "--one", *job]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_and_measure(operation: str, name: str, data: Path) -> float:
    """Run the job in this process; return the peak memory since its start, in megabytes (10^6 bytes)."""
    compute_reproducibly(threads=1)
    mnist, empty = datasets.load("mnist", data), blank({}, seed=0)
    archive = DatasetArchive(mnist, empty)
    start = run("learn", "replay_ewc", empty, examples_of(mnist, HELD), archive)
    if (operation, name) == EVALUATE:
        evaluate(run("forget", "surrogate", start, Examples(TO_FORGET, "mnist"), archive), archive)
        return peak_megabytes()
    requests = {
        "learn": examples_of(mnist, NEW),
        "forget": Examples(TO_FORGET, "mnist"),
        "resize": Examples((), "mnist"),
    }
    request = requests[operation]
    if name in FOR_TEMPORARY_LABELS:
        start = run("learn", "isolated", start, examples_of(mnist, NEW), archive)
        request = Examples(NEW, "mnist")
    after = run(operation, name, start, request, archive)
    measure_quick_report(after, load_judge, n=1000, seed=0, draw=drawing.draw)
    return peak_megabytes()


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def evaluate(checkpoint: Checkpoint, archive: DatasetArchive) -> None:
    params = FullParams(reference=Schedule(**FEW_STEPS), relearning=Relearning(steps=8))
    context = TrainingContext(CPU, 0, archive)
    measure_full_report(checkpoint, load_judge, load_feature_network, context, params, draw=drawing.draw)


def run(
    operation: str, name: str, start: Checkpoint, request: Examples, archive: DatasetArchive
) -> Checkpoint:
    """Run a strategy with few training steps."""
    chosen = strategy.find(operation, name)
    trainings = ("schedule", "search", "compression")
    few = {field: FEW_STEPS for field in trainings if field in chosen.Params.model_fields}
    return chosen.run(start, request, chosen.Params(**few), TrainingContext(CPU, 0, archive))


if __name__ == "__main__":
    main()
