"""The heartbeat of a running job: it extends the lease, writes the progress and notices a cancel."""

import logging
import time
from threading import Lock
from typing import Any

from service.registry import claims, job_events
from service.registry.claims import Claim, ClaimState
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from worker.jobs.background import Background
from worker.jobs.progress import ProgressHistory, RemainingTime
from worker.jobs.stalling import ProgressClock
from worker.learning.strategy import Progress

log = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS = 0.5
"""A client that cancels or watches a job waits this long at most; a heartbeat costs one small commit."""


MAX_NOTES = 50
"""How many lines for the client are kept while the database does not answer; the oldest are dropped."""
SWEEPER_GRACE_SECONDS = 10.0
"""How much longer the sweeper waits than this process before it ends the claim of a job that stalled."""


class Heartbeat(Background):
    """Sends heartbeats while its `with` block runs, in database sessions of its own."""

    def __init__(
        self, database: Database, claim: Claim, clock: ProgressClock, *, lease_seconds: float
    ) -> None:
        super().__init__(f"heartbeat of {claim.job_id}")
        self._database = database
        self._claim = claim
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._interval = min(LONGEST_INTERVAL_SECONDS, lease_seconds / 4)
        self._remaining = RemainingTime()
        self._history = ProgressHistory()
        self._notes: list[str] = []
        self._notes_lock = Lock()
        self._progress: dict[str, Any] | None = None
        self._recorded_changes = -1
        self._claim_state: ClaimState = "held"
        self._extended_at = time.monotonic()

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

    def note(self, message: str) -> None:
        """Keep a line for the client, until the next heartbeat or the end of the attempt.

        It may name versions, labels and numbers, but no path, host or other secret of the deployment.
        """
        with self._notes_lock:
            self._notes.append(message)
            del self._notes[:-MAX_NOTES]

    def take_notes(self) -> list[str]:
        """Return the lines that are kept, and keep them no longer."""
        with self._notes_lock:
            notes, self._notes = self._notes, []
        return notes

    def put_back(self, notes: list[str]) -> None:
        """Keep these lines again: they could not be recorded."""
        with self._notes_lock:
            self._notes = [*notes, *self._notes][-MAX_NOTES:]

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
        notes = self.take_notes()
        try:
            return self._send_with(notes)
        except BaseException:
            self.put_back(notes)
            raise

    def _send_with(self, notes: list[str]) -> ClaimState:
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
            is_event = progress is not None and has_progressed and self._history.is_due(progress["phase"])
            if state != "lost":
                for message in notes:
                    job_events.add_log(session, self._claim.job_id, message)
                if progress is not None and is_event:
                    job_events.add_progress(session, self._claim.job_id, progress)
        if progress is not None and is_event:
            self._history.note_recorded(progress["phase"])
        self._recorded_changes = changes
        return state
