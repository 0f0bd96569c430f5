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

from service import failpoints, metrics
from service.process import image_deletions
from service.process.contact import Contact
from service.process.expiry import forget_expired
from service.process.webhooks import deliver
from service.queue.messages import count_waiting_messages, wake_worker
from service.receipts import issuing, model_deletion
from service.receipts.signing import load_signing_key
from service.recovery import erasure_log
from service.registry import (
    audit,
    deletions,
    idempotency,
    job_events,
    jobs,
    purging,
    releases,
    snapshots,
    sweeping,
    version_deletions,
    webhooks,
)
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError, SigningKeyUnusable
from service.registry.tables import JobRow
from service.settings import Settings

log = logging.getLogger(__name__)

MAX_MESSAGES_WAITING = 200
"""No more messages are sent while the broker holds this many. A running worker receives them in a moment."""


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
    delete_old_rows(database, deployment)
    forget_expired(database, deployment)
    send_messages(database, deployment)
    sweep_files(database, deployment)


def sweep_rows(database: Database, deployment: Settings, contact: Contact | None = None) -> None:
    """Requeue and cancel jobs, and write the audit log. Does nothing while another process does so.

    Raises DatabaseUnavailable.

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
        ended = audit.add_outcomes(session)
        webhooks.queue_for(session, ended)
        audit.seal(session)
        if contact is not None:
            contact.require_prompt()
    metrics.LAST_SWEEP.set_to_current_time()
    for job in ended:
        _measure(job)


def delete_old_rows(database: Database, deployment: Settings) -> None:
    """Delete the rows whose time is over. Raises DatabaseUnavailable."""
    with database.transaction() as session:
        idempotency.delete_expired(session)
        if deployment.events_days:
            job_events.delete_old(session, days=deployment.events_days)
        webhooks.delete_old(session)


def send_messages(database: Database, deployment: Settings) -> None:
    """Send the messages of jobs that wait without one, then record that. Raises DatabaseUnavailable.

    If this process dies in between, or another one does the same, they are sent twice, which is harmless.
    """
    with database.reading() as session:
        due = sweeping.find_due(
            session, notify_again_seconds=deployment.notify_again_seconds, limit=MAX_MESSAGES_WAITING
        )
    waiting = count_waiting_messages(deployment) if due else None
    if waiting is None:
        return
    due = due[: max(0, MAX_MESSAGES_WAITING - waiting)]
    notified = list(takewhile(lambda job_id: wake_worker(job_id, deployment), due))
    if notified:
        with database.transaction() as session:
            sweeping.mark_notified(session, notified)


def sweep_files(database: Database, deployment: Settings) -> None:
    """Read and delete files, and sign the receipts that are due. Raises DatabaseUnavailable."""
    _release_claims(database, deployment)
    _purge(database, deployment)
    _delete_versions(database, deployment)
    _delete_snapshots(database, deployment)
    image_deletions.delete_images(database, deployment)
    _log_erasures(database, deployment)
    image_deletions.finish_erasures(database)
    _sign_receipts(database, deployment)
    _delete_models(database, deployment)


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
    with suppress(DatabaseUnavailable):  # the sweeps that follow say so
        _release_claims(database, deployment)


def _release_claims(database: Database, deployment: Settings) -> None:
    """Release the jobs of workers that were shut down while the database did not answer."""
    try:
        releases.record(database, FolderArtifacts(deployment.artifacts))
    except OSError as error:
        log.error("cannot read which jobs workers gave up (%s); the next sweep tries again", error)


def _purge(database: Database, deployment: Settings) -> None:
    """Mark versions as purged, then delete their files in a second transaction, when nobody can read them."""
    with database.reading() as session:
        days = deployment.purge_after_days
        overdue = purging.find_overdue(session, days=days) if days else []
        unfinished = purging.find_unfinished(session)
    for job_id in [*overdue, *unfinished]:
        with database.transaction() as session:
            job = jobs.find(session, job_id)
            if job_id in overdue:
                purging.request_purge(session, job, reason="retention")
            purging.mark_purged(session, job)
        failpoints.reach("purge.after_mark")
        try:
            with database.transaction() as session:
                if purging.delete_files(session, job_id, FolderArtifacts(deployment.artifacts)):
                    log.info("job %s: deleted the files of the versions that it purges", job_id)
        except OSError as error:
            log.error(
                "job %s: cannot delete the files that it purges (%s); the next sweep tries again",
                job_id,
                error,
            )


def _delete_versions(database: Database, deployment: Settings) -> None:
    """Delete the files of versions that clients deleted."""
    with database.reading() as session:
        pending = version_deletions.find_pending(session)
    for model_id, number in pending:
        artifacts = FolderArtifacts(deployment.artifacts)
        try:
            with database.transaction() as session:
                if version_deletions.delete_files(session, model_id, number, artifacts):
                    log.info("version %s of model %s: deleted its files", number, model_id)
        except OSError as error:
            log.error(
                "version %s of model %s: cannot delete its files (%s); the next sweep tries again",
                *(number, model_id, error),
            )


def _delete_snapshots(database: Database, deployment: Settings) -> None:
    """Delete the snapshots of jobs that have ended, however they ended."""
    with database.reading() as session:
        obsolete = snapshots.find_obsolete(session)
    for job_id in obsolete:
        try:
            with database.transaction() as session:
                snapshots.delete_if_obsolete(session, job_id, FolderArtifacts(deployment.artifacts))
        except OSError as error:
            log.error("job %s: cannot delete its snapshot (%s); the next sweep tries again", job_id, error)


def _log_erasures(database: Database, deployment: Settings) -> None:
    """Write new erasures to the erasure log. A receipt is signed only after that."""
    try:
        with database.transaction() as session:
            if sweeping.try_sweep_lock(session):
                erasure_log.sweep(session, deployment.erasure_log)
    except OSError as error:
        log.error("cannot write to the erasure log (%s); no receipt is signed until it can be written", error)


def _delete_models(database: Database, deployment: Settings) -> None:
    """Delete the files of models that were deleted with a purge, and sign the receipts of that."""
    with database.reading() as session:
        pending = deletions.find_pending(session)
    for model_id in pending:
        try:
            with database.transaction() as session:
                if deletions.delete_files(session, model_id, FolderArtifacts(deployment.artifacts)):
                    log.info("model %s: deleted its files", model_id)
            model_deletion.sign_receipt(database, load_signing_key(deployment.keys), model_id)
        except SigningKeyUnusable as error:
            log.error("model %s: cannot sign the receipt of its deletion (%s)", model_id, error)
        except OSError as error:
            log.error("model %s: cannot delete its files (%s); the next sweep tries again", model_id, error)


def _sign_receipts(database: Database, deployment: Settings) -> None:
    with database.reading() as session:
        due = issuing.list_jobs_with_receipt_due(session)
    for job_id in due:
        try:
            key, artifacts = load_signing_key(deployment.keys), FolderArtifacts(deployment.artifacts)
            issuing.sign_receipt(database, artifacts, key, job_id)
        except DatabaseUnavailable:
            raise
        except RegistryError as error:
            log.error("job %s: cannot sign its receipt (%s); the next sweep tries again", job_id, error)
