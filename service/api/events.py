"""GET /v1/jobs/{job}/events: what happened to a job, as a list in pages or as a stream."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from service.api.access import Access, required_scopes, requires
from service.api.clients import sharing_client
from service.api.context import ApiContext, Context
from service.api.error_kinds import CONCURRENCY_LIMITED
from service.api.job_objects import ProgressObject, ShownState
from service.api.lookup import find_job
from service.api.middleware import IS_HEAD
from service.api.paging import Listing, Page, build_listing, unknown_cursor
from service.api.problems import build_validation_problem
from service.api.refusals import refuses
from service.api.route import Route, preferred
from service.api.streams import MEDIA_TYPE, EventStream
from service.registry import job_events
from service.registry.errors import UnknownJob
from service.registry.tables import UNFINISHED_STATES, EventType, JobEventRow, JobRow
from service.requests.violations import Violation

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=Route)

MAX_NUMBER = 2**31 - 1


class _Event(BaseModel):
    """What every event has."""

    id: str = Field(
        description="Grows with every event of the job. Pass it as `after` or `Last-Event-ID` to read on."
    )
    object: Literal["job.event"] = "job.event"
    job: str
    created_at: datetime


class StateEvent(_Event):
    """The job has another state."""

    type: Literal["state"] = "state"
    state: ShownState
    done: bool = Field(description="Whether the job has ended; then there are no further events.")
    attempt: int
    code: str | None = Field(description="Why the job failed or was rejected: the `code` of its error.")


class ProgressEvent(_Event):
    """How far the job is. Old ones are thinned out: those that remain show the course of the loss."""

    type: Literal["progress"] = "progress"
    progress: ProgressObject


class LogEvent(_Event):
    """A line about what the job does."""

    type: Literal["log"] = "log"
    message: str


JobEvent: TypeAlias = Annotated[StateEvent | ProgressEvent | LogEvent, Field(discriminator="type")]
_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


class ListingJobEvent(Listing[JobEvent]):
    """One page of the events of a job. Pass `next` as `after` to read the page that follows."""


class EventsQuery(Page):
    """Which events are requested."""

    type: EventType | None = Field(None, description="List only the events of this type.")


@router.get(
    "/{job}/events",
    response_class=Response,
    responses={
        200: {
            "model": ListingJobEvent,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"type": "string"},
                    "example": 'event: state\ndata: {"id": "1", "type": "state", ...}\nid: 1\n\n',
                },
            },
            "description": "A page of events, the oldest first; or, with `Accept: text/event-stream`, the "
            "events as they happen (server-sent events): `data` is the same object as in the list.",
        },
        204: {"description": "The stream that is resumed has ended: there is nothing after `Last-Event-ID`."},
    },
)
@requires("read")
@refuses(
    UnknownJob,
    CONCURRENCY_LIMITED,
    invalid_cursor="`after` or `Last-Event-ID` is not the id of an event",
    unknown_field="a stream takes neither `limit` nor `type`",
)
async def list_job_events(
    job: str,
    page: Annotated[EventsQuery, Query()],
    request: Request,
    context: Context,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="The `id` of the last event that the client has, as browsers send it. It takes the "
            "place of `after`.",
            json_schema_extra={"pattern": "^[0-9]{1,9}$"},
        ),
    ] = None,
) -> Response:
    """Read what happened to a job: its states, its progress with the loss, and lines about what it does.

    With `Accept: text/event-stream` the events are sent as they happen, until the job has ended. A stream
    that ends earlier is resumed with `Last-Event-ID`, as browsers do by themselves; nothing is lost in
    between, and nothing is sent twice. Comments keep the connection alive. Streams have a limit, beyond which
    the answer is 429 `concurrency_limited`. Jobs that an earlier release ran have fewer events. Events are
    deleted some time after the job's end.
    """
    media_type = preferred(request, "application/json", MEDIA_TYPE)
    after = _number(last_event_id, "/header/last-event-id") or _number(page.after, "/query/after") or 0
    row = await context.database_threads.read(_find, job, context)
    if media_type == "application/json":
        return await context.database_threads.read(_list, row.id, page, after, request, context)
    _refuse_fields_of_pages(request)
    if last_event_id is not None and row.done:
        left = await context.database_threads.read(_has_events, row.id, after, context)
        if not left:
            return Response(status_code=204, headers={"Cache-Control": "no-store", "Vary": "Accept"})
    if IS_HEAD in request.scope:
        return Response(media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", "Vary": "Accept"})
    access: Access = request.app.state.access
    scopes = required_scopes(list_job_events)
    return EventStream(
        context.streams,
        row.id,
        after=after,
        client=sharing_client(request, context),
        describe=lambda event: _describe(event).model_dump_json(),
        check_admitted=lambda: access.admit(request, scopes),
    )


def _find(job: str, context: ApiContext) -> JobRow:
    with context.database.reading() as session:
        return find_job(session, context.project, job)


def _list(job_id: str, page: EventsQuery, after: int, request: Request, context: ApiContext) -> Response:
    with context.database.reading() as session:
        found = job_events.page(session, job_id, limit=page.limit, after=after, type=page.type)
        data = [_describe(row) for row in found.rows]
    headers = {"Vary": "Accept"}
    last = data[-1].id if data else None
    listing = build_listing(request, headers, data, has_more=found.has_more, last=last)
    return Response(listing.model_dump_json(), headers=headers, media_type="application/json")


def _has_events(job_id: str, after: int, context: ApiContext) -> bool:
    with context.database.reading() as session:
        return bool(job_events.page(session, job_id, limit=1, after=after).rows)


def _describe(row: JobEventRow) -> StateEvent | ProgressEvent | LogEvent:
    common: dict[str, Any] = {"id": str(row.number), "job": row.job_id, "created_at": row.at}
    if row.type == "state":
        done = row.data["state"] not in (*UNFINISHED_STATES, "cancelling")
        return StateEvent(**common, done=done, **row.data)
    if row.type == "log":
        return LogEvent(**common, message=row.data["message"])
    total = max(row.data["total"], 1)
    fraction = min(row.data["step"] / total, 1.0)
    progress = ProgressObject(**row.data | {"total": total, "fraction": fraction})
    return ProgressEvent(**common, progress=progress)


def _number(text: str | None, pointer: str) -> int | None:
    """Return the number of an event that a cursor names. Raises InvalidRequest."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        if pointer == "/query/after":
            raise unknown_cursor()
        detail = f"{pointer}: send the id of an event"
        raise build_validation_problem(Violation(pointer, "invalid_cursor", detail))
    return int(text)


def _refuse_fields_of_pages(request: Request) -> None:
    """Raise Problem 422 for query parameters that a stream cannot honour."""
    pointers = [f"/query/{name}" for name in ("limit", "type") if name in request.query_params]
    if pointers:
        detail = "a stream has no pages and sends every event; leave it out"
        raise build_validation_problem(
            *(Violation(pointer, "unknown_field", f"{pointer}: {detail}") for pointer in pointers)
        )
