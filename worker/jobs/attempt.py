"""One attempt at a job: whether it may go on, how it records what it did, and how it ends."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.registry import claims
from service.registry.claims import Claim, ClaimState
from service.registry.errors import DatabaseUnavailable, FencedOff
from worker.jobs.cost import CostMeter
from worker.jobs.failures import describe_failure
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import WorkerContext
from worker.learning.strategy import Progress

log = logging.getLogger(__name__)

RECORD_AGAIN_SECONDS = 0.5
STOPPED: dict[ClaimState, str] = {
    "cancel_requested": "cancelled",
    "held": "given back to the queue",
    "lost": "another worker has taken it over; nothing is published here",
}
"""What became of a job that stopped, for the log."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, under the claim that this worker holds."""

    worker_context: WorkerContext
    claim: Claim
    heartbeat: Heartbeat
    meter: CostMeter

    def show(self, progress: Progress) -> None:
        """Called at every step of the job."""
        self.meter.show(progress)
        self.heartbeat.show(progress)

    def should_stop(self) -> bool:
        """Whether the job has to stop at its next step: cancelled, lost, or the worker is shutting down."""
        return self.heartbeat.claim_state != "held" or self.worker_context.shutting_down()

    def stop(self, reason: Exception) -> None:
        """Cancel the job if a client asked for that, else give it back to the queue.

        A job that another worker has taken over is left as it is.
        """

        def settle(session: Session) -> None:
            claim_state = claims.heartbeat(
                session, self.claim, lease_seconds=self.worker_context.lease_seconds, progress=None
            )
            if claim_state == "cancel_requested":
                claims.finish_cancelled(session, self.claim)
            elif claim_state == "held":
                claims.release(session, self.claim)
            log.info("job %s: stopped, %s (%s)", self.claim.job_id, STOPPED[claim_state], reason)

        self.record(settle)

    def fail(self, error: Exception) -> None:
        """End the job as failed, unless it was cancelled or lost meanwhile."""
        failure = describe_failure(error, self.claim.job_id)
        log.warning("job %s: failed, %s: %s", self.claim.job_id, failure["code"], failure["message"])
        try:
            self.record(lambda session: claims.finish_failed(session, self.claim, failure))
        except FencedOff as reason:
            self.stop(reason)

    def record(self, change: Callable[[Session], object]) -> None:
        """Make the change in a transaction, again and again while the database does not answer.

        A transaction whose COMMIT got no answer may have been committed: `change` must notice that by itself.
        Raises DatabaseUnavailable once the lease has run out, when another worker may have the job.
        """
        while True:
            try:
                with self.worker_context.database.transaction() as session:
                    change(session)
                return
            except DatabaseUnavailable:
                if self.heartbeat.claim_state == "lost":
                    raise
                time.sleep(RECORD_AGAIN_SECONDS)
