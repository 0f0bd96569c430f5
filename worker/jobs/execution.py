"""Run one job from its claim to its end: a new version, a full report, or a recorded failure."""

import logging
import math

from service import failpoints, logs
from service.registry import claims, sweeping
from service.registry.claims import Claim
from service.registry.errors import DatabaseUnavailable, FencedOff
from service.registry.job_specs import EvaluateSpec
from worker.jobs.attempt import Attempt
from worker.jobs.cost import CostMeter
from worker.jobs.evaluation import evaluate_version
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import ModelArchive, WorkerContext, read_work
from worker.jobs.new_version import make_version
from worker.learning.strategy import Stopped, TrainingContext

log = logging.getLogger(__name__)


def execute(job_id: str, worker_context: WorkerContext) -> str | None:
    """Run the job to its end, if it can be claimed. Returns the id of the model's next job, if there is one.

    Raises DatabaseUnavailable if the end of the job cannot be recorded; the job runs again once its lease has
    run out.
    """
    with worker_context.database.transaction() as session:
        claim = claims.claim(
            session, job_id, worker=worker_context.worker, lease_seconds=worker_context.lease_seconds
        )
    if claim is None:
        return None
    failpoints.reach("claim.after_commit")
    with logs.about(job_id=job_id):
        return _execute(claim, worker_context)


def _execute(claim: Claim, worker_context: WorkerContext) -> str | None:
    log.info("job %s: attempt %d started, on model %s", claim.job_id, claim.attempt, claim.model_id)
    with Heartbeat(worker_context.database, claim, lease_seconds=worker_context.lease_seconds) as heartbeat:
        attempt = Attempt(worker_context, claim, heartbeat, CostMeter())
        try:
            _run(attempt)
        except (Stopped, FencedOff) as reason:
            attempt.stop(reason)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            attempt.fail(error)
    with worker_context.database.reading() as session:
        return sweeping.find_next_of_model(session, claim.model_id)


def _run(attempt: Attempt) -> None:
    """Run the job of the attempt.

    Raises Stopped, FencedOff, DatabaseUnavailable, and what the strategy or a judge raises.
    """
    worker_context = attempt.worker_context
    work = read_work(attempt.claim, worker_context)
    context = (DivergingContext if failpoints.is_armed("train.nan") else TrainingContext)(
        worker_context.device,
        work.seed,
        request_seed=work.request_seed,
        archive=ModelArchive(worker_context, work, attempt.meter),
        precision=worker_context.precision,
        on_progress=attempt.report_progress,
        should_stop=attempt.should_stop,
    )
    if isinstance(work.spec, EvaluateSpec):
        evaluate_version(attempt, work, context)
    else:
        make_version(attempt, work, context)


class DivergingContext(TrainingContext):
    """A context whose loss is not a number from the failpoint `train.nan` on. For tests."""

    def step(self, phase: str, step: int, total: int, loss: float | None = None) -> None:
        is_nan = loss is not None and failpoints.is_due("train.nan")
        super().step(phase, step, total, math.nan if is_nan else loss)
