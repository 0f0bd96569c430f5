"""The worker process: `python -m celery --app worker.process.celery_app worker --pool solo` (or `palimpsest worker`).

One process, one job at a time. Celery only delivers bells; the job table decides what is run, and by whom.
"""

import logging
import sys

from celery.signals import after_setup_logger, worker_init

from service.queue.messages import celery_app
from service.settings import settings

app = celery_app(settings())
app.conf.imports = ("worker.process.tasks",)


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _log_jobs_not_bells(**_: object) -> None:
    for chatter in ("alembic", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatter).setLevel(logging.WARNING)


@worker_init.connect  # type: ignore[untyped-decorator]
def _prepare(**_: object) -> None:
    """Pay for torch and the device before the first job rings; end at once if the device is not there."""
    from worker.process.devices import DeviceUnavailable
    from worker.process.tasks import worker_context

    try:
        worker_context()
    except DeviceUnavailable as error:
        sys.exit(f"palimpsest: {error}")
