"""Run one job with the packages on the path; write what it cost, its checkpoint and images drawn from it.

`benchmarks.costs` runs this file as a script with the packages of two commits, one of which is older than it.
So it imports nothing of `benchmarks`, and uses only what every commit since 0ee42f1 has.
"""

import json
import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from experiments.training_setup import DatasetArchive, examples_of
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.judging.classifiers import load_committed
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.feature_network import FEATURE_NETWORK
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.judge import JUDGE
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext, all_strategies
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly

COST, CHECKPOINT, DRAWS = "cpu_seconds.json", "checkpoint.safetensors", "draws.safetensors"
"""The files that a job leaves in its folder; an evaluation leaves the first alone."""


@dataclass(frozen=True)
class OneJob:
    """A job, and where its files are.

    operation: `learn`, `forget` or `evaluate`, by the default strategy. labels: to learn or to forget. base:
    file of the checkpoint that it starts from; None for a blank network. precision: of matrix products, a
    name in torch. dataset: its name. data: folder of the datasets. folder: for its results. draws: images
    drawn of each label. network: of a blank network. params: those that differ from the defaults.
    """

    operation: str
    labels: tuple[str, ...]
    base: str | None
    seed: int
    precision: str
    dataset: str
    data: str
    folder: str
    draws: int
    network: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


def main() -> None:
    """Run the job that the argument describes, with one thread."""
    sent = json.loads(sys.argv[1])
    job = OneJob(**{**sent, "labels": tuple(sent["labels"])})
    compute_reproducibly(threads=1)
    run_job(job, datasets.load(job.dataset, Path(job.data)))


def run_job(job: OneJob, dataset: datasets.Dataset) -> None:
    """Run the job and write its files. Reading and drawing images is no part of its cost."""
    start = blank(job.network, seed=job.seed, pixels=math.prod(dataset.image_shape))
    base = start if job.base is None else Checkpoint.from_bytes(Path(job.base).read_bytes())
    archive, precision = DatasetArchive(dataset, start), getattr(torch, job.precision)
    context = TrainingContext(torch.device("cpu"), job.seed, archive, precision=precision)
    folder = Path(job.folder)
    began = cpu_seconds()
    if job.operation == "evaluate":
        evaluate(base, job, context)
        cost = cpu_seconds() - began
    else:
        made = change(base, job, dataset, context)
        cost = cpu_seconds() - began
        (folder / CHECKPOINT).write_bytes(made.to_bytes())
        save_file(
            {label.name: draw(made, label.name, job.draws, job.seed) for label in made.labels}, folder / DRAWS
        )
    (folder / COST).write_text(json.dumps(cost))


def change(base: Checkpoint, job: OneJob, dataset: datasets.Dataset, context: TrainingContext) -> Checkpoint:
    """Learn or forget the labels of the job by the default strategy."""
    (chosen,) = (
        one
        for one in all_strategies()
        if one.default and (one.operation, one.retention) == (job.operation, "permanent")
    )
    learns = chosen.operation == "learn"
    examples = examples_of(dataset, job.labels) if learns else Examples(job.labels, dataset.name)
    return apply_strategy(base, chosen, examples, chosen.Params.model_validate(job.params), context)


def evaluate(base: Checkpoint, job: OneJob, context: TrainingContext) -> None:
    """Measure the full report, with the committed classifiers."""
    measure_full_report(
        base,
        lambda name: load_committed(JUDGE, name),
        lambda name: load_committed(FEATURE_NETWORK, name),
        context,
        FullParams.model_validate(job.params),
        draw=draw,
    )


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
