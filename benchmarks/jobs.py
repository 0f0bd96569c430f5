"""What the job protocol costs on the embedded default, beside the disk it stands on.

    python -m benchmarks.jobs --json -

`submit_to_claim_ms`: from the job's row to its worker, median and worst of `--jobs` jobs of one step each.
`recovery_seconds`: from SIGKILL of the worker to the next attempt's claim; nearly all of it is the new worker
importing torch, so `worker_start_seconds` stands beside it. `commits_per_second` of claim + heartbeat +
release on a database of its own, beside `fsyncs_per_second`, the bare fsync of the same folder.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from migrations import upgrade
from palimpsest import Palimpsest
from palimpsest.local_server import local_server
from service.registry import claims, jobs, models
from service.registry.database import Database
from service.registry.job_specs import LearnSpec
from service.registry.tables import JobRow, ModelRow

T = TypeVar("T")

NETWORK = {"encoder_widths": [16], "decoder_widths": [16], "latent": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--jobs", type=int, default=10, help="jobs to measure the way of a bell by")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to commit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            **of_jobs(Path(folder), options.jobs),
            "commits_per_second": round(commits(Path(folder), options.seconds), 1),
            "fsyncs_per_second": round(fsyncs(Path(folder), options.seconds), 1),
        }
    text = json.dumps(figures, indent=2)
    if options.json == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(options.json).write_text(text + "\n")


def of_jobs(folder: Path, number: int) -> dict[str, Any]:
    home = folder / "home"
    home.mkdir()
    with local_server(home) as url:
        database = Database(f"sqlite:///{home / 'palimpsest.db'}")
        palimpsest = Palimpsest(url)
        begun = time.monotonic()
        learn(palimpsest, "warm", steps=1)
        wait(lambda: only_job(database, "warm").started_at)
        started = time.monotonic() - begun
        wait(lambda: only_job(database, "warm").done)
        waits = []
        for index in range(number):
            learn(palimpsest, f"m{index}", steps=1)
            job = wait(lambda name=f"m{index}": done(only_job(database, name)))  # type: ignore[misc]
            waits.append((job.started_at - job.created_at).total_seconds() * 1000)
        learn(palimpsest, "long", steps=100_000)
        job = wait(lambda: with_progress(only_job(database, "long")))
        os.kill(int((job.worker or "").partition(":")[2]), signal.SIGKILL)
        died = time.monotonic()
        wait(lambda: only_job(database, "long").attempt == 2)
        recovery = time.monotonic() - died
        database.dispose()
    return {
        "submit_to_claim_ms": {"median": round(statistics.median(waits), 1), "worst": round(max(waits), 1)},
        "recovery_seconds": round(recovery, 2),
        "worker_start_seconds": round(started, 2),
    }


def commits(folder: Path, seconds: float) -> float:
    """A job claimed, kept and given back, again and again: three commits a round."""
    database = Database(f"sqlite:///{folder / 'commits.db'}")
    upgrade(database)
    with database.transaction() as session:
        model = models.create(session, name="m", dataset="digits", network={}, seed=1)
        job = a_job(session, model)
    made, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        with database.transaction() as session:
            claim = claims.claim(session, job.id, worker="here:1", lease_seconds=60)
        assert claim is not None
        with database.transaction() as session:
            claims.heartbeat(session, claim, lease_seconds=60, progress={"step": made})
        with database.transaction() as session:
            claims.release(session, claim)
        made += 3
    rate = made / (time.monotonic() - begun)
    database.dispose()
    return rate


def fsyncs(folder: Path, seconds: float) -> float:
    made, begun = 0, time.monotonic()
    with (folder / "bare").open("wb", buffering=0) as file:
        while time.monotonic() - begun < seconds:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            made += 1
    return made / (time.monotonic() - begun)


def learn(palimpsest: Palimpsest, model: str, *, steps: int) -> None:
    palimpsest.create_model(model, dataset="digits", network=NETWORK)
    palimpsest.learn(model, ["0"], params={"schedule": {"steps": steps}, "fisher_examples": 50})


def a_job(session: Any, model: ModelRow) -> JobRow:
    spec = LearnSpec(strategy="replay_ewc", params={}, dataset="digits", labels=("0",))
    return jobs.submit(session, model, spec, request_id=None, max_attempts=3)


def only_job(database: Database, model: str) -> JobRow:
    with database.reading() as session:
        return jobs.page(session, model=models.find(session, model), limit=1).rows[0]


def done(job: JobRow) -> JobRow | None:
    return job if job.done else None


def with_progress(job: JobRow) -> JobRow | None:
    return job if job.state == "running" and job.progress else None


def wait(condition: Callable[[], T | None], seconds: float = 120.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.01)
    raise SystemExit(f"waited {seconds:g} s in vain")


if __name__ == "__main__":
    main()
