"""The sweeper: whatever was lost on the way between the rows and the worker, it sets going again.

What a forget began it ends: it deletes what a purge takes, and signs receipts. It runs beside the API, never
as a job, and may run more than once: the database lets one sweep at a time.
"""

import logging
from threading import Event

from service.queue.messages import messages_waiting, wake_worker
from service.receipts import issuing
from service.receipts.signing import signing_key
from service.registry import jobs, purging, sweeping
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.settings import Settings

log = logging.getLogger(__name__)

MAX_MESSAGES_WAITING = 200
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
    """Take back expired leases, cancel what nobody runs, ring lost bells; then what forgets left to be done.

    Raises DatabaseUnavailable.
    """
    with database.transaction() as session:
        if not sweeping.alone(session):
            return
        sweeping.take_back_expired(session)
        sweeping.cancel_queued(session)
        due = sweeping.due(
            session, notify_again_seconds=deployment.notify_again_seconds, limit=MAX_MESSAGES_WAITING
        )
    if due:
        _ring(database, deployment, due)
    _purge(database, deployment)
    _sign(database, deployment)


def _ring(database: Database, deployment: Settings, due: list[str]) -> None:
    """Ring first, remember after: a crash between the two rings once more, which does no harm."""
    outstanding = messages_waiting(deployment)
    if outstanding is None:
        return
    rung = [
        job_id
        for job_id in due[: max(0, MAX_MESSAGES_WAITING - outstanding)]
        if wake_worker(job_id, deployment)
    ]
    with database.transaction() as session:
        sweeping.rung(session, rung)


def _purge(database: Database, deployment: Settings) -> None:
    """Seal first, delete after, in two transactions: what is being deleted is refused already."""
    with database.reading() as session:
        days = deployment.purge_after_days
        overdue = purging.overdue(session, days=days) if days else []
        unfinished = purging.unfinished(session)
    for job_id in [*overdue, *unfinished]:
        with database.transaction() as session:
            job = jobs.find(session, job_id)
            if job_id in overdue:
                purging.request_purge(session, job, reason="retention")
            purging.begin(session, job)
        try:
            with database.transaction() as session:
                if purging.finish(session, job_id, FolderArtifacts(deployment.artifacts)):
                    log.info("job %s: purged", job_id)
        except OSError as error:
            log.error("job %s: its data cannot be deleted yet: %s", job_id, error)


def _sign(database: Database, deployment: Settings) -> None:
    with database.reading() as session:
        due = issuing.due(session)
    for job_id in due:
        try:
            key, artifacts = signing_key(deployment.keys), FolderArtifacts(deployment.artifacts)
            issuing.issue(database, artifacts, key, job_id)
        except DatabaseUnavailable:
            raise
        except RegistryError as error:
            log.error("job %s: no receipt yet: %s", job_id, error)
