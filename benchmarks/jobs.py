"""Measure how long jobs wait for their worker, and how many commits the disk allows.

    python -m benchmarks.jobs --json -                                          SQLite and a folder as queue
    python -m benchmarks.jobs --json - --broker-url redis://127.0.0.1:6379/9 \
        --database-url postgresql://postgres@127.0.0.1/EMPTY
    python -m benchmarks.jobs --json - --artifacts-url s3://BUCKET/PREFIX    with AWS_ENDPOINT_URL and so on

`submit_to_claim_ms`    from the insertion of a job's row to its claim by the worker: median and worst of
                        `--jobs` jobs of one step each.
`recovery_seconds`      from SIGKILL of the worker to the claim of the next attempt. Most of it is the time in
                        which the new worker imports torch; compare `worker_start_seconds`.
`commits_per_second`    commits of claim, heartbeat and release in an otherwise unused SQLite file; compare
                        `fsyncs_per_second`, which is of fsync alone in the same folder.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.output import make_parser, write_figures
from migrations import upgrade
from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from service.registry import claims, job_lists, jobs, labels, models
from service.registry.database import Database
from service.registry.job_lists import JobFilter
from service.registry.job_specs import LearnSpec
from service.registry.tables import JobRow, ModelRow

T = TypeVar("T")

NETWORK = {"encoder_widths": [16], "decoder_widths": [16], "latent": 2}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--jobs", type=int, default=10, help="number of jobs whose start is timed; %(default)s"
    )
    parser.add_argument("--database-url", help="an empty PostgreSQL database; left out: SQLite")
    parser.add_argument("--broker-url", help="Redis; left out: a folder")
    parser.add_argument("--artifacts-url", help="an empty place in a bucket; left out: a folder")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of commits; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            **measure_jobs(Path(folder), options),
            "commits_per_second": round(commits_per_second(Path(folder), options.seconds), 1),
            "fsyncs_per_second": round(fsyncs_per_second(Path(folder), options.seconds), 1),
        }
    write_figures(figures, options.json)


def measure_jobs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time the start of the worker, of each of the jobs, and of a job whose worker is killed."""
    home = folder / "home"
    home.mkdir()
    database_url = options.database_url or f"sqlite:///{home / 'palimpsest.db'}"
    variables = {"PALIMPSEST_DATABASE_URL": database_url}
    if options.broker_url:
        variables["PALIMPSEST_BROKER_URL"] = options.broker_url
    if options.artifacts_url:
        variables["PALIMPSEST_ARTIFACTS_URL"] = options.artifacts_url
    with local_server(home, variables=variables) as url:
        database = Database(database_url)
        client = Palimpsest(url)
        began = time.monotonic()
        submit_learn(client, "warm", steps=1)
        wait("start of the first job", lambda: only_job(database, "warm").started_at)
        started = time.monotonic() - began
        wait("end of the first job", lambda: only_job(database, "warm").done)
        waits = []
        for index in range(options.jobs):
            submit_learn(client, f"m{index}", steps=1)
            waits.append(milliseconds_to_start(database, f"m{index}"))
        submit_learn(client, "long", steps=100_000)
        job = wait("progress of the long job", lambda: running_job(database, "long"))
        os.kill(int((job.worker or "").partition(":")[2]), signal.SIGKILL)
        killed = time.monotonic()
        wait("second attempt of the long job", lambda: only_job(database, "long").attempt == 2)
        recovery = time.monotonic() - killed
        database.dispose()
    return {
        "submit_to_claim_ms": {"median": round(statistics.median(waits), 1), "worst": round(max(waits), 1)},
        "recovery_seconds": round(recovery, 2),
        "worker_start_seconds": round(started, 2),
    }


def commits_per_second(folder: Path, seconds: float) -> float:
    """Claim a job, send a heartbeat and release the job, again and again: three commits each time."""
    database = Database(f"sqlite:///{folder / 'commits.db'}")
    upgrade(database)
    with database.transaction() as session:
        model = models.create(session, name="m", dataset="digits", network={}, seed=1)
        job = submit_job(session, model)
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        with database.transaction() as session:
            claim = claims.claim(session, job.id, worker="here:1", lease_seconds=60)
        assert claim is not None
        with database.transaction() as session:
            claims.heartbeat(session, claim, lease_seconds=60, progress={"step": count})
        with database.transaction() as session:
            claims.release(session, claim)
        count += 3
    rate = count / (time.monotonic() - began)
    database.dispose()
    return rate


def fsyncs_per_second(folder: Path, seconds: float) -> float:
    """Append 4 KiB to a file and call fsync, again and again."""
    count, began = 0, time.monotonic()
    with (folder / "bare").open("wb", buffering=0) as file:
        while time.monotonic() - began < seconds:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            count += 1
    return count / (time.monotonic() - began)


def submit_learn(client: Palimpsest, model: str, *, steps: int) -> None:
    """Create a model and submit a job that learns one label."""
    client.models.create(model, dataset="digits", network=NETWORK)
    client.models.learn(model, ["0"], params={"schedule": {"steps": steps}, "fisher_examples": 50})


def milliseconds_to_start(database: Database, model: str) -> float:
    """Wait until the model's only job is done; return how long it waited for a worker."""
    wait(f"end of the job of {model}", lambda: only_job(database, model).done)
    job = only_job(database, model)
    assert job.started_at is not None
    return (job.started_at - job.created_at).total_seconds() * 1000


def submit_job(session: Any, model: ModelRow) -> JobRow:
    spec = LearnSpec(strategy="replay_ewc", params={}, dataset="digits", labels=("0",))
    model = jobs.lock_model(session, model)
    return jobs.submit(session, model, spec, labels.projected_statuses(session, model), max_attempts=3).job


def only_job(database: Database, model: str) -> JobRow:
    with database.reading() as session:
        only = JobFilter(models.find(session, model).id)
        return job_lists.page(session, only=only, limit=1).rows[0]


def running_job(database: Database, model: str) -> JobRow | None:
    """Return the model's only job once it runs and has reported progress."""
    job = only_job(database, model)
    return job if job.state == "running" and job.progress else None


def wait(what: str, condition: Callable[[], T | None], seconds: float = 120.0) -> T:
    """Return the condition's first true answer. Raises SystemExit if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)  # the queries take CPU time from the server and the worker that are measured
    raise SystemExit(f"{what}: not within {seconds:g} s")


if __name__ == "__main__":
    main()
