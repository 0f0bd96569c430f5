"""/v1/keys: create, list and revoke API keys."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.idempotency import Idempotent
from service.api.paging import CURSOR_RULE, Listing, PageQuery, build_listing, parse_id
from service.api.refusals import refuses
from service.api.route import Route
from service.registry import audit, keys, projects
from service.registry.errors import UnknownKey, UnknownProject
from service.registry.keys import Scope
from service.registry.tables import ApiKeyRow
from service.requests.fields import (
    NAME,
    NAME_RULE,
    Body,
    ResourceName,
    check_resource_name,
    schema_of,
)

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)

TEN_YEARS = 10 * 366 * 24 * 3600


class CreateKey(Body):
    """A key to create."""

    name: Annotated[str, AfterValidator(check_resource_name)] = Field(
        description="What it is for. Several keys may have one name.", json_schema_extra=schema_of(NAME)
    )
    scopes: list[Scope] = Field(min_length=1, max_length=5, description="No scope includes another.")
    project: ResourceName | None = Field(
        None, description="The name or id of its project. Left out: the project of this request."
    )
    deployment: bool = Field(
        False, description="Whether it may use every project. `project` is then of no account."
    )
    expires_in: int | None = Field(
        None, ge=1, le=TEN_YEARS, description="The seconds until it expires. Left out: it stays valid."
    )


class ApiKeyObject(BaseModel):
    """An API key, without its text."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    project: str | None = Field(description="The name of its project; null for one of the whole deployment.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="It may be up to a minute late.")


class NewApiKeyObject(ApiKeyObject):
    """A key that was just created. Nobody can read its text again."""

    key: str | None = Field(
        description="The key itself. Send it as `Authorization: Bearer KEY`. Null in the answer to a "
        "repeated request: a key is shown once."
    )


@router.post("", status_code=201)
@requires("admin")
@refuses(UnknownKey, UnknownProject, invalid_name=NAME_RULE)
def create_key(
    body: CreateKey, context: Context, request: Request, response: Response, once: Idempotent
) -> NewApiKeyObject:
    """Create a key. The answer is the only one that has its text.

    A repetition of the request, with the same Idempotency-Key, is answered without it.
    """
    if body.deployment:
        context.caller.require_deployment()
    response.headers["Cache-Control"] = "no-store"
    with context.database.transaction() as session:
        if answered := once.begin(session):
            row = keys.find(session, answered.resource_id, project=_visible(context))
            response.headers["Location"] = f"/v1/keys/{row.id}"
            return NewApiKeyObject(**describe_key(row).model_dump(), key=None)
        project = None if body.deployment else context.project
        if body.project is not None and not body.deployment:
            project = projects.find(session, body.project).id
            if not context.caller.covers_deployment and project != context.project:
                raise UnknownProject(body.project)
        row, text = keys.create(
            session, name=body.name, scopes=body.scopes, project=project, expires_in=body.expires_in
        )
        _append_to_audit_log(session, "key.create", row, context, request)
        once.record(session, 201, row.id)
        created = NewApiKeyObject(**describe_key(row).model_dump(), key=text)
    response.headers["Location"] = f"/v1/keys/{created.id}"
    return created


@router.get("")
@requires("admin")
@refuses(invalid_cursor=CURSOR_RULE)
def list_keys(
    page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[ApiKeyObject]:
    """List the keys, newest first: all of them, or those of the caller's project. None has its text."""
    with context.database.reading() as session:
        rows, has_more = keys.page(
            session, project=_visible(context), limit=page.limit, after=parse_id(page.after, "key")
        )
        data = [describe_key(row) for row in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/{key}")
@requires("admin")
@refuses(UnknownKey)
def get_key(key: str, context: Context) -> ApiKeyObject:
    """Read a key, by its id."""
    with context.database.reading() as session:
        return describe_key(keys.find(session, key, project=_visible(context)))


@router.delete("/{key}", status_code=204)
@requires("admin")
@refuses(UnknownKey)
def revoke_key(key: str, context: Context, request: Request) -> None:
    """Revoke a key, by its id: it, and the sessions opened with it, work no more.

    Another process of the service may accept it for 5 more seconds. Running jobs that it submitted go on.
    Revoking it again changes nothing.
    """
    with context.database.transaction() as session:
        row = keys.revoke(session, key, project=_visible(context))
        _append_to_audit_log(session, "key.revoke", row, context, request)
    context.access.forget()


def describe_key(row: ApiKeyRow) -> ApiKeyObject:
    """Return the JSON object that describes a key."""
    return ApiKeyObject(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        project=None if row.project is None else row.project.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _append_to_audit_log(
    session: Session, action: str, row: ApiKeyRow, context: ApiContext, request: Request
) -> None:
    audit.append(
        session,
        action,
        row.id,
        actor=context.caller.key_id,
        project_id=row.project_id,
        request_id=request.state.request_id,
        details={"name": row.name, "scopes": row.scopes},
    )


def _visible(context: ApiContext) -> str | None:
    """The id of the project whose keys the caller sees; None: all keys."""
    return None if context.caller.covers_deployment else context.project
