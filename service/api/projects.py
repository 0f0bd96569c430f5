"""/v1/projects: create, list and delete the projects that models, datasets, samples and keys belong to."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.error_kinds import RESOURCE_GONE
from service.api.idempotency import Idempotent, unless_gone
from service.api.paging import CURSOR_RULE, Listing, PageQuery, build_listing, parse_id
from service.api.refusals import refuses
from service.api.route import Route
from service.registry import audit, projects
from service.registry.errors import ProjectExists, ProjectInUse, UnknownProject
from service.registry.tables import ProjectRow
from service.requests.fields import (
    NAME,
    NAME_RULE,
    PROJECT_ID,
    Body,
    check_resource_name,
    schema_of,
)

router = APIRouter(prefix="/v1/projects", tags=["projects"], route_class=Route)


def _check_project_name(name: str) -> str:
    if name.startswith(PROJECT_ID):
        raise PydanticCustomError(
            "invalid_name", f"{PROJECT_ID} at the beginning of a name is reserved for ids"
        )
    return check_resource_name(name)


class CreateProject(Body):
    """A project to create."""

    name: Annotated[
        str,
        Field(json_schema_extra=schema_of(NAME, reserved=PROJECT_ID)),
        AfterValidator(_check_project_name),
    ]


class ProjectObject(BaseModel):
    """A project. A request names it with the header `Palimpsest-Project`."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: datetime


@router.post("", status_code=201)
@requires("admin")
@refuses(ProjectExists, RESOURCE_GONE, invalid_name=f"the name of a project {NAME_RULE}")
def create_project(
    body: CreateProject, context: Context, request: Request, response: Response, once: Idempotent
) -> ProjectObject:
    """Create a project. It needs an admin key of the whole deployment."""
    context.caller.require_deployment()
    with context.database.transaction() as session:
        if answered := once.begin(session):
            with unless_gone("project", answered.resource_id):
                created = _describe_project(projects.find(session, answered.resource_id))
        else:
            created = _describe_project(projects.create(session, body.name))
            _append_to_audit_log(session, "project.create", created, context, request)
            once.record(session, 201, created.id)
    response.headers["Location"] = f"/v1/projects/{created.name}"
    return created


@router.get("")
@requires("read", "admin")
@refuses(invalid_cursor=CURSOR_RULE)
def list_projects(
    page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[ProjectObject]:
    """List the projects that the caller may use, newest first."""
    only = None if context.caller.covers_deployment else context.project
    with context.database.reading() as session:
        rows, has_more = projects.page(
            session, only=only, limit=page.limit, after=parse_id(page.after, "prj")
        )
        data = [_describe_project(row) for row in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/{project}")
@requires("read", "admin")
@refuses(UnknownProject)
def get_project(project: str, context: Context) -> ProjectObject:
    """Read a project, by its name or id."""
    return _find_project(project, context)


@router.delete("/{project}", status_code=204)
@requires("admin")
@refuses(UnknownProject, ProjectInUse)
def delete_project(project: str, context: Context, request: Request) -> None:
    """Delete an empty project, with its revoked and expired keys.

    It is refused while the project has models, deleted ones included, datasets or usable keys. It needs an
    admin key of the whole deployment.
    """
    found = _find_project(project, context)
    context.caller.require_deployment()
    with context.database.transaction() as session:
        projects.remove(session, found.id)
        _append_to_audit_log(session, "project.delete", found, context, request)
    context.access.forget()


def _find_project(name_or_id: str, context: ApiContext) -> ProjectObject:
    with context.database.reading() as session:
        row = projects.find(session, name_or_id)
    if not context.caller.covers_deployment and row.id != context.project:
        raise UnknownProject(name_or_id)
    return _describe_project(row)


def _append_to_audit_log(
    session: Session, action: str, project: ProjectObject, context: ApiContext, request: Request
) -> None:
    audit.append(
        session,
        action,
        project.id,
        actor=context.caller.key_id,
        project_id=project.id,
        request_id=request.state.request_id,
        details={"name": project.name},
    )


def _describe_project(row: ProjectRow) -> ProjectObject:
    return ProjectObject(id=row.id, name=row.name, created_at=row.created_at)
