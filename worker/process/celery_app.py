"""The Celery application of a worker process, with its one task, and the Celery worker that runs it.

Celery only delivers wake-up messages; the job table decides which job runs, and in which worker.
"""

import logging
import os
from collections.abc import Callable

from celery import Celery
from celery.signals import after_setup_logger, worker_shutting_down

from migrations import check_not_newer
from service.queue.messages import EXECUTE_JOB, celery_app, wake_worker
from service.registry.errors import DatabaseTooNew
from service.settings import Settings
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext

log = logging.getLogger(__name__)


def make_app(deployment: Settings, worker_context: WorkerContext) -> Celery:
    """Return the application whose task runs the job that a wake-up message names."""
    app = celery_app(deployment)

    @app.task(name=EXECUTE_JOB)  # type: ignore[untyped-decorator]
    def execute_job(job_id: str) -> None:
        """Run the job, then send a wake-up message for the next job of the same model."""
        if worker_context.shutting_down():
            return
        try:
            check_not_newer(
                worker_context.database
            )  # a newer release may have migrated it since this process started
        except DatabaseTooNew as error:
            log.error("job %s stays queued: %s", job_id, error)
            return
        if next_job := execute(job_id, worker_context):
            wake_worker(next_job, deployment)

    return app


def run(app: Celery, *, log_level: str, on_shutdown: Callable[[], None]) -> int:
    """Run the worker until SIGTERM or Ctrl-C, one task at a time. Returns the exit code.

    on_shutdown: called from the signal handler, so that a running job can stop at its next step.

    Celery's messages between workers are switched off: the job table knows which worker runs what.
    """
    after_setup_logger.connect(_log_jobs_not_messages)
    # Celery holds receivers weakly, and passes arguments.
    worker_shutting_down.connect(lambda **_: on_shutdown(), weak=False)
    worker = app.Worker(
        pool_cls="solo",
        concurrency=1,
        loglevel=log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        no_color=True if os.environ.get("NO_COLOR") else None,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _log_jobs_not_messages(**_: object) -> None:
    """Silence Celery's two log lines per message, for the job logs its own start and end, and Alembic's."""
    for name in ("alembic", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
