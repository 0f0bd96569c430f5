"""The sweeper: whatever was lost on the way between the rows and the worker, it sets going again.

It runs beside the API, never as a job, and may run more than once: the database lets one sweep at a time.
"""

import logging
from threading import Event

from service.messages import bells_outstanding, wake_worker
from service.registry import sweeping
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.settings import Settings

log = logging.getLogger(__name__)

MOST_BELLS = 200
"""Bells in the broker beyond which no more are rung: a worker that wakes at all empties them in a moment."""


def sweep_until(stop: Event, database: Database, deployment: Settings) -> None:
    """Sweep every `sweep_seconds`, through outages of the database and the broker, until told to stop."""
    answered = True
    while not stop.is_set():
        try:
            sweep(database, deployment)
            answered = True
        except DatabaseUnavailable as error:
            if answered:
                log.warning("cannot sweep: %s (%s)", error.message, error.reason)
            answered = False
        except Exception:
            log.exception("a sweep failed; the next one tries again")
        stop.wait(deployment.sweep_seconds)


def sweep(database: Database, deployment: Settings) -> None:
    """Take back expired leases, cancel what nobody runs, ring lost bells. Raises DatabaseUnavailable."""
    with database.transaction() as session:
        if not sweeping.alone(session):
            return
        sweeping.take_back_expired(session)
        sweeping.cancel_queued(session)
        due = sweeping.due(session, ring_again_seconds=deployment.ring_again_seconds, limit=MOST_BELLS)
    if due:
        _ring(database, deployment, due)


def _ring(database: Database, deployment: Settings, due: list[str]) -> None:
    """Ring first, remember after: a crash between the two rings once more, which does no harm."""
    outstanding = bells_outstanding(deployment)
    if outstanding is None:
        return
    rung = [job_id for job_id in due[: max(0, MOST_BELLS - outstanding)] if wake_worker(job_id, deployment)]
    with database.transaction() as session:
        sweeping.rung(session, rung)
