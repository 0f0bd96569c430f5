"""Compare the hypernetwork of UnCLe with the default through the same jobs: retention, forgetting, relapse.

    python -m experiments.hypernetworks [--seeds 3] [--plans default hypernetwork ...] [--json FILE] [--quick]

A model learns 0-4, then 5-7, and forgets 2, then 7. Five more jobs follow, none of which learns 2 or 7 again
(docs/decisions/0162). After every job all labels are scored on 1,000 draws: `open` and `coverage` are means
over the labels held, `forgotten` is the share of a forgotten label's draws that the judge takes for it, and
`restored` the same share if the embeddings and the prior that a label had before it was forgotten are put
back into its slot (null if they do not fit any more, because the job removed units). `drift` is how much the
accuracy of the labels of the first job that are still held has changed since that job.

The plans: `default` is `mlp` with `replay_ewc` and `surrogate`; `hypernetwork` is `hyper` with `hypernetwork`
and `noise_alignment`; `hyper_default` is `hyper` with the strategies of the default, and `hyper_replay` is
`hyper` with `replay_ewc` and `noise_alignment`.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from experiments import running
from experiments.running import OnStep, Result, Trial
from experiments.scoring import Scorer, score_checkpoint
from experiments.training_setup import CPU, QUICK_DIVISOR, DatasetArchive, examples_of, params_of
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.networks.network import PRIORS
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.transition import apply_strategy
from worker.process.devices import compute_reproducibly


class Plan(NamedTuple):
    architecture: str
    learn: str
    forget: str


class Job(NamedTuple):
    operation: Literal["learn", "forget"]
    labels: tuple[str, ...]


PLANS = {
    "default": Plan("mlp", "replay_ewc", "surrogate"),
    "hypernetwork": Plan("hyper", "hypernetwork", "noise_alignment"),
    "hyper_default": Plan("hyper", "replay_ewc", "surrogate"),
    "hyper_replay": Plan("hyper", "replay_ewc", "noise_alignment"),
}
FIRST = tuple("01234")
JOBS = (
    Job("learn", FIRST),
    Job("learn", tuple("567")),
    Job("forget", ("2",)),
    Job("forget", ("7",)),
    Job("learn", ("8",)),
    Job("forget", ("0",)),
    Job("learn", ("9",)),
    Job("learn", ("0",)),
    Job("forget", ("5",)),
)


def main() -> None:
    parser = running.make_parser(__doc__, plots=False)
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=["default", "hypernetwork"])
    options = running.parse_options(parser, {"seeds": 3}, {"seeds": 1})
    data, divisor = running.data_folder(options), QUICK_DIVISOR if options.quick else 1
    trials = [
        Trial(f"{name}-{divisor}-{seed}", len(JOBS), partial(run, PLANS[name], seed, divisor, data))
        for seed in range(options.seeds)
        for name in options.plans
    ]
    results = running.run_all(trials, options)
    of_plan = {name: results[place :: len(options.plans)] for place, name in enumerate(options.plans)}
    figures = {name: summarize([one["jobs"] for one in found]) for name, found in of_plan.items()}
    running.write_results("hypernetworks", {"plans": figures}, {"trials": of_plan}, options, trials=results)


def run(plan: Plan, seed: int, divisor: int, data: Path, on_step: OnStep) -> Result:
    """Run all jobs of a plan; return the scores and the seconds of CPU after each."""
    compute_reproducibly(threads=1)
    mnist = datasets.load("mnist", data)
    scorer, archive = (
        Scorer.of(mnist),
        DatasetArchive(mnist, blank({"architecture": plan.architecture}, seed=seed)),
    )
    checkpoint, rows = archive.blank_model, list[Result]()
    before: dict[str, Checkpoint] = {}
    for number, job in enumerate(JOBS):
        chosen = strategy.find(job.operation, plan.learn if job.operation == "learn" else plan.forget)
        request = (
            examples_of(mnist, job.labels) if chosen.needs_examples else Examples(job.labels, mnist.name)
        )
        before |= {name: checkpoint for name in job.labels if job.operation == "forget"}
        began, context = time.process_time(), TrainingContext(CPU, 100 * seed + number, archive)
        params = params_of(chosen, {}, step_divisor=divisor)
        checkpoint = apply_strategy(checkpoint, chosen, request, params, context)
        seconds = time.process_time() - began
        first = [scorer.scores(checkpoint, name, seed).open for name in FIRST if name in checkpoint.retained]
        restored = {name: restore(checkpoint, before[name], name) for name in checkpoint.forgotten}
        row: Result = {"operation": job.operation, "labels": job.labels, "seconds": seconds, "first": first}
        row["restored"] = {
            name: one and scorer.scores(one, name, seed).open for name, one in restored.items()
        }
        row["parameters"] = checkpoint.parameters
        rows.append(row | score_checkpoint(checkpoint, scorer, seed=seed))
        on_step(f"{plan.learn}, seed {seed}: {job.operation} {' '.join(job.labels)}")
    return {"seed": seed, "jobs": rows}


def restore(checkpoint: Checkpoint, before: Checkpoint, label: str) -> Checkpoint | None:
    """Put what the label's slot held before into it again: its embeddings and its prior."""
    slot, weights = checkpoint.label(label).slot, dict(checkpoint.weights)
    for name, tensor in weights.items():
        if name.endswith(".label") or name in PRIORS:
            old = before.weights[name][slot]
            if old.shape != tensor[slot].shape:
                return None
            weights[name] = tensor.clone()
            weights[name][slot] = old
    return replace(checkpoint, weights=weights)


def summarize(histories: Sequence[Sequence[Result]]) -> list[Result]:
    """Return for each job the means over the histories of its figures; the worst of `forgotten`."""
    return [_summary(rows, histories) for rows in zip(*histories, strict=True)]


def _summary(rows: Sequence[Result], histories: Sequence[Sequence[Result]]) -> Result:
    restored = [one for row in rows for one in row["restored"].values() if one is not None]
    forgotten = [one for row in rows for one in row["forgotten_by_label"].values()]
    start = statistics.mean(statistics.mean(rows_of[0]["first"]) for rows_of in histories)
    return {
        "job": f"{rows[0]['operation']} {' '.join(rows[0]['labels'])}",
        **{name: statistics.mean(row[name] for row in rows) for name in ("open", "coverage", "seconds")},
        "least_open": min(row["open"] for row in rows),
        "drift": statistics.mean(statistics.mean(row["first"]) for row in rows) - start,
        "forgotten": statistics.mean(forgotten) if forgotten else None,
        "most_forgotten": max(forgotten, default=None),
        "restored": statistics.mean(restored) if restored else None,
        "parameters": statistics.mean(row["parameters"] for row in rows),
    }


if __name__ == "__main__":
    main()
