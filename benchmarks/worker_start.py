"""Measure how long `palimpsest worker` takes from its start to the claim of a job that waits for it.

    python -m benchmarks.worker_start --json -

`ready_seconds`         from the start of the process to the claim: median of `--starts`, and the longest.
`command_seconds`       the part before the command is replaced by the worker process.
`cpu_seconds`           the CPU time of both until the worker is stopped, median.
`import_ms`             the packages whose own code took longest to import in the worker process, largest
                        first, by `python -X importtime`, which itself makes imports a third slower.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from benchmarks.output import make_parser, write_figures
from migrations import upgrade
from service.queue.messages import wake_worker
from service.registry import jobs, models, store_identity
from service.registry.database import Database
from service.registry.job_specs import LearnSpec
from service.registry.opening import open_artifacts
from service.registry.tables import JobRow
from service.settings import Settings

SHOWN_PACKAGES = 12
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
"""A line of -X importtime: the microseconds of a module without those that it imports, and its name."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--starts", type=int, default=5, help="number of starts; %(default)s")
    options = parser.parse_args()
    measured = []
    for _ in range(options.starts):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure_start(Settings(home=Path(folder) / "home")))
    ready, command, cpu = zip(*measured, strict=True)
    figures = {
        "ready_seconds": round(statistics.median(ready), 2),
        "longest_ready_seconds": round(max(ready), 2),
        "command_seconds": round(statistics.median(command), 2),
        "cpu_seconds": round(statistics.median(cpu), 2),
        "import_ms": measure_imports(),
    }
    write_figures(figures, options.json)


def measure_start(deployment: Settings) -> tuple[float, float, float]:
    """Start a worker where a job waits. Return the seconds to the claim, of the command, and of CPU."""
    deployment.home.mkdir(parents=True)
    database = Database(deployment.database_url)
    upgrade(database)
    store_identity.claim_store(database, open_artifacts(deployment))
    job_id = queue_job(database)
    wake_worker(job_id, deployment)
    variables = {**os.environ, "PALIMPSEST_HOME": str(deployment.home), "PALIMPSEST_LOG_LEVEL": "warning"}
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "commands", "worker"], env=variables)
    try:
        wait(
            lambda: (
                b"\0worker\0" in read_command_line(process.pid) and b"-P" in read_command_line(process.pid)
            )
        )
        command = time.monotonic() - began
        wait(lambda: is_claimed(database, job_id))
        ready = time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    database.dispose()
    return ready, command, usage.ru_utime + usage.ru_stime


def queue_job(database: Database) -> str:
    with database.transaction() as session:
        network = {"architecture": "mlp", "encoder_widths": [16], "decoder_widths": [16], "latent": 2}
        model = models.create(session, name="m", dataset="digits", network=network, seed=0)
        params = {"schedule": {"steps": 1}}
        spec = LearnSpec(strategy="replay_ewc", params=params, dataset="digits", labels=("0",))
        return jobs.submit(session, model, spec, {}, max_attempts=3).job.id


def is_claimed(database: Database, job_id: str) -> bool:
    with database.reading() as session:
        return session.scalar(select(JobRow.started_at).where(JobRow.id == job_id)) is not None


def read_command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the worker did not claim the job within {seconds:g} s")
        time.sleep(0.01)


def measure_imports() -> dict[str, int]:
    """Return {package: milliseconds} of those that cost most to import in a worker."""
    modules = (
        "worker.packages",
        *(f"worker.process.{name}" for name in ("celery_app", "context", "presence")),
    )
    code = f"import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    spent: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if found := LINE.match(line):
            spent[found[2].partition(".")[0]] += int(found[1])
    return {name: round(microseconds / 1000) for name, microseconds in spent.most_common(SHOWN_PACKAGES)}


if __name__ == "__main__":
    main()
