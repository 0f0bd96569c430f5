"""GET /v1/audit: who requested what, and what became of it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.access import requires
from service.api.context import Context
from service.api.paging import CURSOR_RULE, Listing, Page, build_listing, unknown_cursor
from service.api.refusals import refuses
from service.api.route import Route
from service.registry import audit
from service.registry.tables import AuditRow

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)


class AuditEntryObject(BaseModel):
    """An entry of the audit log. Entries are never changed or removed."""

    sequence: int
    at: datetime
    actor: str = Field(
        description="The id of the API key; `anonymous` where none was needed; `palimpsest` for the service."
    )
    action: str = Field(description="What was done, such as `job.submit`.")
    resource: str = Field(description="The id of what it was done to.")
    project: str | None
    request_id: str | None
    details: dict[str, Any]
    position: int | None = Field(description="Its place in the chain of hashes. Null until it is sealed.")
    hash: str | None = Field(description="The sha256 of the hash before and this entry, null until sealed.")


class AuditQuery(Page):
    """Which entries are requested."""

    action: Annotated[str, Field(json_schema_extra={"pattern": "^[a-z_]+[.][a-z_]+$"})] | None = Field(
        None, max_length=40, description="List only the entries of this action, such as `job.submit`."
    )
    resource: str | None = Field(
        None, max_length=200, description="List only the entries about what has this id."
    )


@router.get("")
@requires("admin")
@refuses(invalid_cursor=CURSOR_RULE)
def list_audit_entries(
    page: Annotated[AuditQuery, Query()], request: Request, response: Response, context: Context
) -> Listing[AuditEntryObject]:
    """List the entries of the audit log, newest first.

    With `action` one page looks at 10,000 entries at most. So it may have fewer entries than `limit`, or
    none, although `has_more` is true: read on with `next`. `palimpsest audit verify` checks the
    chain of hashes.
    """
    with context.database.reading() as session:
        rows, has_more, last = audit.page(
            session,
            project_id=None if context.caller.covers_deployment else context.project,
            action=page.action,
            resource=page.resource,
            limit=page.limit,
            after=_parse_cursor(page.after),
        )
        data = [_describe(row) for row in rows]
    return build_listing(request, response.headers, data, has_more=has_more, last=str(last))


def _parse_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise unknown_cursor()
    return int(cursor)


def _describe(row: AuditRow) -> AuditEntryObject:
    return AuditEntryObject(
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        resource=row.resource,
        project=row.project_id,
        request_id=row.request_id,
        details=row.details,
        position=row.position,
        hash=row.hash,
    )
