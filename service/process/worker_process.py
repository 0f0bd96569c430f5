"""The worker as a child process: started, restarted when it dies, stopped; it never outlives its parent."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time

from service.registry import sweeping
from service.registry.claims import worker_name
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.settings import Settings

log = logging.getLogger(__name__)

RESTART_AFTER_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""The wait before each restart in a row; a worker that dies at its start is not restarted in a hurry."""
STEADY_SECONDS = 30.0
"""A worker that lived this long starts the waits anew."""
GRACE_SECONDS = 10.0
"""What a running job has to reach its next step and go back to the queue."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def worker_command(log_level: str) -> list[str]:
    """One process, one job at a time. Messages are bells, so Celery's cluster chatter is not needed."""
    return [
        *(sys.executable, "-m", "celery", "--app", "worker.process.celery_app", "--quiet", "worker"),
        *("--pool", "solo", "--concurrency", "1", "--loglevel", log_level),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


class WorkerChild:
    """Call `tend` often and from one thread; `stop` once, at the end."""

    def __init__(self, deployment: Settings, database: Database) -> None:
        self._deployment = deployment
        self._database = database
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._restarts = 0

    def tend(self) -> None:
        """Start the worker when it is due; notice when it has died."""
        if self._process is None:
            if time.monotonic() >= self._restart_at:
                self._start()
        elif (ended := self._process.poll()) is not None:
            self._bury(self._process, ended)

    def stop(self) -> None:
        """Ask the worker to give back its job and end; end it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the worker did not stop within %g s; killing it", GRACE_SECONDS)
            self._process.kill()
            self._process.wait()
            self._forget_leases(self._process.pid)
        self._process = None

    def _start(self) -> None:
        parent = os.getpid()
        self._process = subprocess.Popen(
            worker_command(self._deployment.log_level),
            env=os.environ | self._deployment.as_environment(),
            stdin=subprocess.DEVNULL,
            # Ctrl-C in a terminal reaches a whole process group; the worker hears of it from stop() alone.
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),
        )
        self._started_at = time.monotonic()
        log.info("the worker is process %d", self._process.pid)

    def _bury(self, process: subprocess.Popen[bytes], ended: int) -> None:
        if time.monotonic() - self._started_at >= STEADY_SECONDS:
            self._restarts = 0
        wait = RESTART_AFTER_SECONDS[min(self._restarts, len(RESTART_AFTER_SECONDS) - 1)]
        self._restarts += 1
        self._restart_at = time.monotonic() + wait
        self._process = None
        log.warning("the worker %d ended with %d; starting another in %g s", process.pid, ended, wait)
        self._forget_leases(process.pid)

    def _forget_leases(self, pid: int) -> None:
        """Its job need not wait for its lease to run out: this process knows that nobody works on it."""
        try:
            with self._database.transaction() as session:
                sweeping.expire_leases_of(session, worker_name(pid))
        except DatabaseUnavailable:
            log.warning("the database does not answer; the job of worker %d waits for its lease to end", pid)


def _die_with(parent: int) -> None:
    """In the child, before it becomes the worker: have the kernel kill it when its parent ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)
