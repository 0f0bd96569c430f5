"""One attempt at a job: whether it may continue, how it writes to the database, and how it ends."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.orm import Session

from service import failpoints
from service.registry import claims, job_events
from service.registry.claims import Claim, ClaimState
from service.registry.errors import DatabaseUnavailable, FencedOff
from worker.jobs.cost import CostMeter
from worker.jobs.failures import STORE_UNAVAILABLE, describe_failure
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import WorkerContext
from worker.jobs.stalling import ProgressClock
from worker.jobs.store_failures import StoreRetries, StoreUnavailable
from worker.jobs.watchdog import Watchdog
from worker.learning.strategy import Progress, Stopped

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long to wait before a transaction is tried again while the database does not answer."""
MAX_STORE_FAILURES = 100
"""How often a job is released because the artifact store does not answer, before it fails: about an hour."""
STOPPED: dict[ClaimState, str] = {
    "cancel_requested": "a client cancelled it",
    "held": "it goes back to the queue",
    "lost": "another worker has taken it over, so this attempt publishes nothing",
}
"""{state of the claim: what happens to the job whose attempt stops}, for the log."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, under the claim that this worker holds."""

    worker_context: WorkerContext
    claim: Claim
    heartbeat: Heartbeat
    meter: CostMeter
    clock: ProgressClock
    watchdog: Watchdog

    def report_progress(self, progress: Progress) -> None:
        """Pass the progress on to the cost meter and the heartbeat. Called at every step of the job."""
        failpoints.reach("train.step")
        self.meter.report_progress(progress)
        self.heartbeat.report_progress(progress)

    def note(self, message: str) -> None:
        """Record a line that clients may read, with the next heartbeat. See Heartbeat.note."""
        self.heartbeat.note(message)

    def should_stop(self) -> bool:
        """Return whether the job has to stop: it was cancelled or taken over, or the worker shuts down."""
        return self.heartbeat.claim_state != "held" or self.worker_context.shutting_down()

    def with_retries(self, action: Callable[[], T]) -> T:
        """Return what the action returns. Call it again while the database or the artifact store fails.

        It waits for the database as long as it takes, and for the artifact store as `StoreRetries` does.
        Raises StoreUnavailable, Stopped, what else the action raises, and DatabaseUnavailable at a shutdown.
        """
        retries = StoreRetries(self.worker_context.artifacts, self.worker_context.store_wait_seconds)
        while True:
            try:
                return action()
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
            except Exception as error:
                pause = retries.pause_after(error)
                if self.should_stop():
                    raise Stopped(f"stopped while waiting for the artifact store ({error})") from error
                self.clock.wait()
                time.sleep(pause)

    def stop(self, reason: Exception) -> None:
        """Cancel the job if a client requested that, else put it back in the queue.

        The job stays as it is if another worker has taken it over.
        """
        self.watchdog.note_stop()
        self.note(f"attempt {self.claim.attempt} stops: {_describe_stop(reason)}")

        def settle(session: Session) -> None:
            claim_state = claims.heartbeat(
                session, self.claim, lease_seconds=self.worker_context.lease_seconds
            )
            if claim_state == "cancel_requested":
                claims.finish_cancelled(session, self.claim)
            elif claim_state == "held":
                self._give_back(session, reason)
            log.info(
                "job %s: attempt %d stopped (%s): %s",
                *(self.claim.job_id, self.claim.attempt, reason, STOPPED[claim_state]),
            )

        self.record(settle)

    def fail(self, error: Exception) -> None:
        """End the job as failed, unless it has been cancelled or taken over meanwhile."""
        failure = describe_failure(error, self.claim.job_id)
        # What is wrong with a request may name labels, which no line of the log does.
        message = "the job has the message" if failure["type"] == "user" else failure["message"]
        log.warning(
            "job %s: attempt %d failed with %s: %s",
            *(self.claim.job_id, self.claim.attempt, failure["code"], message),
        )
        self.note(f"attempt {self.claim.attempt} failed with {failure['code']}: {failure['message']}")
        try:
            self.record(lambda session: claims.finish_failed(session, self.claim, failure))
        except FencedOff as reason:
            self.stop(reason)

    def record(self, change: Callable[[Session], object]) -> None:
        """Make the change in a transaction, and try again as long as the database does not answer.

        If the connection is lost during COMMIT, the transaction may have been committed or not: `change` must
        have no further effect when it is called again.
        Raises FencedOff, and DatabaseUnavailable at a shutdown: the job then runs again after its lease.
        """
        while True:
            notes = self.heartbeat.take_notes()
            try:
                with self.worker_context.database.transaction() as session:
                    # The lease may have run out during an outage, while nobody else claimed the job.
                    claims.take_back(session, self.claim, lease_seconds=self.worker_context.lease_seconds)
                    if notes and claims.is_held(session, self.claim):
                        for message in notes:
                            job_events.add_log(session, self.claim.job_id, message)
                    change(session)
                return
            except DatabaseUnavailable as error:
                self.heartbeat.put_back(notes)
                self._wait_for_database(error)
            except BaseException:
                self.heartbeat.put_back(notes)
                raise

    def _wait_for_database(self, error: DatabaseUnavailable) -> None:
        """Wait a moment. Raises the error if the worker shuts down."""
        if self.worker_context.shutting_down():
            raise error
        self.clock.wait()
        time.sleep(RETRY_SECONDS)

    def _give_back(self, session: Session, reason: Exception) -> None:
        store_failed = isinstance(reason, StoreUnavailable)
        if store_failed and claims.count_store_failures(session, self.claim) >= MAX_STORE_FAILURES:
            claims.finish_failed(session, self.claim, STORE_UNAVAILABLE)
        else:
            claims.release(session, self.claim, store_failed=store_failed)


def _describe_stop(reason: Exception) -> str:
    """Say for the client why an attempt stops, without the paths that the reason may name."""
    match reason:
        case StoreUnavailable():
            return "the artifact store does not answer"
        case FencedOff():
            return "the job was cancelled or taken over"
        case _:
            return "the job was cancelled, or the worker shuts down"
