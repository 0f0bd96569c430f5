"""Simulate a fleet with a thousand models and ten thousand requests a day, with measured durations of jobs.

    python -m benchmarks.scale --json docs/results/scale.json --page docs/scale.md
    python -m benchmarks.scale --page docs/scale.md --from docs/results/scale.json     only write the page
    python -m benchmarks.scale --check --from FILE --json FILE     renew `check`, and keep the other figures

`service_seconds`  how long one worker is busy with a learn, a forget, a resize and a full evaluation of MNIST
                   with default params, one after another on a service of its own.
`workers`          for 1, 2, ... workers: how long requests wait on the simulated day, and how busy workers
                   are.
`loads`            the same for more requests, with as many workers as the day needs.
`breaks_first`     at which multiple of the load each part reaches its limit: the workers, the most popular
                   model, whose changes run one after another, and the commits of an SQLite file.
`check`            a real run with two workers and short jobs beside its simulation. `predicted` takes
                   durations that were measured before the run, `replayed` those of the run itself.

A run takes some twelve minutes and needs both cores.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet import running_fleet
from benchmarks.fleet_simulation import (
    DAY_SECONDS,
    Load,
    Request,
    Run,
    make_requests,
    quantile,
    simulate,
    weights_of,
)
from benchmarks.jobs import NETWORK, commits_per_second
from benchmarks.output import make_parser, write_figures
from benchmarks.scale_page import make_page
from experiments.running import add_data_option, data_folder
from palimpsest import Job, Palimpsest
from palimpsest.local_server import local_server
from service.registry.tables import Operation
from worker.jobs.heartbeat import LONGEST_INTERVAL_SECONDS

LOAD = Load(
    models=1000,
    projects=50,
    requests_a_day=10_000,
    mix={"learn": 0.5, "forget": 0.35, "resize": 0.05, "evaluate": 0.1},
    swing=0.8,
    popularity=1.0,
)
TARGETS = (10, 60, 300)
"""Seconds that 95 of 100 requests wait at most."""
MOST_WORKERS = 24
FACTORS = (1, 1.5, 2, 3, 4)
SEED = 7
REPEATS = 3
"""How many jobs of each operation are timed; of evaluations, one."""
COMMITS_OF_A_JOB = 6
"""Of a job without its heartbeats: submit, claim, verifying, publication, receipt and audit log."""

CHECKED_MODELS, CHECKED_REQUESTS, CHECKED_WORKERS, CHECKED_BUSY = 12, 120, 2, 0.7
CHECKED_MIX: dict[Operation, float] = {"learn": 0.6, "forget": 0.4}
CHECKED_BEFORE = 60
"""Requests before the real run, whose durations are the prediction."""
CHECKED_ALIKE = 5
"""From how many of them the duration of a request is chosen."""
STEPS = 250
"""Of the jobs of the real run: about a second each."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--page", type=Path, help="the page to write")
    parser.add_argument("--from", dest="stored", type=Path, help="measure nothing: take these figures")
    parser.add_argument("--check", action="store_true", help="with --from: measure `check` again")
    add_data_option(parser)
    options = parser.parse_args()
    figures = json.loads(options.stored.read_text()) if options.stored else measure(options)
    if options.check:
        figures["check"] = check_simulation()
    if options.check or not options.stored:
        write_figures(figures, options.json)
    if options.page:
        options.page.write_text(make_page(figures))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure durations, simulate the day, and compare a real run with its simulation."""
    seconds, dispatch = measure_service(data_folder(options))
    check = check_simulation()
    with tempfile.TemporaryDirectory() as folder:
        commits = commits_per_second(Path(folder), 3.0)
    return {
        "load": {
            "models": LOAD.models,
            "projects": LOAD.projects,
            "requests_a_day": LOAD.requests_a_day,
            "mix": LOAD.mix,
            "swing": LOAD.swing,
            "popularity": LOAD.popularity,
        },
        "service_seconds": {name: [round(one, 2) for one in times] for name, times in seconds.items()},
        "dispatch_seconds": round(dispatch, 3),
        **simulate_day(seconds, dispatch, commits),
        "check": check,
    }


def measure_service(data: Path) -> tuple[dict[Operation, list[float]], float]:
    """Return {operation: durations of its jobs} and the median seconds from a request to its job's start."""
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory() as folder, local_server(Path(folder), data=data) as url:
        client = Palimpsest(url)

        def run(job: Job) -> None:
            jobs.append(client.jobs.wait(job, timeout=600))
            assert jobs[-1].succeeded, jobs[-1].error

        for number in range(REPEATS):
            name = f"m{number}"
            client.models.create(name, dataset="mnist", seed=number)
            run(client.models.learn(name, ["0", "1", "2", "3", "4"]))
            run(client.models.learn(name, [str(5 + number)]))
            run(client.models.forget(name, ["3"]))
            run(client.models.resize(name, policy="prune"))
        run(client.models.evaluate("m0"))
    seconds: dict[Operation, list[float]] = {}
    for job in jobs:
        assert job.seconds is not None
        seconds.setdefault(job.operation, []).append(job.seconds)  # type: ignore[arg-type]
    waits = [(job.started_at - job.created_at).total_seconds() for job in jobs[1:] if job.started_at]
    return seconds, statistics.median(waits)


def simulate_day(
    seconds: Mapping[Operation, Sequence[float]], dispatch: float, commits: float
) -> dict[str, Any]:
    """Simulate the day with different numbers of workers, and larger loads with as many as it needs."""
    requests = make_requests(LOAD, seconds, days=1, seed=SEED)
    by_workers = []
    for workers in range(1, MOST_WORKERS + 1):
        found = describe(simulate(requests, workers, dispatch_seconds=dispatch), workers)
        by_workers.append(found)
        if found["wait_seconds"]["p95"] <= TARGETS[0]:
            break
    needed = {
        str(target): next(
            (one["workers"] for one in by_workers if one["wait_seconds"]["p95"] <= target), None
        )
        for target in TARGETS
    }
    workers = needed[str(TARGETS[1])] or MOST_WORKERS
    loads = []
    for factor in FACTORS:
        more = make_requests(LOAD.times(factor), seconds, days=1, seed=SEED)
        loads.append(
            {"times": factor, **describe(simulate(more, workers, dispatch_seconds=dispatch), workers)}
        )
    return {
        "workers": by_workers,
        "workers_for_p95_wait": needed,
        "loads": loads,
        "breaks_first": find_limits(seconds, workers, commits),
    }


def describe(runs: Sequence[Run], workers: int) -> dict[str, Any]:
    """Return how long the requests waited, and how busy the workers were."""
    waits = [run.wait for run in runs]
    busy = sum(run.ended - run.started for run in runs)
    whole = max(DAY_SECONDS, max(run.ended for run in runs))
    return {
        "workers": workers,
        "requests": len(runs),
        "wait_seconds": {f"p{share}": round(quantile(waits, share / 100), 2) for share in (50, 95, 99)},
        "longest_wait_seconds": round(max(waits), 1),
        "busy_share": round(busy / (workers * whole), 3),
    }


def find_limits(
    seconds: Mapping[Operation, Sequence[float]], workers: int, commits: float
) -> dict[str, dict[str, float]]:
    """Return for each part how busy it is at the busiest hour, and the multiple of the load that fills it."""
    mean = {operation: statistics.mean(seconds[operation]) for operation in LOAD.mix}
    rate = LOAD.requests_a_day * (1 + LOAD.swing) / DAY_SECONDS
    of_a_request = sum(share * mean[operation] for operation, share in LOAD.mix.items())
    of_changes = sum(
        share * mean[operation] for operation, share in LOAD.mix.items() if operation != "evaluate"
    )
    parts = {
        f"{workers} workers": rate * of_a_request / workers,
        "the changes of the most popular model": rate * LOAD.share_of_hottest() * of_changes,
        "the commits of an SQLite file": rate
        * (COMMITS_OF_A_JOB + of_a_request / LONGEST_INTERVAL_SECONDS)
        / commits,
    }
    return {
        name: {"busy_share": round(share, 4), "breaks_at_times": round(1 / share, 1)}
        for name, share in sorted(parts.items(), key=lambda part: -part[1])
    }


def check_simulation() -> dict[str, Any]:
    """Run a small load on real workers, and simulate the same."""
    with running_fleet(CHECKED_WORKERS) as client:
        for number in range(CHECKED_MODELS):
            client.models.create(f"m{number}", dataset="digits", network=NETWORK)
        for job in [submit(client, "learn", f"m{number}", ["0", "1"]) for number in range(CHECKED_MODELS)]:
            client.jobs.wait(job)
        held = {f"m{number}": ["0", "1"] for number in range(CHECKED_MODELS)}
        plan = make_plan(random.Random(SEED + 1), held, CHECKED_BEFORE, pause=0.0)
        before = run_plan(client, plan)
        pause = statistics.mean(run.seconds for run in before) / (CHECKED_WORKERS * CHECKED_BUSY)
        real = run_plan(client, make_plan(random.Random(SEED), held, CHECKED_REQUESTS, pause=pause))
    begin = min(run.job.created_at for run in real)
    real_p95, dispatch = quantile([run.wait for run in real], 0.95), min(run.wait for run in real)
    found: dict[str, Any] = {
        "workers": CHECKED_WORKERS,
        "requests": len(real),
        "real_p95_wait_seconds": round(real_p95, 2),
    }
    chance = random.Random(SEED)
    for name in ("predicted", "replayed"):
        requests = [
            Request(
                (run.job.created_at - begin).total_seconds(),
                "default",
                run.job.model,
                run.planned.operation,
                predict_seconds(run.planned, before, chance) if name == "predicted" else run.seconds,
            )
            for run in real
        ]
        runs = simulate(requests, CHECKED_WORKERS, dispatch_seconds=dispatch)
        p95 = quantile([run.wait for run in runs], 0.95)
        found[f"{name}_p95_wait_seconds"] = round(p95, 2)
        found[f"{name}_over_real"] = round(p95 / real_p95, 3)
    return found


@dataclass(frozen=True)
class Planned:
    """A request of the real run: how many seconds after the one before, and what it changes."""

    pause: float
    operation: Operation
    model: str
    label: str
    held: int
    """How many labels the model holds then: a job with more labels takes longer."""


@dataclass(frozen=True)
class RealRun:
    """A request of the real run, and its job when it has ended."""

    planned: Planned
    job: Job

    @property
    def seconds(self) -> float:
        """How long the job took."""
        assert self.job.seconds is not None
        return self.job.seconds

    @property
    def wait(self) -> float:
        """The seconds from the request to the job's start."""
        assert self.job.started_at is not None
        return (self.job.started_at - self.job.created_at).total_seconds()


def predict_seconds(planned: Planned, before: Sequence[RealRun], chance: random.Random) -> float:
    """Return the duration of one of the jobs before that are most like the planned one."""
    alike = [run for run in before if run.planned.operation == planned.operation]
    alike.sort(key=lambda run: abs(run.planned.held - planned.held))
    return chance.choice(alike[:CHECKED_ALIKE]).seconds


def make_plan(
    chance: random.Random, held: dict[str, list[str]], count: int, *, pause: float
) -> Iterator[Planned]:
    """Yield requests for random models that are possible one after another.

    held: {model: the labels that it holds when all earlier requests are done}; it is brought up to date.
    pause: the mean of the seconds between two requests.
    """
    names = sorted(held)
    weights = weights_of(len(names), LOAD.popularity)
    operations, shares = list(CHECKED_MIX), list(CHECKED_MIX.values())
    for _ in range(count):
        (model,) = chance.choices(names, weights)
        (operation,) = chance.choices(operations, shares)
        absent = [label for label in map(str, range(10)) if label not in held[model]]
        if not absent or len(held[model]) == 1:
            operation = "forget" if not absent else "learn"
        label = chance.choice(absent if operation == "learn" else held[model])
        if operation == "learn":
            held[model].append(label)
        else:
            held[model].remove(label)
        wait = chance.expovariate(1 / pause) if pause else 0.0
        yield Planned(wait, operation, model, label, len(held[model]))


def run_plan(client: Palimpsest, plan: Iterator[Planned]) -> list[RealRun]:
    """Submit the requests at their times, and return them once all jobs have ended."""
    submitted, due = [], time.monotonic()
    for one in plan:
        due += one.pause
        time.sleep(max(due - time.monotonic(), 0.0))
        submitted.append((one, submit(client, one.operation, one.model, [one.label])))
    runs = [RealRun(planned, client.jobs.wait(job)) for planned, job in submitted]
    failed = [run.job for run in runs if not run.job.succeeded]
    assert not failed, failed[0].error
    return runs


def submit(client: Palimpsest, operation: Operation, model: str, labels: Sequence[str]) -> Job:
    """Submit a job of about a second, whatever it draws."""
    schedule = {"schedule": {"steps": STEPS, "batch_size": 16}, "fisher_examples": 50}
    if operation == "learn":
        return client.models.learn(model, labels, params=schedule)
    return client.models.forget(model, labels, params=schedule | {"naive_steps": 3})


if __name__ == "__main__":
    main()
