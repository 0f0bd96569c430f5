"""The heartbeat of a running job: it extends the lease, writes the progress and notices a cancel."""

import logging
import time
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from service.registry import claims
from service.registry.claims import Claim, ClaimState
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from worker.jobs.progress import RemainingTime
from worker.jobs.stalling import ProgressClock
from worker.learning.strategy import Progress

log = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS = 0.5
"""A client that cancels or watches a job waits this long at most; a heartbeat costs one small commit."""


SWEEPER_GRACE_SECONDS = 10.0
"""How much longer the sweeper waits than this process before it ends the claim of a job that stalled."""


class Heartbeat:
    """Sends heartbeats while its `with` block runs, in database sessions of its own."""

    def __init__(
        self, database: Database, claim: Claim, clock: ProgressClock, *, lease_seconds: float
    ) -> None:
        self._database = database
        self._claim = claim
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._interval = min(LONGEST_INTERVAL_SECONDS, lease_seconds / 4)
        self._remaining = RemainingTime()
        self._progress: dict[str, Any] | None = None
        self._recorded_changes = -1
        self._claim_state: ClaimState = "held"
        self._extended_at = time.monotonic()
        self._ended = Event()
        self._thread = Thread(target=self._run, name=f"heartbeat of {claim.job_id}", daemon=True)

    @property
    def claim_state(self) -> ClaimState:
        """The state of the claim, as the last heartbeat that the database answered found it.

        While the database does not answer the job goes on. If another worker has claimed it meanwhile, the
        next answer says so; until then neither can publish without the database.
        """
        return self._claim_state

    @property
    def is_answered(self) -> bool:
        """Whether a heartbeat has succeeded within the last lease."""
        return time.monotonic() - self._extended_at < self._lease_seconds

    def report_progress(self, progress: Progress) -> None:
        """Keep the progress for the next heartbeat. Cheap, because it is called at every training step."""
        self._progress = {**progress._asdict(), "eta_seconds": self._remaining.estimate(progress)}
        self._clock.report(progress.phase, progress.step)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while self._claim_state != "lost" and not self._ended.wait(self._interval):
            sent_at = time.monotonic()
            try:
                self._claim_state = self._send()
                if not self.is_answered:
                    log.info("job %s: the database answers again; the job goes on", self._claim.job_id)
                self._extended_at = sent_at
            except DatabaseUnavailable as error:
                log.warning(
                    "job %s: cannot extend its lease of %g s: no answer from the database (%s); the job goes "
                    "on, trying again",
                    *(self._claim.job_id, self._lease_seconds, error.reason),
                )
            except Exception:
                log.exception(
                    "job %s: a heartbeat failed with an unexpected error; attempt %d stops at its next step",
                    *(self._claim.job_id, self._claim.attempt),
                )
                self._claim_state = "lost"

    def _send(self) -> ClaimState:
        changes, progress = self._clock.changes, self._progress
        has_progressed = progress is not None and changes != self._recorded_changes
        remaining = self._clock.limit_seconds - self._clock.silent_seconds
        with self._database.transaction() as session:
            state = claims.heartbeat(
                session,
                self._claim,
                lease_seconds=self._lease_seconds,
                stall_seconds=remaining + SWEEPER_GRACE_SECONDS,
                progress=progress if has_progressed else None,
            )
        self._recorded_changes = changes
        return state
