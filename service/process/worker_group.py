"""Run several workers on one machine, one for each GPU, as child processes."""

import logging
from collections.abc import Sequence
from threading import Event

from service.process.worker_process import WorkerProcess
from service.registry.database import Database
from service.registry.waiting import waiting_at_most
from service.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.1
"""How often it is checked that the workers run."""
DATABASE_SECONDS = 2.0
"""How long stopping may wait for the database, to end the lease of a worker that had to be killed."""


def run_workers(planned: Sequence[Settings], database: Database, stop: Event) -> None:
    """Run a worker for each of the settings until `stop` is set, or all have ended because they were drained.

    One that ends otherwise is started again. Raises CannotStart.
    """
    workers = [WorkerProcess(one, database, restarts_after_success=False) for one in planned]
    log.info("running %d workers: %s", len(planned), ", ".join(one.device for one in planned))
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_until_identified(stop)
        while not stop.wait(CHECK_SECONDS) and not all(worker.has_ended for worker in workers):
            for worker in workers:
                worker.check()
    finally:
        for worker in workers:
            worker.request_stop()
        with waiting_at_most(DATABASE_SECONDS):
            for worker in workers:
                worker.stop()
