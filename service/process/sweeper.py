"""The sweeper: maintenance that runs every few seconds, so that no job waits for a process that has died.

It queues the jobs of dead workers again, sends lost wake-up messages again, cancels queued jobs, purges files
and signs receipts. It runs beside the API. Several may run: the database lets one of them sweep at a time.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import takewhile
from threading import Event, Thread

from service import metrics
from service.process.contact import Contact
from service.process.expiry import forget_expired
from service.process.failing_alone import failing_alone
from service.process.file_sweep import release_claims, sweep_files
from service.process.webhooks import deliver
from service.queue.messages import count_waiting_messages, wake_worker
from service.queue_names import DEFAULT_QUEUE
from service.registry import audit, idempotency, job_events, sweeping, webhooks, workers
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.tables import JobRow
from service.settings import Settings

log = logging.getLogger(__name__)

MAX_MESSAGES_WAITING = 200
"""No more messages are sent while a queue holds this many. A running worker receives them in a moment."""


OLD_ROWS_SECONDS = 60.0
"""How often rows are deleted whose time is over. It is counted in hours and days."""
STOP_SECONDS = 2.0
"""How long the sweeper may take to stop. What it does is done in transactions, so it may be interrupted."""


def sweep_until(stop: Event, database: Database, deployment: Settings) -> None:
    """Sweep every `sweep_seconds` until `stop` is set, also through outages of the database or the broker.

    The parts of a sweep run in threads of their own: a broker or a disk that hangs delays no takeover.
    """
    contact = Contact(lease_seconds=deployment.lease_seconds, sweep_seconds=deployment.sweep_seconds)
    often, seldom = deployment.sweep_seconds, max(deployment.sweep_seconds, OLD_ROWS_SECONDS)
    parts: list[tuple[Callable[[Database, Settings], None], float, str]] = [
        (partial(sweep_rows, contact=contact), often, "no interrupted job is queued again"),
        (record_ends, often, "the audit log and webhooks do not learn which jobs have ended"),
        (forget_expired, often, "no label that has expired is forgotten"),
        (send_messages, often, "no lost message is sent again"),
        (deliver, often, "no message of a webhook is sent"),
        (sweep_files, often, "no file is purged and no receipt is signed"),
        (delete_old_rows, seldom, "no old row is deleted"),
    ]
    # What workers gave up is released before its lease is found to have expired, unless the disk hangs.
    releasing = Thread(target=_release_at_start, args=(database, deployment), daemon=True)
    releasing.start()
    releasing.join(deployment.lease_seconds)
    threads = [
        Thread(target=_repeat, args=(partial(part, database, deployment), *rest, stop), daemon=True)
        for part, *rest in parts
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def sweep(database: Database, deployment: Settings) -> None:
    """Sweep once: update and delete rows, then send messages, then delete files and sign receipts.

    Raises DatabaseUnavailable.
    """
    sweep_rows(database, deployment)
    record_ends(database, deployment)
    delete_old_rows(database, deployment)
    forget_expired(database, deployment)
    send_messages(database, deployment)
    sweep_files(database, deployment)


def sweep_rows(database: Database, deployment: Settings, contact: Contact | None = None) -> None:
    """Requeue and cancel jobs. Does nothing while another process does so. Raises DatabaseUnavailable.

    Nothing else happens in this transaction, so that nothing else can keep a lease from being taken back.

    contact: of this process with the database. Leases are taken back only while it is steady.
    """
    with database.transaction() as session:
        is_steady = contact is None or contact.is_steady(session)
        if not sweeping.try_sweep_lock(session):
            return
        if sweeping.is_due(session, lease_seconds=deployment.lease_seconds):
            sweeping.shorten_leases(session, lease_seconds=deployment.lease_seconds)
            if is_steady:
                metrics.TAKEOVERS.inc(sweeping.requeue_expired(session) + sweeping.requeue_stalled(session))
            sweeping.cancel_queued(session)
        if contact is not None:
            contact.require_prompt()
    metrics.LAST_SWEEP.set_to_current_time()


def record_ends(database: Database, deployment: Settings) -> None:
    """Write the audit log, and queue what webhooks want to know of jobs that have ended.

    What cannot be told of one job delays no other. Raises DatabaseUnavailable.
    """
    with database.reading() as session:
        if not audit.is_due(session):
            return
    try:
        _record_ends(database)
    except DatabaseUnavailable:
        raise
    except Exception:  # of some job: each is recorded by itself, so that the log says of which
        with database.reading() as session:
            ended = audit.find_ended(session)
        for job_id in ended:
            with failing_alone(f"job {job_id}: record in the audit log and for webhooks how it ended"):
                _record_ends(database, job_id)
    with database.transaction() as session:
        if sweeping.try_sweep_lock(session):
            audit.seal(session)


def _record_ends(database: Database, job_id: str | None = None) -> None:
    """Record how jobs have ended, or this one job. Does nothing while another process does so."""
    with database.transaction() as session:
        if not sweeping.try_sweep_lock(session):
            return
        ended = audit.add_outcomes(session, job_id)
        webhooks.queue_for(session, ended)
    for job in ended:
        _measure(job)


def delete_old_rows(database: Database, deployment: Settings) -> None:
    """Delete the rows whose time is over. Raises DatabaseUnavailable."""
    with failing_alone("delete old idempotency keys"), database.transaction() as session:
        idempotency.delete_expired(session)
    with failing_alone("delete old messages of webhooks"), database.transaction() as session:
        webhooks.delete_old(session)
    if deployment.events_days:
        with failing_alone("delete old events of jobs"), database.transaction() as session:
            job_events.delete_old(session, days=deployment.events_days)


def send_messages(database: Database, deployment: Settings) -> None:
    """Send the messages of jobs that wait without one, then record that. Raises DatabaseUnavailable.

    Only queues that a worker serves get messages again, so that no other fills up with them.
    If this process dies in between, or another one does the same, they are sent twice, which is harmless.
    """
    with database.reading() as session:
        due = {
            queue: sweeping.find_due(
                session,
                queue=queue,
                notify_again_seconds=deployment.notify_again_seconds,
                limit=MAX_MESSAGES_WAITING,
            )
            for queue in sorted({DEFAULT_QUEUE, *workers.find_served(session)})
        }
    notified: list[str] = []
    for queue, job_ids in due.items():
        waiting = count_waiting_messages(deployment, queue) if job_ids else None
        if waiting is None:
            continue
        sent = job_ids[: max(0, MAX_MESSAGES_WAITING - waiting)]
        wake = partial(wake_worker, deployment=deployment, queue=queue)
        notified += takewhile(wake, sent)
    if notified:
        with database.transaction() as session:
            sweeping.mark_notified(session, notified)


def _repeat(part: Callable[[], None], seconds: float, loss: str, stop: Event) -> None:
    """Call the part every so many seconds until `stop` is set. loss: what does not happen without it."""
    database_answers = True
    while not stop.is_set():
        try:
            part()
            database_answers = True
        except DatabaseUnavailable as error:
            if database_answers:
                log.warning(
                    "cannot sweep: the database does not answer (%s); trying again every %g s. Until then %s",
                    *(error.reason, seconds, loss),
                )
            database_answers = False
        except Exception:
            log.exception(
                "a sweep failed with an unexpected error; the next one, in %g s, tries again. Until then %s",
                *(seconds, loss),
            )
        stop.wait(seconds)


def _measure(job: JobRow) -> None:
    """Count the job in the metrics of this process. Each job is measured by one sweeper, once."""
    metrics.JOBS_ENDED.labels(job.operation, job.state).inc()
    metrics.JOB_ATTEMPTS.observe(job.attempt)
    if job.started_at and job.finished_at:
        metrics.JOB_WAIT_SECONDS.observe((job.started_at - job.created_at).total_seconds())
        metrics.JOB_RUN_SECONDS.labels(job.operation).observe(
            (job.finished_at - job.started_at).total_seconds()
        )


def _release_at_start(database: Database, deployment: Settings) -> None:
    with suppress(DatabaseUnavailable, OSError):  # the sweeps that follow say so
        release_claims(database, deployment)
