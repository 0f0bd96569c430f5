"""/v1/webhooks: tell other programs what happens in a project, by Standard Webhooks."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.idempotency import Idempotent
from service.api.job_objects import POLL_SECONDS
from service.api.paging import CURSOR_RULE, Listing, PageQuery, build_listing, parse_id
from service.api.refusals import refuses
from service.api.route import Route
from service.hanging import BoundedCalls
from service.registry import webhooks
from service.registry.errors import TooManyMessages, TooManyWebhooks, UnknownDelivery, UnknownWebhook
from service.registry.tables import WebhookDeliveryRow, WebhookRow
from service.registry.webhooks import MESSAGE_TYPES, MessageType
from service.requests.fields import Body
from service.requests.violations import InvalidRequest, Violation
from service.webhook_addresses import MAX_URL_CHARACTERS, BadAddress, resolve

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=Route)


class CreateWebhook(Body):
    """A webhook to create."""

    url: str = Field(
        max_length=MAX_URL_CHARACTERS,
        description="Where to send the messages: an https URL on the public internet.",
    )
    types: list[MessageType] = Field(
        min_length=1,
        max_length=len(MESSAGE_TYPES),
        description="What to tell. `job.finished`: a job has ended, in whatever way; `version.published`; "
        "`label.forgotten`: one message for each label; `label.relapsed`: a new version draws a forgotten "
        "label more often than allowed.",
    )


class WebhookObject(BaseModel):
    """A webhook, without its secret."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    types: list[str]
    disabled_at: datetime | None = Field(
        description="When the service gave up: a message could not be delivered for three days, or the "
        "receiver said that it is gone (410). Create it again to go on."
    )
    created_by: str | None = Field(description="The id of the API key that created it.")
    created_at: datetime


class NewWebhookObject(WebhookObject):
    """A webhook that was just created. Nobody can read its secret again."""

    secret: str | None = Field(
        description="The secret that signs the messages, for the libraries of Standard Webhooks. Null in the "
        "answer to a repeated request: it is shown once."
    )


class DeliveryObject(BaseModel):
    """A message, and what became of it."""

    id: str = Field(description="The header `webhook-id` of the message, the same in each attempt.")
    object: Literal["webhook.delivery"] = "webhook.delivery"
    type: str
    data: dict[str, Any]
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    status: int | None = Field(description="The HTTP status of the last answer.")
    error: str | None = Field(description="Why the last attempt does not count.")
    next_at: datetime | None = Field(description="When it is sent next, while it is pending.")
    created_at: datetime
    finished_at: datetime | None


LOOK_UPS = BoundedCalls(1.0)
"""For looking up names of hosts, which may hang."""


@router.post("", status_code=201)
@requires("admin")
@refuses(
    UnknownWebhook,
    TooManyWebhooks,
    invalid_url="the URL is malformed, or its host is not on the public internet",
)
def create_webhook(
    body: CreateWebhook, context: Context, response: Response, once: Idempotent
) -> NewWebhookObject:
    """Create a webhook. The answer is the only one that has its secret.

    Messages are sent as POST requests with the headers `webhook-id`, `webhook-timestamp` and
    `webhook-signature`. An answer with a status from 200 to 299 counts as delivered. Otherwise the message is
    sent again, ever more rarely, for three days. A message may arrive twice, and messages in
    another order than things happened. No redirect is followed. If more than 1000 messages of a webhook wait,
    the oldest are given up.
    """
    response.headers["Cache-Control"] = "no-store"
    _check_address(body.url, context)
    with context.database.transaction() as session:
        if answered := once.begin(session):
            row = webhooks.find(session, answered.resource_id, project=context.project)
            created = NewWebhookObject(**_describe(row).model_dump(), secret=None)
        else:
            row = webhooks.create(
                session,
                project=context.project,
                url=body.url,
                types=body.types,
                created_by=context.caller.key_id,
            )
            context.append_to_audit_log(session, "webhook.create", row.id, url=row.url, types=row.types)
            once.record(session, 201, row.id)
            created = NewWebhookObject(**_describe(row).model_dump(), secret=row.secret)
    response.headers["Location"] = f"/v1/webhooks/{created.id}"
    return created


@router.get("")
@requires("admin")
@refuses(invalid_cursor=CURSOR_RULE)
def list_webhooks(
    page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[WebhookObject]:
    """List the webhooks of the project, newest first. None has its secret."""
    with context.database.reading() as session:
        rows, has_more = webhooks.page(
            session, project=context.project, limit=page.limit, after=parse_id(page.after, "whk")
        )
        data = [_describe(row) for row in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/{webhook}")
@requires("admin")
@refuses(UnknownWebhook)
def get_webhook(webhook: str, context: Context) -> WebhookObject:
    """Read a webhook, by its id."""
    with context.database.reading() as session:
        return _describe(webhooks.find(session, webhook, project=context.project))


@router.delete("/{webhook}", status_code=204)
@requires("admin")
@refuses(UnknownWebhook)
def delete_webhook(webhook: str, context: Context) -> None:
    """Delete a webhook and the list of its messages. One that is being sent may still arrive."""
    with context.database.transaction() as session:
        row = webhooks.find(session, webhook, project=context.project)
        webhooks.remove(session, row)
        context.append_to_audit_log(session, "webhook.delete", row.id, url=row.url)


@router.get("/{webhook}/deliveries")
@requires("admin")
@refuses(UnknownWebhook, invalid_cursor=CURSOR_RULE)
def list_deliveries(
    webhook: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[DeliveryObject]:
    """List the messages of a webhook and what became of them, newest first. They are kept for 30 days."""
    with context.database.reading() as session:
        row = webhooks.find(session, webhook, project=context.project)
        rows, has_more = webhooks.page_of_deliveries(
            session, row, limit=page.limit, after=parse_id(page.after, "msg")
        )
        data = [_describe_delivery(one) for one in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/{webhook}/deliveries/{delivery}")
@requires("admin")
@refuses(UnknownWebhook, UnknownDelivery)
def get_delivery(webhook: str, delivery: str, context: Context) -> DeliveryObject:
    """Read a message of a webhook and what became of it, by its id."""
    with context.database.reading() as session:
        row = webhooks.find(session, webhook, project=context.project)
        found = webhooks.find_delivery(session, row, delivery)
        if found is None:
            raise UnknownDelivery(row.id, delivery)
        return _describe_delivery(found)


@router.post("/{webhook}/test", status_code=202)
@requires("admin")
@refuses(UnknownWebhook, TooManyMessages)
def test_webhook(webhook: str, context: Context, response: Response, once: Idempotent) -> DeliveryObject:
    """Send a message of the type `webhook.test`. `Location` shows what became of it.

    While 20 such messages wait, further ones are refused with 429 `too_many_messages`.
    """
    with context.database.transaction() as session:
        row = webhooks.find(session, webhook, project=context.project)
        answered = once.begin(session)
        sent = webhooks.find_delivery(session, row, answered.resource_id) if answered else None
        if sent is None:
            sent = webhooks.queue_ping(session, row)
            once.record(session, 202, sent.id)
            context.append_to_audit_log(session, "webhook.test", row.id)
        described = _describe_delivery(sent)
    response.headers["Location"] = f"/v1/webhooks/{row.id}/deliveries/{described.id}"
    if described.state == "pending":
        response.headers["Retry-After"] = POLL_SECONDS
    return described


def _check_address(url: str, context: ApiContext) -> None:
    """Raise InvalidRequest if no message may be sent there."""
    try:
        LOOK_UPS.call(resolve, url, allow_private=context.settings.webhooks_to_private_addresses)
    except BadAddress as error:
        raise InvalidRequest(Violation("/url", "invalid_url", str(error))) from error
    except TimeoutError:
        detail = "its host could not be looked up in time; try again in a moment"
        raise InvalidRequest(Violation("/url", "invalid_url", detail)) from None


def _describe(row: WebhookRow) -> WebhookObject:
    return WebhookObject(
        id=row.id,
        url=row.url,
        types=row.types,
        disabled_at=row.disabled_at,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _describe_delivery(row: WebhookDeliveryRow) -> DeliveryObject:
    return DeliveryObject(
        id=row.id,
        type=row.type,
        data=row.data,
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        error=row.error,
        next_at=row.next_at if row.state == "pending" else None,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
