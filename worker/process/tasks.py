"""The one Celery task: hear a bell, execute its job, ring for the next of the same model."""

import logging
import os
from functools import lru_cache
from threading import Event

from celery.signals import worker_shutting_down

from migrations import refuse_newer
from service.queue.messages import EXECUTE_JOB, wake_worker
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import worker_name
from service.registry.database import Database
from service.registry.errors import DatabaseTooNew
from service.settings import settings
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext
from worker.process.celery_app import app
from worker.process.devices import choose_device, choose_precision, compute_reproducibly

log = logging.getLogger(__name__)

_shutting_down = Event()


@app.task(name=EXECUTE_JOB)  # type: ignore[untyped-decorator]
def execute_job(job_id: str) -> None:
    if _shutting_down.is_set():
        return
    try:
        refuse_newer(worker_context().database)  # migrated since
    except DatabaseTooNew as error:
        log.error("job %s stays queued: %s", job_id, error)
        return
    if following := execute(job_id, worker_context()):
        wake_worker(following, settings())


@lru_cache(maxsize=1)
def worker_context() -> WorkerContext:
    deployment = settings()
    compute_reproducibly(deployment.threads)
    device = choose_device(deployment.device)
    return WorkerContext(
        database=Database(deployment.database_url),
        artifacts=FolderArtifacts(deployment.artifacts),
        data=deployment.data,
        judges=deployment.judges,
        device=device,
        precision=choose_precision(deployment.precision, device),
        worker=worker_name(os.getpid()),
        lease_seconds=deployment.lease_seconds,
        shutting_down=_shutting_down.is_set,
    )


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_shutdown(**_: object) -> None:
    """SIGTERM or Ctrl-C: the running job stops at its next step and goes back to the queue."""
    _shutting_down.set()
