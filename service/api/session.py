"""/v1/session: a person gives the console an API key once, and their browser gets a cookie for it."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.api.access import SESSION_COOKIE, needs_no_key, read_session_token
from service.api.context import Context
from service.api.error_kinds import INVALID_API_KEY
from service.api.idempotency import Idempotent
from service.api.origins import comes_from_own_page, foreign_page
from service.api.refusals import refuses
from service.api.route import Route
from service.registry import keys, projects, sessions
from service.registry.errors import UnknownProject
from service.registry.tables import DEFAULT_PROJECT
from service.requests.fields import Body, ResourceName, schema_of

router = APIRouter(prefix="/v1/session", tags=["keys"], route_class=Route)

SESSION_SECONDS = 12 * 3600
"""How long a browser stays signed in. It ends earlier if its key is revoked or expires."""


class OpenSession(Body):
    """The key to open a session with."""

    key: str = Field(description="An API key.", json_schema_extra=schema_of(keys.PATTERN))
    project: ResourceName | None = Field(
        None, description="The project to see, by its name or id. Left out: that of the key, or `default`."
    )


class SessionObject(BaseModel):
    """A session. Its token is in a cookie that no script can read."""

    object: Literal["session"] = "session"
    project: str = Field(description="The name of the project that it shows.")
    scopes: list[str]
    expires_at: datetime


@router.post("", status_code=201)
@needs_no_key
@refuses(INVALID_API_KEY, UnknownProject)
def open_session(
    body: OpenSession, request: Request, response: Response, context: Context, once: Idempotent
) -> SessionObject:
    """Sign a browser in with an API key. Programs send the key itself with every request.

    A repetition of the request, with the same Idempotency-Key, is answered with a new cookie: the token of
    the first one is stored nowhere.
    """
    with context.database.reading() as session:  # so that wrong keys lock nothing
        context.access.check_key(session, body.key)
    with context.database.transaction() as session:
        key = context.access.check_key(session, body.key)
        project = projects.find(session, body.project or key.project or DEFAULT_PROJECT)
        if key.project not in (None, project.id):
            raise UnknownProject(project.name)
        once = once.in_project(project.id)
        if once.begin(session) is None:
            once.record(session, 201, key.id)
        row, token = sessions.create(session, key.id, project=project.id, seconds=SESSION_SECONDS)
        opened = SessionObject(project=project.name, scopes=sorted(key.scopes), expires_at=row.expires_at)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    response.headers["Cache-Control"] = "no-store"
    return opened


@router.delete("", status_code=204)
@needs_no_key
def end_session(request: Request, response: Response, context: Context) -> None:
    """Sign the browser out. Without a session it does nothing."""
    token = read_session_token(request)
    if token is not None:
        if not comes_from_own_page(request.scope):
            raise foreign_page()
        with context.database.transaction() as session:
            sessions.end(session, token)
        context.access.forget()
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
