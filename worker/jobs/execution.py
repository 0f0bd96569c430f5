"""Run one job from its claim to its end: a new version, a full report, or a recorded failure."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress

from service import failpoints, logs
from service.registry import claims, export_parts, releases, snapshots, sweeping
from service.registry.claims import Claim
from service.registry.errors import DatabaseUnavailable, FencedOff
from service.registry.job_specs import EvaluateSpec
from service.registry.sweeping import NextJob
from worker.jobs.attempt import RETRY_SECONDS, Attempt
from worker.jobs.code_version import CODE
from worker.jobs.compatibility import is_for_another_worker
from worker.jobs.cost import CostMeter
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import ModelArchive, WorkerContext, forget_uploaded_images, read_work
from worker.jobs.snapshots import JobSnapshots
from worker.jobs.stalling import ProgressClock
from worker.jobs.store_failures import StoreUnavailable
from worker.jobs.watchdog import Watchdog
from worker.learning.strategy import Stopped, TrainingContext

log = logging.getLogger(__name__)


def execute(
    job_id: str, worker_context: WorkerContext, *, on_claim: Callable[[], object] = lambda: None
) -> NextJob | None:
    """Run the job to its end, if it can be claimed. Returns the model's next job, if there is one.

    on_claim: called once the job is claimed.
    Raises DatabaseUnavailable if the end of the job cannot be recorded; the job runs again once its lease has
    run out.
    """
    if is_for_another_worker(job_id, worker_context):
        return None
    claim = _claim(job_id, worker_context)
    if claim is None:
        return None
    on_claim()
    failpoints.reach("claim.after_commit")
    with logs.about(job_id=job_id, request_id=claim.request_id, trace_id=claim.trace_id):
        return _execute(claim, worker_context)


def _execute(claim: Claim, worker_context: WorkerContext) -> NextJob | None:
    log.info("job %s: attempt %d started, on model %s", claim.job_id, claim.attempt, claim.model_id)
    database, clock = worker_context.database, ProgressClock(worker_context.stall_seconds)
    with Heartbeat(database, claim, clock, lease_seconds=worker_context.lease_seconds) as heartbeat:
        watchdog = Watchdog(
            database,
            claim,
            heartbeat,
            clock,
            shutting_down=worker_context.shutting_down,
            replace_worker=worker_context.replace_worker,
        )
        attempt = Attempt(worker_context, claim, heartbeat, CostMeter(), clock, watchdog)
        with watchdog:
            try:
                _run_to_its_end(attempt)
            finally:
                forget_uploaded_images()
    if claim.export_id is not None:
        from worker.jobs.exporting import settle

        settle(database)
        with database.reading() as session:
            return export_parts.find_next(session, claim.export_id)
    _delete_snapshot(claim, worker_context)
    with database.reading() as session:
        return sweeping.find_next_of_model(session, claim.model_id)


def _claim(job_id: str, worker_context: WorkerContext) -> Claim | None:
    """Claim the job, if it is queued.

    If the connection breaks during COMMIT, the job may have been claimed or not; the row then says which.
    """
    worker, lease_seconds = worker_context.worker, worker_context.lease_seconds
    try:
        with worker_context.database.transaction() as session:
            return claims.claim(session, job_id, worker=worker, lease_seconds=lease_seconds)
    except DatabaseUnavailable:
        deadline = time.monotonic() + lease_seconds
        while True:
            time.sleep(RETRY_SECONDS)
            with suppress(DatabaseUnavailable), worker_context.database.reading() as session:
                return claims.find_held(session, job_id, worker=worker)
            if worker_context.shutting_down() or time.monotonic() > deadline:
                raise


def _run_to_its_end(attempt: Attempt) -> None:
    try:
        _run_and_record(attempt)
    except DatabaseUnavailable:
        if attempt.worker_context.shutting_down():
            _note_release(attempt)
        raise


def _note_release(attempt: Attempt) -> None:
    """Note that the job is given up, as the database cannot record it, so that the attempt does not count."""
    try:
        releases.note(attempt.worker_context.artifacts, attempt.claim)
    except OSError as error:
        log.warning(
            "job %s: cannot note that this worker gives it up (%s); it costs the job an attempt",
            *(attempt.claim.job_id, error),
        )


def _run_and_record(attempt: Attempt) -> None:
    try:
        _run(attempt)
    except (Stopped, FencedOff, StoreUnavailable) as reason:
        attempt.stop(reason)
    except DatabaseUnavailable:
        raise
    except Exception as error:
        attempt.fail(error)


def _run(attempt: Attempt) -> None:
    """Run the job of the attempt.

    Raises Stopped, FencedOff, StoreUnavailable, DatabaseUnavailable, and what the strategy or a judge raises.
    """
    worker_context = attempt.worker_context
    if attempt.claim.export_id is not None:
        from worker.jobs.exporting import export_part  # as below

        return export_part(attempt)
    work = attempt.with_retries(lambda: read_work(attempt.claim, worker_context))
    started_from = "no version" if work.base is None else f"version {work.base.number}"
    attempt.note(f"attempt {attempt.claim.attempt} starts from {started_from}")
    context = (DivergingContext if failpoints.is_armed("train.nan") else TrainingContext)(
        worker_context.device,
        work.seed,
        request_seed=work.request_seed,
        archive=ModelArchive(worker_context, work, attempt.meter, attempt.with_retries),
        precision=worker_context.precision,
        on_progress=attempt.report_progress,
        should_stop=attempt.should_stop,
        snapshots=JobSnapshots(attempt),
        code=CODE,
    )
    # Imported with the first job that needs them: judging and ONNX take a quarter of a second.
    if isinstance(work.spec, EvaluateSpec):
        from worker.jobs.evaluation import evaluate_version

        evaluate_version(attempt, work, context)
    else:
        from worker.jobs.new_version import make_version

        make_version(attempt, work, context)


def _delete_snapshot(claim: Claim, worker_context: WorkerContext) -> None:
    """Delete the snapshot of a job that has ended. If that fails, the sweeper does it."""
    try:
        with worker_context.database.reading() as session:
            if snapshots.find(session, claim.job_id) is None:
                return
        with worker_context.database.transaction() as session:
            snapshots.delete_if_obsolete(session, claim.job_id, worker_context.artifacts)
    except (DatabaseUnavailable, OSError) as error:
        log.warning("job %s: cannot delete its snapshot (%s); the sweeper tries again", claim.job_id, error)


class DivergingContext(TrainingContext):
    """A context whose loss is not a number from the failpoint `train.nan` on. For tests."""

    def step(self, phase: str, step: int, total: int, loss: float | None = None) -> None:
        is_nan = loss is not None and failpoints.is_due("train.nan")
        super().step(phase, step, total, math.nan if is_nan else loss)
