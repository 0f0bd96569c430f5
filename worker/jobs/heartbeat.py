"""The pulse of a running job: its own thread keeps the lease, carries progress out and brings orders in."""

import logging
import time
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from service.registry import claims
from service.registry.claims import Claim, Pulse
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from worker.learning.strategy import Progress

log = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS = 0.5
"""A client that cancels or watches waits this long at most; a beat costs one small commit."""


class Heartbeat:
    """`with Heartbeat(...) as heartbeat:` beats until the block ends. Its database sessions are its own."""

    def __init__(self, database: Database, claim: Claim, *, lease_seconds: float) -> None:
        self._database = database
        self._claim = claim
        self._lease_seconds = lease_seconds
        self._interval = min(LONGEST_INTERVAL_SECONDS, lease_seconds / 4)
        self._progress: dict[str, Any] | None = None
        self._phase = ("", 0.0)
        self._pulse: Pulse = "running"
        self._last_answer = time.monotonic()
        self._ended = Event()
        self._thread = Thread(target=self._beat, name=f"heartbeat of {claim.job_id}", daemon=True)

    @property
    def pulse(self) -> Pulse:
        """`running`; `cancel` once a client asked to stop; `lost` once the job is, or may be, another's."""
        if self._pulse == "running" and time.monotonic() - self._last_answer > self._lease_seconds:
            return "lost"  # also while a beat hangs on a connection that was cut without a word
        return self._pulse

    def show(self, progress: Progress) -> None:
        """Leave the progress for the next beat. Called at every training step: it only remembers."""
        now = time.monotonic()
        if progress.phase != self._phase[0]:
            self._phase = (progress.phase, now)
        passed, left = now - self._phase[1], progress.total - progress.step
        self._progress = {
            **progress._asdict(),
            "eta_seconds": round(passed / progress.step * left, 1) if progress.step else None,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while self._pulse != "lost" and not self._ended.wait(self._interval):
            asked = time.monotonic()
            try:
                with self._database.transaction() as session:
                    self._pulse = claims.heartbeat(
                        session, self._claim, lease_seconds=self._lease_seconds, progress=self._progress
                    )
                self._last_answer = asked
            except DatabaseUnavailable as error:
                log.warning("job %s: no heartbeat, %s (%s)", self._claim.job_id, error, error.reason)
            except Exception:
                log.exception("job %s: the heartbeat failed, so the job stops", self._claim.job_id)
                self._pulse = "lost"
