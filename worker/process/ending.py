"""When this worker ends: at once, after SIGTERM, or after its job, after a request to drain it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.registry.tables import DrainMode


class Ending:
    """Whether this worker may take another job. Thread-safe."""

    def __init__(self) -> None:
        self._shuts_down, self._drains, self._has_job = Event(), Event(), Event()
        self._lock = Lock()
        self._is_signalled = False

    def shut_down(self) -> None:
        """Record that the process ends: its job stops at its next step and goes back to the queue."""
        self._shuts_down.set()

    def is_shutting_down(self) -> bool:
        """Return whether a running job has to stop."""
        return self._shuts_down.is_set()

    def drain(self, mode: "DrainMode") -> None:
        """Take no more jobs, and end: now if there is no job or it is to be handed back, else after it."""
        self._drains.set()
        if mode == "hand_back" or not self._has_job.is_set():
            self._terminate()

    @contextmanager
    def job(self) -> Iterator[bool]:
        """Run a block that may take a job. Yields whether it may."""
        self._has_job.set()  # before the question, so that `drain` sees the job, or the question the drain
        try:
            yield not (self._shuts_down.is_set() or self._drains.is_set())
        finally:
            self._has_job.clear()
            if self._drains.is_set():
                self._terminate()

    def _terminate(self) -> None:
        """Send SIGTERM to this process, once: Celery ends when its task has returned."""
        with self._lock:
            if self._is_signalled:
                return
            self._is_signalled = True
        os.kill(os.getpid(), signal.SIGTERM)
