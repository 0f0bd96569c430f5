"""Measure how long a worker takes to end after SIGTERM in the middle of a job, which goes back to the queue.

    python -m benchmarks.hand_back --json -

A model of default size learns five digits of MNIST, forgets one and is evaluated. While each job runs its
worker is stopped again and again, at moments that a seed chooses, and another one resumes the job. So every
phase is met.

`end_seconds`    from SIGTERM to the end of the process: median and longest of all moments.
`queued_seconds` from SIGTERM until the job is queued again, for another worker to take.
`by_phase`       {operation and phase that the job's row showed: number of moments, longest end}.
`attempts_lost`  how many of these stops cost the job an attempt. It should be none.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from migrations import upgrade
from service.queue.messages import wake_worker
from service.registry import jobs, labels, models, store_identity
from service.registry.database import Database
from service.registry.opening import open_artifacts
from service.registry.tables import JobRow
from service.requests.catalog import read_catalog
from service.requests.operations import Evaluate, Forget, JobRequest, Learn, ModelDefaults
from service.settings import Settings

DATASET = "mnist"
REQUESTS: tuple[JobRequest, ...] = (
    Learn(labels=["0", "1", "2", "3", "4"]),
    Forget(labels=["2"]),
    Evaluate(),
)
LONGEST_PAUSE = 6.0
"""How many seconds after its claim a job is interrupted at the latest."""
TIMEOUT_SECONDS = 900.0


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--moments", type=int, default=12, help="of each job; then it runs to its end; %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments; %(default)s")
    add_data_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Settings(home=Path(folder) / "home", data=data_folder(options)), options)
    write_figures(figures, options.json)


def measure(deployment: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Interrupt one job of each kind again and again."""
    deployment.home.mkdir(parents=True)
    database = Database(deployment.database_url)
    upgrade(database)
    store_identity.claim_store(database, open_artifacts(deployment))
    with database.transaction() as session:
        network = read_catalog().complete_network({})
        model_id = models.create(session, name="m", dataset=DATASET, network=network, seed=0).id
    moments = random.Random(options.seed)
    found: defaultdict[str, list[Stop]] = defaultdict(list)
    lost = 0
    for request in REQUESTS:
        job_id = submit(database, model_id, request)
        stops = 0
        while not read_job(database, job_id).done:
            pause = moments.uniform(0.0, LONGEST_PAUSE) if stops < options.moments else TIMEOUT_SECONDS
            stopped = run_for(deployment, database, job_id, pause)
            if stopped is not None:
                stops += 1
                found[stopped.phase].append(stopped)
                sys.stderr.write(f"{stopped}\n")
                lost += read_job(database, job_id).attempt
    database.dispose()
    every = [one for each in found.values() for one in each]
    return {
        "moments": len(every),
        "end_seconds": summary([one.end_seconds for one in every]),
        "queued_seconds": summary([one.queued_seconds for one in every]),
        "attempts_lost": lost,
        "by_phase": {
            phase: {"moments": len(each), "longest": round(max(one.end_seconds for one in each), 2)}
            for phase, each in sorted(found.items())
        },
    }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 2), "longest": round(max(seconds), 2)}


def submit(database: Database, model_id: str, request: JobRequest) -> str:
    with database.transaction() as session:
        model = jobs.lock_model(session, models.get(session, model_id))
        statuses = labels.projected_statuses(session, model)
        spec = request.resolve(read_catalog(), statuses, ModelDefaults(dataset=DATASET))
        return jobs.submit(session, model, spec, statuses, max_attempts=3).job.id


class Stop(NamedTuple):
    """A worker that was stopped in the middle of its job."""

    phase: str
    queued_seconds: float
    end_seconds: float


def run_for(deployment: Settings, database: Database, job_id: str, pause: float) -> Stop | None:
    """Run a worker, and stop it so many seconds after it has claimed the job.

    Returns None if the job ended before.
    """
    variables = {**os.environ, **deployment.as_environment(), "PALIMPSEST_LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "-m", "commands", "worker"], env=variables)
    try:
        wake_worker(job_id, deployment)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while read_job(database, job_id).lease_until is None and time.monotonic() < deadline:
            time.sleep(0.02)
        until = time.monotonic() + pause
        while time.monotonic() < until and not read_job(database, job_id).done:
            time.sleep(0.02)
        job = read_job(database, job_id)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while process.poll() is None and read_job(database, job_id).lease_until is not None:
            time.sleep(0.02)
        queued_seconds = time.monotonic() - began
        process.wait()
        end_seconds = time.monotonic() - began
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if job.done or read_job(database, job_id).done:
        return None
    phase = (job.progress or {}).get("phase", "before its first step")
    return Stop(f"{job.operation}, {phase}", queued_seconds, end_seconds)


def read_job(database: Database, job_id: str) -> JobRow:
    with database.reading() as session:
        return jobs.find(session, job_id)


if __name__ == "__main__":
    main()
