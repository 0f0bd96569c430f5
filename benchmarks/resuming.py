"""Measure how much work a killed job loses, at default sizes on MNIST.

    python -m benchmarks.resuming --json -

A snapshot can be saved at the steps of a loop and where a stage ends. A job that is killed loses the seconds
since its last snapshot, and what lies between the stages is computed again. For every strategy, and for an
evaluation, with one thread:

`gap`       the longest time between two moments at which a snapshot could be saved.
`again`     the time of an attempt that resumes from the last snapshot: all that is computed again.
`lost`      the most that a kill can cost: the interval between snapshots, plus `gap`, plus `again`.
`megabytes` the largest snapshot, and `save`, the longest time to write one, in memory.

Seconds are those of the processor, so that other programs do not count. Trainings have few steps, on which
none of these figures depends.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.datasets import Dataset
from worker.learning.drawing import draw
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.feature_network import load_feature_network
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.judge import load_judge
from worker.learning.networks import ARCHITECTURES, blank
from worker.learning.strategy import Examples, Strategy, TrainingContext, all_strategies, find
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly

CPU = torch.device("cpu")
INTERVAL = 5.0
"""Seconds between two snapshots of a job."""
LEARNT, TEMPORARY, NEW, TO_FORGET = tuple("012345678"), ("9",), ("9",), ("3",)
FEW: dict[str, Any] = {
    "schedule": {"steps": 20},
    "search": {"steps": 40},
    "compression": {"steps": 20},
    "naive_steps": 20,
    "probe_steps": 20,
    "fisher_examples": 1024,
}


class MeasuredSnapshots:
    """Snapshots in memory: the times at which one could be saved, and the last one of all."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data, self.largest, self.gap, self.save_seconds = data, 0, 0.0, 0.0
        self._before = self._called_at = time.process_time()
        self._calls = 0

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.save_seconds = max(self.save_seconds, time.process_time() - self._called_at)
        self.data, self.largest = data, max(self.largest, len(data))
        self._before = time.process_time()

    def is_due(self) -> bool:
        self._called_at = time.process_time()
        self.gap = max(self.gap, self._called_at - self._before)
        self._before = self._called_at
        self._calls += 1
        return self._calls % 5 == 0


class MnistArchive:
    """The archive of a model that learnt labels of MNIST; its first version is blank."""

    def __init__(self, dataset: Dataset, first: Checkpoint) -> None:
        self._dataset, self._first = dataset, first

    def images(self, label: Label) -> torch.Tensor:
        return self._dataset.train[label.source]

    def held_out(self, label: Label) -> torch.Tensor:
        return self._dataset.test[label.source]

    def newest_without(self, names: object) -> Checkpoint:
        return self._first

    def widths_without(self, names: object) -> dict[str, list[int]]:
        return self._first.widths


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", default="", help="part of the names of what is measured; all by default")
    add_data_option(parser)
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    dataset = datasets.load("mnist", data_folder(options))
    figures = {}
    for name, run in computations(dataset):
        if options.only in name:
            figures[name] = measure(run)
    worst = max(figures, key=lambda name: figures[name]["lost"])
    write_figures({"worst": worst, "lost": figures[worst]["lost"], "computations": figures}, options.json)


def computations(dataset: Dataset) -> Iterator[tuple[str, Callable[[MeasuredSnapshots], object]]]:
    """Yield every computation by name, as a function of its snapshots."""
    for architecture in ARCHITECTURES:
        first = blank({"architecture": architecture}, seed=0)
        archive = MnistArchive(dataset, first)
        start = learn(first, "replay_ewc", LEARNT, dataset, archive)
        with_temporary = learn(start, "isolated", TEMPORARY, dataset, archive)
        for strategy in all_strategies():
            base = with_temporary if strategy.name in ("merge", "drop") else start
            run = partial(apply, strategy, base, dataset, archive)
            yield f"{architecture} {strategy.operation} {strategy.name}", run
        yield f"{architecture} evaluate", partial(evaluate, start, archive)


def learn(
    start: Checkpoint, name: str, labels: tuple[str, ...], dataset: Dataset, archive: MnistArchive
) -> Checkpoint:
    """Learn the labels in few steps."""
    strategy = find("learn", name)
    images = {label: dataset.train[label] for label in labels}
    params = few(strategy, steps=60)
    context = TrainingContext(CPU, 0, archive)
    return strategy.run(start, Examples(labels, "mnist", images), params, context)


def few(strategy: Strategy, steps: int = 20) -> Any:
    """The strategy's params, with default sizes and few steps."""
    sent = FEW | {"schedule": {"steps": steps}}
    known = strategy.Params.model_fields
    return strategy.Params.model_validate({name: value for name, value in sent.items() if name in known})


def apply(
    strategy: Strategy,
    base: Checkpoint,
    dataset: Dataset,
    archive: MnistArchive,
    snapshots: MeasuredSnapshots,
) -> Checkpoint:
    """Apply the strategy to the checkpoint, with these snapshots."""
    labels = {"learn": NEW, "forget": TO_FORGET, "resize": ()}[strategy.operation]
    labels = TEMPORARY if strategy.name in ("merge", "drop") else labels
    images = {label: dataset.train[label] for label in labels} if strategy.needs_examples else {}
    context = TrainingContext(CPU, 0, archive, snapshots=snapshots)
    return apply_strategy(base, strategy, Examples(labels, "mnist", images), few(strategy), context)


def evaluate(start: Checkpoint, archive: MnistArchive, snapshots: MeasuredSnapshots) -> object:
    """Measure the full report on a checkpoint that forgot a label in name only."""
    params = FullParams.model_validate({"reference": {"steps": 60}, "relearning": {"steps": 16}})
    return measure_full_report(
        start.with_status(TO_FORGET, "forgotten"),
        load_judge,
        load_feature_network,
        TrainingContext(CPU, 0, archive, snapshots=snapshots),
        params,
        draw=draw,
    )


def measure(run: Callable[[MeasuredSnapshots], object]) -> dict[str, float]:
    """Run a computation from its start, and again from its last snapshot."""
    whole = MeasuredSnapshots()
    run(whole)
    resumed, began = MeasuredSnapshots(whole.data), time.process_time()
    run(resumed)
    again = time.process_time() - began
    return {
        "gap": round(whole.gap, 2),
        "again": round(again, 2),
        "lost": round(INTERVAL + whole.gap + again, 2),
        "megabytes": round(whole.largest / 1e6, 1),
        "save": round(whole.save_seconds, 3),
    }


if __name__ == "__main__":
    main()
