"""One attempt at a job: whether it may continue, how it writes to the database, and how it ends."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service import failpoints
from service.registry import claims
from service.registry.claims import Claim, ClaimState
from service.registry.errors import DatabaseUnavailable, FencedOff
from worker.jobs.cost import CostMeter
from worker.jobs.failures import describe_failure
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import WorkerContext
from worker.learning.strategy import Progress

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long to wait before a transaction is tried again while the database does not answer."""
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

    def report_progress(self, progress: Progress) -> None:
        """Pass the progress on to the cost meter and the heartbeat. Called at every step of the job."""
        failpoints.reach("train.step")
        self.meter.report_progress(progress)
        self.heartbeat.report_progress(progress)

    def should_stop(self) -> bool:
        """Return whether the job has to stop: it was cancelled or taken over, or the worker shuts down."""
        return self.heartbeat.claim_state != "held" or self.worker_context.shutting_down()

    def stop(self, reason: Exception) -> None:
        """Cancel the job if a client requested that, else put it back in the queue.

        The job stays as it is if another worker has taken it over.
        """

        def settle(session: Session) -> None:
            claim_state = claims.heartbeat(
                session, self.claim, lease_seconds=self.worker_context.lease_seconds, progress=None
            )
            if claim_state == "cancel_requested":
                claims.finish_cancelled(session, self.claim)
            elif claim_state == "held":
                claims.release(session, self.claim)
            log.info(
                "job %s: attempt %d stopped (%s): %s",
                *(self.claim.job_id, self.claim.attempt, reason, STOPPED[claim_state]),
            )

        self.record(settle)

    def fail(self, error: Exception) -> None:
        """End the job as failed, unless it has been cancelled or taken over meanwhile."""
        failure = describe_failure(error, self.claim.job_id)
        log.warning(
            "job %s: attempt %d failed with %s: %s",
            *(self.claim.job_id, self.claim.attempt, failure["code"], failure["message"]),
        )
        try:
            self.record(lambda session: claims.finish_failed(session, self.claim, failure))
        except FencedOff as reason:
            self.stop(reason)

    def record(self, change: Callable[[Session], object]) -> None:
        """Make the change in a transaction, and try again as long as the database does not answer.

        If the connection is lost during COMMIT, the transaction may have been committed or not: `change` must
        have no further effect when it is called again.
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
                time.sleep(RETRY_SECONDS)
