"""Projects: what models, datasets, samples and keys belong to. One project sees nothing of another."""

from sqlalchemy import delete, exc, func, or_, select
from sqlalchemy.orm import Session

from service.registry.database import is_duplicate, now
from service.registry.errors import ProjectExists, ProjectInUse, UnknownProject
from service.registry.names import is_storable
from service.registry.pages import Page, newest_first
from service.registry.tables import (
    DEFAULT_PROJECT,
    ApiKeyRow,
    DatasetRow,
    IdempotencyKeyRow,
    ModelRow,
    ProjectRow,
    SessionRow,
    WebhookRow,
    new_id,
)


def create(session: Session, name: str) -> ProjectRow:
    """Create a project. Raises ProjectExists."""
    project = ProjectRow(id=new_id("prj"), name=name)
    session.add(project)
    try:
        session.flush()
    except exc.IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise ProjectExists(name) from error
    session.refresh(project)
    return project


def find(session: Session, name_or_id: str) -> ProjectRow:
    """Return the project of that id, or of that name. Raises UnknownProject."""
    query = select(ProjectRow).where(or_(ProjectRow.id == name_or_id, ProjectRow.name == name_or_id))
    project = session.scalar(query) if is_storable(name_or_id) else None
    if project is None:
        raise UnknownProject(name_or_id)
    return project


def page(
    session: Session, *, only: str | None = None, limit: int, after: str | None = None
) -> Page[ProjectRow]:
    """Return the newest projects, or those older than the id `after`; `only` the one of this id if given."""
    query = select(ProjectRow)
    if only is not None:
        query = query.where(ProjectRow.id == only)
    return newest_first(session, query, ProjectRow.id, limit=limit, after=after)


def remove(session: Session, name_or_id: str) -> None:
    """Delete an empty project, with its revoked and expired keys. Raises UnknownProject, ProjectInUse.

    A model that was deleted still counts: its receipts stay, and they belong to the project.
    """
    project = find(session, name_or_id)
    if project.id == DEFAULT_PROJECT:
        raise ProjectInUse(project.name, "requests that name no project use it")
    expired = ApiKeyRow.expires_at <= now()
    unusable = or_(ApiKeyRow.revoked_at.is_not(None), expired)
    ended = select(ApiKeyRow.id).where(ApiKeyRow.project_id == project.id, unusable)
    session.execute(delete(SessionRow).where(SessionRow.key_id.in_(ended)))
    session.execute(delete(ApiKeyRow).where(ApiKeyRow.id.in_(ended)))
    used = {
        table.__tablename__.replace("api_", ""): session.scalar(
            select(func.count()).select_from(table).where(table.project_id == project.id)
        )
        for table in (ModelRow, DatasetRow, ApiKeyRow, WebhookRow)
    }
    if any(used.values()):
        held = ", ".join(f"{count} {what}" for what, count in used.items() if count)
        raise ProjectInUse(project.name, f"it has {held}, those of deleted models included")
    session.execute(delete(SessionRow).where(SessionRow.project_id == project.id))
    session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.project_id == project.id))
    session.delete(project)
    try:
        session.flush()
    except exc.IntegrityError as error:  # something was added to it just now
        raise ProjectInUse(project.name, "something was added to it just now") from error
