"""Measure how long a worker takes to end after SIGTERM in the middle of a job, which goes back to the queue.

    python -m benchmarks.hand_back --json -

A model of default size learns five digits of MNIST, forgets one and is evaluated. While each job runs its
worker is stopped again and again, at moments that a seed chooses, and another one resumes the job. So every
phase is met.

`seconds`        from SIGTERM to the end of the process: median, 95 % quantile and longest of all moments.
`by_phase`       {operation and phase that the job's row showed: number of moments, longest}.
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
from pathlib import Path
from typing import Any

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
MOST_MOMENTS = 30
"""Of one job. Then it runs to its end."""
TIMEOUT_SECONDS = 900.0


def main() -> None:
    parser = make_parser(__doc__)
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
    found: defaultdict[str, list[float]] = defaultdict(list)
    lost = 0
    for request in REQUESTS:
        job_id = submit(database, model_id, request)
        stops = 0
        while not read_job(database, job_id).done:
            pause = moments.uniform(0.0, LONGEST_PAUSE) if stops < MOST_MOMENTS else TIMEOUT_SECONDS
            stopped = run_for(deployment, database, job_id, pause)
            if stopped is not None:
                phase, seconds = stopped
                stops += 1
                found[phase].append(seconds)
                sys.stderr.write(f"{phase}: {seconds:.2f} s\n")
                lost += read_job(database, job_id).attempt
    database.dispose()
    seconds = sorted(one for each in found.values() for one in each)
    return {
        "moments": len(seconds),
        "seconds": {
            "median": round(statistics.median(seconds), 2),
            "quantile_95": round(seconds[int(0.95 * len(seconds))], 2),
            "longest": round(seconds[-1], 2),
        },
        "attempts_lost": lost,
        "by_phase": {
            phase: {"moments": len(each), "longest": round(max(each), 2)}
            for phase, each in sorted(found.items())
        },
    }


def submit(database: Database, model_id: str, request: JobRequest) -> str:
    with database.transaction() as session:
        model = jobs.lock_model(session, models.get(session, model_id))
        statuses = labels.projected_statuses(session, model)
        spec = request.resolve(read_catalog(), statuses, ModelDefaults(dataset=DATASET))
        return jobs.submit(session, model, spec, statuses, max_attempts=3).job.id


def run_for(deployment: Settings, database: Database, job_id: str, pause: float) -> tuple[str, float] | None:
    """Run a worker, and stop it so many seconds after it has claimed the job.

    Returns the phase that the job was in and how long the worker took to end; None if the job ended before.
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
        process.wait()
        seconds = time.monotonic() - began
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if job.done or read_job(database, job_id).done:
        return None
    return f"{job.operation}, {(job.progress or {}).get('phase', 'before its first step')}", seconds


def read_job(database: Database, job_id: str) -> JobRow:
    with database.reading() as session:
        return jobs.find(session, job_id)


if __name__ == "__main__":
    main()
