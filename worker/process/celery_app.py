"""The Celery application of a worker process, with its one task, and the Celery worker that runs it.

Celery only delivers wake-up messages; the job table decides which job runs, and in which worker.
"""

import logging
import os
from collections.abc import Callable
from threading import Timer

from celery import Celery
from celery.signals import setup_logging, worker_shutting_down

from migrations import check_not_newer
from service import logs
from service.queue.messages import celery_app, wake_worker
from service.queue.received import EXECUTE_JOB
from service.registry.errors import DatabaseTooNew, StoreUnusable
from service.registry.store_identity import check_store
from service.settings import Settings
from worker.jobs.inputs import WorkerContext
from worker.jobs.turns import Turns
from worker.process.ending import Ending

log = logging.getLogger(__name__)

STOP_SECONDS = 15.0
"""How long a worker may take to stop. A job needs less to reach its next step and go back to the queue."""


def make_app(deployment: Settings, worker_context: WorkerContext, ending: Ending) -> Celery:
    """Return the application whose task runs the job whose turn it is."""
    app, turns = celery_app(deployment), Turns()

    @app.task(name=EXECUTE_JOB)  # type: ignore[untyped-decorator]
    def execute_job(job_id: str) -> None:
        """Run the job whose turn it is, then send a wake-up message for the next one of its model."""
        with ending.job() as may_run:
            if not may_run:
                return
            try:
                # A newer release may have migrated it since this process started.
                check_not_newer(worker_context.database)
                check_store(worker_context.database, worker_context.artifacts)
            except (DatabaseTooNew, StoreUnusable) as error:
                log.error("job %s stays queued: %s", job_id, error)
                return
            if next_job := turns.run_one(worker_context):
                wake_worker(next_job.id, deployment, queue=next_job.queue)

    return app


def run(app: Celery, deployment: Settings, *, on_shutdown: Callable[[], None]) -> int:
    """Run the worker until SIGTERM or Ctrl-C, one task at a time. Returns the exit code.

    on_shutdown: called from the signal handler, so that a running job can stop at its next step.

    Celery's messages between workers are switched off: the job table knows which worker runs what.
    """
    # With a receiver of this signal, Celery leaves the configuration of the log to it.
    setup_logging.connect(lambda **_: _log(deployment), weak=False)
    # Celery holds receivers weakly, and passes arguments.
    worker_shutting_down.connect(lambda **_: on_shutdown(), weak=False)
    worker_shutting_down.connect(_exit_in_time, weak=False)
    worker = app.Worker(
        pool_cls="solo",
        concurrency=1,
        loglevel=deployment.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _exit_in_time(**_: object) -> None:
    """End this process STOP_SECONDS from now, even if its job, the broker or the database hangs."""

    def exit_at_once() -> None:
        log.error(
            "the worker has not stopped within %g s, because something hangs: ending it. Its job, if it has "
            "one, is queued again when its lease has run out",
            STOP_SECONDS,
        )
        os._exit(1)

    last_resort = Timer(STOP_SECONDS, exit_at_once)
    last_resort.daemon = True
    last_resort.start()


def _log(deployment: Settings) -> None:
    """Configure the log, without Celery's two lines a message: the job logs its own start and end."""
    logs.configure(level=deployment.log_level, log_format=deployment.log_format)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
