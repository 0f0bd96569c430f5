"""Run a real instance in a test: start `palimpsest` processes, call their API, and read their database."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from service.registry.database import Database
from service.registry.tables import JobRow, VersionRow
from service.settings import Settings

T = TypeVar("T")

READY = re.compile(r"^Palimpsest is ready at (http://\S+)$", re.MULTILINE)
TINY_NETWORK = {"encoder_widths": [16], "decoder_widths": [16], "latent": 2}


def schedule(steps: int) -> dict[str, Any]:
    """Return params with which a strategy takes `steps` steps of about a millisecond each."""
    return {"schedule": {"steps": steps, "batch_size": 16}, "fisher_examples": 50}


def wait_for(what: str, condition: Callable[[], T | None], seconds: float = 120.0) -> T:
    """Return the first true result of the condition. Fails after `seconds`, naming what it waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"still waiting after {seconds:g} s: {what}")


@dataclass
class Instance:
    """One deployment, and the processes that a test starts for it."""

    deployment: Settings
    database: Database
    log: Path
    program: Sequence[str | Path] = (sys.executable, "-m", "commands")
    headers: Mapping[str, str] = field(default_factory=dict)
    """What every request has, such as an API key."""
    folder: Path | None = None
    """The working directory of the processes; None is that of the test."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start `palimpsest <command>` and return at once. before: what runs it, such as `nice`."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*before, *self.program, *command],
                cwd=self.folder,
                env={**os.environ, **self.deployment.as_environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def up(self, command: str = "up", *, before: Sequence[str] = (), **env: str) -> subprocess.Popen[bytes]:
        """Start `palimpsest <command>` and wait until it is ready. before: see `run`."""
        seen = len(self.log.read_text()) if self.log.exists() else 0
        process = self.run(command, env=env, before=before)

        def ready() -> str | None:
            assert process.poll() is None, f"ended with {process.returncode}: {self.log.read_text()[seen:]}"
            found = READY.search(self.log.read_text()[seen:])
            return found and found.group(1)

        self.url = wait_for("the instance is ready", ready)
        return process

    def request(self, method: str, path: str, body: object = None, *, status: int) -> Any:
        """Call the API and return the JSON of its response, which must have this status."""
        response = httpx2.request(method, self.url + path, json=body, headers=self.headers, timeout=30)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def create(self, model: str = "m", *, seed: int = 3) -> str:
        """Create a model with a tiny network; return its id."""
        body = {"name": model, "dataset": "digits", "seed": seed, "network": TINY_NETWORK}
        return str(self.request("POST", "/v1/models", body, status=201)["id"])

    def submit(self, operation: str, model: str = "m", *, steps: int = 5, **body: Any) -> str:
        """Submit a job; return its id."""
        short = {"naive_steps": 3} if operation == "forget" and "strategy" not in body else {}
        body.setdefault("params", schedule(steps) | short)
        job: dict[str, Any] = self.request("POST", f"/v1/models/{model}/{operation}", body, status=202)
        return str(job["id"])

    def job(self, job_id: str) -> JobRow:
        """Return the row of the job as it is now."""
        with self.database.reading() as session:
            return session.query(JobRow).filter_by(id=job_id).one()

    def versions(self, model_id: str) -> list[VersionRow]:
        """Return the rows of the model's versions, the oldest first."""
        with self.database.reading() as session:
            return session.query(VersionRow).filter_by(model_id=model_id).order_by(VersionRow.number).all()

    def wait_until(
        self, job_id: str, condition: Callable[[JobRow], object], seconds: float = 120.0
    ) -> JobRow:
        """Wait until the condition is true of the job; return its row."""

        def answer() -> JobRow | None:
            job = self.job(job_id)
            return job if condition(job) else None

        try:
            return wait_for(f"job {job_id}", answer, seconds)
        except AssertionError as error:
            job = self.job(job_id)
            found = f"{job.state}, attempt {job.attempt}, {job.progress}, {job.error}\n{self.log.read_text()}"
            raise AssertionError(f"{error}: {found}") from None

    def wait_until_done(self, job_id: str, seconds: float = 120.0) -> JobRow:
        """Wait until the job has ended, however it ended; return its row."""
        return self.wait_until(job_id, lambda job: job.done, seconds)

    def succeeded(self, job_id: str, seconds: float = 120.0) -> JobRow:
        """Wait until the job has ended; fail unless it succeeded. Returns its row."""
        job = self.wait_until_done(job_id, seconds)
        assert job.state == "succeeded", f"{job.state}: {job.error}\n{self.log.read_text()}"
        return job

    def worker_in_training(self, job_id: str, *, attempt: int = 1) -> int:
        """Wait until that attempt at the job trains; return the process id of its worker."""

        def trains(job: JobRow) -> bool:
            return job.state == "running" and job.attempt == attempt and bool(job.progress)

        job = self.wait_until(job_id, trains)
        assert job.worker is not None
        return int(job.worker.partition(":")[2])

    def kill_all(self) -> None:
        """Kill the processes that still run, so that no test leaves one behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def children(pid: int) -> list[int]:
    """Return the ids of the running child processes of a process."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def is_running(pid: int) -> bool:
    """Return whether the process runs. A zombie, which its parent has not waited for, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_suspended(pid: int) -> bool:
    """Return whether every thread of the process is stopped. It may be a while after SIGSTOP."""
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return all(state == "T" for state in states)


def stop(process: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> int:
    """Send the signal, wait for the process to end, and return its exit code."""
    process.send_signal(by)
    return process.wait(30)


@contextmanager
def instance_of(deployment: Settings, folder: Path) -> Iterator[Instance]:
    """Yield an instance without processes, which logs to `folder`/log.txt; kill its processes at the end."""
    with ExitStack() as stack:
        database = Database(deployment.database_url)
        stack.callback(database.dispose)
        instance = Instance(deployment, database, folder / "log.txt")
        stack.callback(instance.kill_all)
        yield instance
