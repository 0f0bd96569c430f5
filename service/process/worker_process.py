"""Run the worker as a child process, and start another when it ends. It never outlives its parent."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from sqlalchemy.orm import Session

from service.process.errors import CannotStart
from service.process.identification import Identification
from service.process.worker_launch import worker_command, worker_environment
from service.registry import sweeping
from service.registry.claims import worker_name
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.settings import Settings

log = logging.getLogger(__name__)

RESTART_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""How long to wait before the first restart, the second and so on; the last value is for all later ones."""
STABLE_SECONDS = 30.0
"""After a worker that ran for this long, the next wait is the first of RESTART_BACKOFF_SECONDS again."""
GRACE_SECONDS = 10.0
"""How long a running job may take to reach its next step and go back to the queue."""
POLL_SECONDS = 0.01
KILL_SECONDS = 5.0
"""How long the kernel may take to end a killed process. One that waits for a hung disk never ends."""
SMALLEST_SILENCE_SECONDS = 10.0
"""A worker that sent no beat for two leases, or at least so long, is suspended or hangs: it is killed."""
START_PATIENCE = 3
"""How many times as long a worker may be silent before its first beat, without using the CPU: it may wait
for a disk from which it reads its code."""
LARGEST_TICK_SECONDS = 1.0
"""More is not counted between two checks: then this process was suspended itself."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class WorkerProcess:
    """One worker process at a time.

    Call `start` once, then `check` several times a second, and `stop` at the end, all from one thread.
    """

    def __init__(
        self,
        deployment: Settings,
        database: Database,
        command: Callable[[int], list[str]] = worker_command,
        *,
        restarts_after_success: bool = True,
    ) -> None:
        """command: returns the command line for the file descriptor that takes the worker's identity.

        restarts_after_success: whether another worker is started after one that ended with exit code 0,
            because it was asked to.
        """
        self._deployment = deployment
        self._database = database
        self._command = command
        self._restarts_after_success = restarts_after_success
        self.has_ended = False
        """Whether the worker has ended because it was asked to, so that no other is started."""
        self._is_stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._identification: Identification | None = None
        self._is_identified = False
        self._beats = False
        self._silent_seconds = 0.0
        self._cpu_ticks: int | None = None
        self._checked_at = 0.0
        self._abandoned: list[subprocess.Popen[bytes]] = []
        self._started_at = 0.0
        self._restart_at = 0.0
        self._restarts = 0

    def start(self) -> None:
        """Start a worker, and return at once, before it has identified itself."""
        parent = os.getpid()
        self._identification, self._is_identified, self._beats = Identification(), False, False
        self._process = subprocess.Popen(
            self._command(self._identification.write_end),
            env=worker_environment(self._deployment),
            stdin=subprocess.DEVNULL,
            pass_fds=[self._identification.write_end],
            # Ctrl-C in a terminal goes to a whole process group; the worker is stopped by stop() alone.
            start_new_session=True,
            preexec_fn=lambda: _die_with_parent(parent),
        )
        self._identification.close_write_end()
        self._started_at = time.monotonic()

    def wait_until_identified(self, stop: Event) -> None:
        """Return once the worker has identified itself, or `stop` is set.

        Raises CannotStart if it is not this project's worker, or ends before it has identified itself.
        """
        while not self._is_identified and not stop.is_set():
            self._identify()
            stop.wait(POLL_SECONDS)

    def check(self) -> None:
        """Restart the worker when it has ended and the wait is over.

        Kill one that is not this project's, or that no longer runs although it has not ended.
        """
        if self.has_ended:
            return
        self._abandoned = [process for process in self._abandoned if process.poll() is None]
        if self._process is None:
            if time.monotonic() >= self._restart_at:
                self.start()
            return
        if (exit_code := self._process.poll()) is not None:
            if exit_code == 0 and not self._restarts_after_success:
                log.info("worker process %d has ended, as it was asked to", self._process.pid)
                self._close_identification()
                self._process, self.has_ended = None, True
                return
            self._schedule_restart(self._process.pid, exit_code)
            return
        try:
            self._identify()
        except CannotStart as error:
            log.error("worker process %d: %s; killing it", self._process.pid, error)
            self._replace()
            return
        if self._is_silent():
            log.error(
                "worker process %d does not run any more (suspended, or one thread keeps all others from "
                "running): killing it",
                self._process.pid,
            )
            self._replace()

    def request_stop(self) -> None:
        """Ask the worker to stop, and return at once. `stop` waits for it."""
        if self._process is not None and not self._is_stopping:
            self._is_stopping = True
            self._process.terminate()

    def stop(self) -> None:
        """Stop the worker; its job goes back to the queue. Kill it if it takes longer than GRACE_SECONDS."""
        self._close_identification()
        if self._process is None:
            return
        self.request_stop()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning(
                "worker process %d did not stop within %g s: killing it; its job, if any, is queued again",
                *(self._process.pid, GRACE_SECONDS),
            )
            self._kill(self._process)
            self._update_jobs_of(self._process.pid, sweeping.release_jobs_of)
        self._process = None

    def _identify(self) -> None:
        if self._is_identified or self._identification is None or self._process is None:
            return
        if identity := self._identification.receive():
            log.info("worker process %d started; it runs %s", self._process.pid, identity.code)
            self._is_identified = True

    def _is_silent(self) -> bool:
        """Whether the worker has not beaten for too long.

        Before its first beat it may compute instead: imports take long on a busy machine.
        """
        now = time.monotonic()
        elapsed, self._checked_at = min(now - self._checked_at, LARGEST_TICK_SECONDS), now
        if self._identification is None or not self._is_identified:
            return False
        if self._identification.has_beaten():
            self._beats, self._silent_seconds = True, 0.0
        elif not self._beats and self._has_computed():
            self._silent_seconds = 0.0
        else:
            self._silent_seconds += elapsed
        limit = max(SMALLEST_SILENCE_SECONDS, 2 * self._deployment.lease_seconds)
        return self._silent_seconds > (limit if self._beats else limit * START_PATIENCE)

    def _has_computed(self) -> bool:
        """Whether the worker has used CPU time since this was last asked. True where that is not known: then
        only the worker's own watchdog ends a start that hangs.
        """
        assert self._process is not None
        before, self._cpu_ticks = self._cpu_ticks, _cpu_ticks(self._process.pid)
        return self._cpu_ticks is None or self._cpu_ticks != before

    def _replace(self) -> None:
        assert self._process is not None
        exit_code = self._kill(self._process)
        self._schedule_restart(self._process.pid, exit_code)

    def _kill(self, process: subprocess.Popen[bytes]) -> int:
        """Kill the process. Returns its exit code, also if the kernel cannot end it now."""
        process.kill()
        try:
            return process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            log.error(
                "worker process %d is killed, but does not end: it waits for a disk or a device that hangs. "
                "Another worker takes its place",
                process.pid,
            )
            self._abandoned.append(process)
            return -signal.SIGKILL

    def _close_identification(self) -> None:
        if self._identification is not None:
            self._identification.close()
            self._identification = None

    def _schedule_restart(self, pid: int, exit_code: int) -> None:
        self._close_identification()
        self._process = None
        if time.monotonic() - self._started_at >= STABLE_SECONDS:
            self._restarts = 0
        wait = RESTART_BACKOFF_SECONDS[min(self._restarts, len(RESTART_BACKOFF_SECONDS) - 1)]
        self._restarts += 1
        self._restart_at = time.monotonic() + wait
        log.warning(
            "worker process %d %s; starting another in %g s. Its job, if it had one, is queued again",
            *(pid, _describe_exit(exit_code), wait),
        )
        self._update_jobs_of(pid, sweeping.expire_leases_of)

    def _update_jobs_of(self, pid: int, update: Callable[[Session, str], None]) -> None:
        """Let the job of a worker that has ended be queued again, before its lease runs out."""
        try:
            with self._database.transaction() as session:
                update(session, worker_name(pid))
        except DatabaseUnavailable as error:
            log.warning(
                "worker process %d has ended, and the database does not answer (%s): its job, if it had one, "
                "is queued again only when its lease runs out",
                *(pid, error.reason),
            )


def _describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended unexpectedly with exit code {exit_code} (its log lines above may say why)"
    cause = " (SIGKILL, which the kernel sends when memory runs out)" if exit_code == -signal.SIGKILL else ""
    return f"was ended by signal {-exit_code}{cause}"


def _cpu_ticks(pid: int) -> int | None:
    """Return the CPU time that the process has used; None if this system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. Runs in the child, before the worker does."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the line above
            os._exit(1)
