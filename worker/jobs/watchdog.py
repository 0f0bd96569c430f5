"""The watchdog of a running job: it ends this process if the job hangs, after it has recorded why.

A thread that waits for a hung disk, a named pipe or a device cannot be stopped from within the process. So
the process ends, and another takes its place. The watchdog also makes a cancel or a shutdown take effect if
the job reaches no step at which it could stop.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

from sqlalchemy.orm import Session

from service.registry import claims
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, FencedOff
from worker.jobs.background import Background
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.stalling import ProgressClock

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
CANCEL_SECONDS = 5.0
"""How long a cancelled job, or one that another worker has taken over, may take to reach its next step."""
SHUTDOWN_SECONDS = 7.0
"""How long a job may take to reach its next step at a shutdown: less than the supervisor's grace."""
RECORD_SECONDS = 3.0
"""How long the watchdog waits for the database before it ends the process all the same."""


@dataclass(frozen=True)
class _End:
    """Why the process has to end, and what becomes of the job."""

    reason: str
    record: Callable[[Session, Claim], None]


class Watchdog(Background):
    """Watches one attempt while its `with` block runs."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        heartbeat: Heartbeat,
        clock: ProgressClock,
        *,
        shutting_down: Callable[[], bool],
        replace_worker: Callable[[], None],
    ) -> None:
        """replace_worker: ends this process, so that another takes its place."""
        super().__init__(f"watchdog of {claim.job_id}")
        self._database = database
        self._claim = claim
        self._heartbeat = heartbeat
        self._clock = clock
        self._shutting_down = shutting_down
        self._replace_worker = replace_worker
        self._must_stop_for = {"cancelled": 0.0, "taken over": 0.0, "shutdown": 0.0}
        self._stops = False

    def note_stop(self) -> None:
        """Note that the job has reached a step at which it stops: no cancel or shutdown waits any more."""
        self._stops = True

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(TICK_SECONDS):
            now = time.monotonic()
            self._clock.tick(now - before)
            self._count_waiting(min(now - before, 2 * TICK_SECONDS))
            before = now
            if end := self._find_end():
                self._end_process(end)
                return

    def _count_waiting(self, elapsed: float) -> None:
        """Count for how long each reason to stop has been there. Suspended time does not count."""
        reasons = {
            "cancelled": self._heartbeat.claim_state == "cancel_requested",
            "taken over": self._heartbeat.claim_state == "lost",
            "shutdown": self._shutting_down(),
        }
        for reason, holds in reasons.items():
            self._must_stop_for[reason] = self._must_stop_for[reason] + elapsed if holds else 0.0

    def _find_end(self) -> _End | None:
        clock, waited = self._clock, self._must_stop_for
        where = f"no progress in {clock.silent_seconds:.0f} s while {clock.phase}"
        if not self._stops and waited["cancelled"] > CANCEL_SECONDS:
            return _End(f"a client cancelled it, and it reaches no step: {where}", claims.finish_cancelled)
        if not self._stops and waited["taken over"] > CANCEL_SECONDS:
            return _End(f"it is no longer this worker's, and it reaches no step: {where}", _record_nothing)
        if not self._stops and waited["shutdown"] > SHUTDOWN_SECONDS:
            return _End(f"this worker shuts down, and it reaches no step: {where}", claims.release)
        if clock.is_stalled:
            return _End(f"{where}, where {clock.limit_seconds:g} s are allowed", claims.end_stalled)
        return None

    def _end_process(self, end: _End) -> None:
        log.error(
            "job %s: attempt %d hangs (%s); ending this worker process",
            *(self._claim.job_id, self._claim.attempt, end.reason),
        )
        recording = Thread(target=self._record, args=(end,), daemon=True)
        recording.start()
        recording.join(RECORD_SECONDS)
        self._replace_worker()

    def _record(self, end: _End) -> None:
        try:
            with self._database.transaction() as session:
                end.record(session, self._claim)
        except (DatabaseUnavailable, FencedOff) as error:
            log.warning(
                "job %s: cannot record how attempt %d ended (%s); its lease runs out, then it is queued",
                *(self._claim.job_id, self._claim.attempt, error),
            )


def _record_nothing(session: Session, claim: Claim) -> None:
    """Leave the job as it is: it belongs to another worker, or has ended."""
