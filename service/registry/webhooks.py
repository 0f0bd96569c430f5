"""Webhooks: created, listed and deleted; their messages queued, taken, retried and given up.

What there is to tell follows from jobs that have ended. That a job has ended and nobody was informed yet
stands in its row from the transaction that ends it (`audited_at`), so nothing can be lost in between; the
sweeper then queues the messages in the transaction that adds the job's end to the audit log. So there is no
place that ends jobs and forgets the webhooks, and workers of an earlier release need not know of them.
"""

import base64
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from reports import UnreadableReport, read_report
from service.registry.database import from_now, now, unless_deleted
from service.registry.errors import TooManyMessages, TooManyWebhooks, UnknownWebhook
from service.registry.names import is_storable
from service.registry.pages import Page, newest_first
from service.registry.tables import JobRow, VersionRow, WebhookDeliveryRow, WebhookRow, new_id

log = logging.getLogger(__name__)

MessageType = Literal["job.finished", "label.forgotten", "label.relapsed", "version.published"]
MESSAGE_TYPES: tuple[MessageType, ...] = get_args(MessageType)
PING = "webhook.test"
"""The type of the message that a client has sent to try a webhook."""

MAX_WEBHOOKS = 20
"""How many webhooks a project may have."""
SECRET_BYTES = 32
RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long to wait after each attempt that failed, as Standard Webhooks proposes: three days in all."""
TAKEN_SECONDS = 60.0
"""How long a process has for one attempt before another may take the message."""
KEPT_DAYS = 30
MAX_PENDING = 1000
"""How many messages of one webhook may wait. Of more, the oldest are given up."""
MAX_PENDING_PINGS = 20
"""How many messages that only try a webhook may wait."""


@dataclass(frozen=True)
class Turn:
    """A webhook whose oldest message is to be sent now."""

    project_id: str
    webhook_id: str
    message_id: str


@dataclass(frozen=True)
class Taken:
    """A message that this process is to send now."""

    id: str
    webhook_id: str
    type: str
    data: Mapping[str, Any]
    created_at: str
    url: str
    secret: str
    attempts: int
    """Which attempt this is, from 1."""


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt."""

    status: int | None
    error: str | None
    """None if the receiver has accepted the message."""


def create(
    session: Session, *, project: str, url: str, types: Collection[str], created_by: str | None
) -> WebhookRow:
    """Create a webhook with a new secret. Raises TooManyWebhooks, UnknownProject."""
    count = session.scalar(select(func.count()).where(WebhookRow.project_id == project)) or 0
    if count >= MAX_WEBHOOKS:
        raise TooManyWebhooks(MAX_WEBHOOKS)
    row = WebhookRow(
        id=new_id("whk"),
        project_id=project,
        url=url,
        types=[one for one in MESSAGE_TYPES if one in types],
        secret="whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode(),
        created_by=created_by,
    )
    session.add(row)
    with unless_deleted(project):
        session.flush()
    session.refresh(row)
    return row


def find(session: Session, webhook_id: str, *, project: str) -> WebhookRow:
    """Return the project's webhook of that id. Raises UnknownWebhook."""
    row = session.get(WebhookRow, webhook_id) if is_storable(webhook_id) else None
    if row is None or row.project_id != project:
        raise UnknownWebhook(webhook_id)
    return row


def page(session: Session, *, project: str, limit: int, after: str | None) -> Page[WebhookRow]:
    """Return the project's newest webhooks, or those older than the id `after`."""
    query = select(WebhookRow).where(WebhookRow.project_id == project)
    return newest_first(session, query, WebhookRow.id, limit=limit, after=after)


def page_of_deliveries(
    session: Session, webhook: WebhookRow, *, limit: int, after: str | None
) -> Page[WebhookDeliveryRow]:
    """Return the newest messages of a webhook, or those older than the id `after`."""
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook.id)
    return newest_first(session, query, WebhookDeliveryRow.id, limit=limit, after=after)


def find_delivery(session: Session, webhook: WebhookRow, message_id: str) -> WebhookDeliveryRow | None:
    """Return the webhook's message of that id; None if there is none any more."""
    row = session.get(WebhookDeliveryRow, message_id) if is_storable(message_id) else None
    return row if row is not None and row.webhook_id == webhook.id else None


def remove(session: Session, webhook: WebhookRow) -> None:
    """Delete the webhook and its messages. One that is being sent may still arrive."""
    of_webhook = delete(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook.id)
    session.execute(of_webhook.execution_options(synchronize_session=False))
    session.delete(webhook)
    session.flush()


def queue_ping(session: Session, webhook: WebhookRow) -> WebhookDeliveryRow:
    """Queue a message that only tries the webhook. Raises TooManyMessages while too many of them wait."""
    waiting = select(func.count()).where(
        WebhookDeliveryRow.webhook_id == webhook.id,
        WebhookDeliveryRow.state == "pending",
        WebhookDeliveryRow.type == PING,
    )
    if (session.scalar(waiting) or 0) >= MAX_PENDING_PINGS:
        raise TooManyMessages(MAX_PENDING_PINGS)
    row = _message(webhook, PING, {"webhook": webhook.id})
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def queue_for(session: Session, ended: Sequence[JobRow]) -> None:
    """Queue what webhooks want to know of jobs that have just ended. For the sweeper alone."""
    projects = {job.model.project_id for job in ended}
    if not projects:
        return
    query = select(WebhookRow).where(WebhookRow.project_id.in_(projects), WebhookRow.disabled_at.is_(None))
    listening = list(session.scalars(query))
    for job in ended if listening else ():
        messages = list(_tell(session, job))
        for webhook in (one for one in listening if one.project_id == job.model.project_id):
            session.add_all(_message(webhook, type, data) for type, data in messages if type in webhook.types)
    session.flush()
    if listening:
        _give_up_excess(session, [one.id for one in listening])


def is_any_due(session: Session) -> bool:
    """Whether a message is to be sent now."""
    return session.scalar(_ANY_DUE) is not None


def find_turns(session: Session, *, busy: Collection[str] = (), limit: int) -> list[Turn]:
    """Return the webhooks that have a message to send now, each once, but those that are `busy`.

    However many messages and webhooks a project has, each project with something to send has its first
    webhook among them before any has its second.
    """
    oldest = (
        select(
            WebhookDeliveryRow.id,
            WebhookDeliveryRow.webhook_id,
            WebhookDeliveryRow.next_at,
            func.row_number()
            .over(
                partition_by=WebhookDeliveryRow.webhook_id,
                order_by=(WebhookDeliveryRow.next_at, WebhookDeliveryRow.id),
            )
            .label("place"),
        )
        .where(_IS_DUE, WebhookDeliveryRow.webhook_id.not_in(busy))
        .subquery()
    )
    place_in_project = func.row_number().over(
        partition_by=WebhookRow.project_id, order_by=(oldest.c.next_at, oldest.c.id)
    )
    turns = (
        select(WebhookRow.project_id, oldest.c.webhook_id, oldest.c.id)
        .join(WebhookRow, WebhookRow.id == oldest.c.webhook_id)
        .where(oldest.c.place == 1)
        .order_by(place_in_project, oldest.c.next_at)
        .limit(limit)
    )
    return [Turn(*row) for row in session.execute(turns)]


def take(session: Session, turns: Collection[Turn]) -> list[Taken]:
    """Return the messages of these turns, and keep other processes from sending them for TAKEN_SECONDS.

    Those that another process has taken since are left out.
    """
    due = (
        select(WebhookDeliveryRow, WebhookRow)
        .join(WebhookRow, WebhookRow.id == WebhookDeliveryRow.webhook_id)
        .where(_IS_DUE, WebhookDeliveryRow.id.in_([one.message_id for one in turns]))
        .with_for_update(skip_locked=True, of=WebhookDeliveryRow)
    )
    taken = [
        Taken(
            id=row.id,
            webhook_id=webhook.id,
            type=row.type,
            data=row.data,
            created_at=row.created_at.isoformat(),
            url=webhook.url,
            secret=webhook.secret,
            attempts=row.attempts + 1,
        )
        for row, webhook in session.execute(due)
    ]
    lease = update(WebhookDeliveryRow).where(WebhookDeliveryRow.id.in_([one.id for one in taken]))
    lease = lease.values(next_at=from_now(TAKEN_SECONDS), attempts=WebhookDeliveryRow.attempts + 1)
    session.execute(lease.execution_options(synchronize_session=False))
    return taken


def record(session: Session, message: Taken, outcome: Outcome) -> None:
    """Record what came of an attempt: delivered, to be sent again later, or given up.

    A webhook is disabled once a message was given up, or if its receiver says that it is gone (410). Nothing
    is recorded of an attempt after which another process has begun one.
    """
    row = session.get(WebhookDeliveryRow, message.id, with_for_update=True, populate_existing=True)
    if row is None or row.state != "pending" or row.attempts != message.attempts:
        return
    row.status, row.error = outcome.status, None if outcome.error is None else outcome.error[:200]
    if outcome.error is None:
        row.state, row.finished_at = "delivered", now()
    elif outcome.status != 410 and row.attempts <= len(RETRY_SECONDS):
        row.next_at = from_now(RETRY_SECONDS[row.attempts - 1])
    else:
        row.state, row.finished_at = "failed", now()
        if row.type != PING:
            _disable(session, row.webhook_id)
    session.flush()


def delete_old(session: Session) -> None:
    """Delete messages that were delivered or given up, KEPT_DAYS after they were made."""
    old = delete(WebhookDeliveryRow).where(
        WebhookDeliveryRow.state != "pending",
        WebhookDeliveryRow.created_at < from_now(-KEPT_DAYS * 86400),
    )
    session.execute(old.execution_options(synchronize_session=False))


_IS_DUE = and_(WebhookDeliveryRow.state == "pending", WebhookDeliveryRow.next_at <= now())
_ANY_DUE = select(WebhookDeliveryRow.id).where(_IS_DUE).limit(1)


def _give_up_excess(session: Session, webhook_ids: Collection[str]) -> None:
    """Give up the oldest messages of each of these webhooks, so that at most MAX_PENDING wait."""
    pending = (WebhookDeliveryRow.state == "pending", WebhookDeliveryRow.webhook_id.in_(webhook_ids))
    newest_first = func.row_number().over(
        partition_by=WebhookDeliveryRow.webhook_id, order_by=WebhookDeliveryRow.id.desc()
    )
    ranked = select(WebhookDeliveryRow.id, newest_first.label("place")).where(*pending).subquery()
    excess = update(WebhookDeliveryRow).where(
        WebhookDeliveryRow.id.in_(select(ranked.c.id).where(ranked.c.place > MAX_PENDING))
    )
    values = {"state": "failed", "finished_at": now(), "error": f"more than {MAX_PENDING} messages waited"}
    session.execute(excess.values(values).execution_options(synchronize_session=False))


def _disable(session: Session, webhook_id: str) -> None:
    webhook = session.get_one(WebhookRow, webhook_id, with_for_update=True, populate_existing=True)
    webhook.disabled_at = webhook.disabled_at or now()
    left = update(WebhookDeliveryRow).where(
        WebhookDeliveryRow.webhook_id == webhook_id, WebhookDeliveryRow.state == "pending"
    )
    values = {"state": "failed", "finished_at": now(), "error": "the webhook was disabled"}
    session.execute(left.values(values).execution_options(synchronize_session=False))


def _message(webhook: WebhookRow, type: str, data: Mapping[str, Any]) -> WebhookDeliveryRow:
    return WebhookDeliveryRow(id=new_id("msg"), webhook_id=webhook.id, type=type, data=dict(data))


def _tell(session: Session, job: JobRow) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (type, data) of all that there is to tell of a job that has ended."""
    model = {"model": job.model_id, "model_name": job.model.name}
    ended = {"job": job.id, "operation": job.operation, "state": job.state}
    yield "job.finished", model | ended | {"code": (job.error or {}).get("code")}
    if job.state != "succeeded" or job.output_version is None:
        return
    version = model | {"version": job.output_version, "job": job.id}
    yield "version.published", version
    if job.operation == "forget":
        for label in job.labels:
            yield "label.forgotten", version | {"label": label, "guarantee": job.guarantee}
    published = select(VersionRow.report).where(VersionRow.job_id == job.id)
    report = session.scalar(published)
    for label in _relapsed(job.id, report):
        yield "label.relapsed", version | {"label": label}


def _relapsed(job_id: str, report: Mapping[str, Any] | None) -> Sequence[str]:
    try:
        return read_report(report).relapsed if report else ()
    except UnreadableReport as error:  # it will not become readable: the other messages do without
        log.error(
            "job %s: webhooks are not told of relapses, as its report is unreadable (%s)", job_id, error
        )
        return ()
