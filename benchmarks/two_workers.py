"""Measure how much faster two workers are than one.

    python -m benchmarks.two_workers --json -

`waiting`  jobs that wait a second at a failpoint and compute little: what the protocol of workers costs.
`real`     jobs that learn two labels of MNIST, with one thread each. Two cores share caches and memory.

`speedup` is the time from the first start to the last end of a batch of jobs with one worker, divided by that
with two: the median of the rounds, in which one and two workers take turns.
"""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.fleet import running_fleet
from benchmarks.jobs import NETWORK
from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from palimpsest import Job, Palimpsest
from service import failpoints

WAITING, REAL = 12, 6
"""How many jobs a batch has."""
STEPS = 300


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    add_data_option(parser)
    options = parser.parse_args()
    data = data_folder(options)
    seconds: dict[str, dict[int, list[float]]] = {"waiting": {1: [], 2: []}, "real": {1: [], 2: []}}
    for _ in range(options.rounds):
        for workers in (1, 2):
            seconds["waiting"][workers].append(time_waiting(workers))
            seconds["real"][workers].append(time_real(workers, data))
    write_figures({kind: describe(found) for kind, found in seconds.items()}, options.json)


def time_waiting(workers: int) -> float:
    """Return the seconds of a batch of jobs that wait."""
    variables = {failpoints.VARIABLE: "claim.after_commit:wait"}
    with running_fleet(workers, variables=variables) as client:
        return run_batch(client, WAITING, "digits", {"steps": 1}, network=NETWORK)


def time_real(workers: int, data: Path) -> float:
    """Return the seconds of a batch of jobs that learn."""
    with running_fleet(workers, data=data) as client:
        run_batch(client, workers, "mnist", {"steps": 1}, name="warm")  # each loads the judge once
        return run_batch(client, REAL, "mnist", {"steps": STEPS})


def run_batch(
    client: Palimpsest,
    count: int,
    dataset: str,
    schedule: dict[str, Any],
    *,
    network: dict[str, Any] | None = None,
    name: str = "m",
) -> float:
    """Learn two labels with each of so many new models; return the seconds from first start to last end."""
    submitted: list[Job] = []
    for number in range(count):
        client.models.create(f"{name}{number}", dataset=dataset, network=network)
    for number in range(count):
        params = {"schedule": schedule, "fisher_examples": 500}
        submitted.append(client.models.learn(f"{name}{number}", ["0", "1"], params=params))
    jobs = [client.jobs.wait(job) for job in submitted]
    starts = [job.started_at for job in jobs if job.started_at is not None]
    ends = [job.finished_at for job in jobs if job.finished_at is not None and job.succeeded]
    assert len(starts) == len(ends) == count, [job.error for job in jobs]
    return (max(ends) - min(starts)).total_seconds()


def describe(found: dict[int, list[float]]) -> dict[str, Any]:
    """Return the seconds of all rounds, and the median speedup of a round."""
    ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
    return {
        "speedup": round(statistics.median(ratios), 2),
        "speedups": [round(ratio, 2) for ratio in ratios],
        "seconds": {str(workers): [round(one, 2) for one in times] for workers, times in found.items()},
    }


if __name__ == "__main__":
    main()
