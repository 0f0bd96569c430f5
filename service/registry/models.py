"""Models: create them, find them by name or id, list them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, exc, or_, select
from sqlalchemy.orm import Session

from service.registry.database import is_duplicate, unless_deleted
from service.registry.errors import ModelExists, UnknownModel
from service.registry.pages import Page, newest_first
from service.registry.tables import DEFAULT_PROJECT, ModelRow, new_id


def create(
    session: Session,
    *,
    name: str,
    dataset: str,
    network: dict[str, Any],
    seed: int,
    acceptance: Mapping[str, Any] | None = None,
    project: str = DEFAULT_PROJECT,
) -> ModelRow:
    """Create a model without a version. Raises ModelExists, UnknownProject.

    acceptance: criteria for all versions of the model; a request can override them.
    project: the id of the project that it belongs to.
    """
    model = ModelRow(
        id=new_id("mdl"),
        project_id=project,
        name=name,
        dataset=dataset,
        network=network,
        seed=seed,
        acceptance=dict(acceptance) if acceptance else None,
    )
    session.add(model)
    try:
        with unless_deleted(project):
            session.flush()
    except exc.IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise ModelExists(name) from error
    return model


def find(session: Session, name_or_id: str, *, project: str = DEFAULT_PROJECT) -> ModelRow:
    """Return the project's model of that id, or of that name. Raises UnknownModel."""
    named = or_(ModelRow.id == name_or_id, ModelRow.name == name_or_id)
    model = session.scalar(select(ModelRow).where(*_is_in(project), named))
    if model is None:
        raise UnknownModel(name_or_id)
    return model


def get(session: Session, model_id: str) -> ModelRow:
    """Return the model of that id, whatever its project is, also if it was deleted. Raises UnknownModel."""
    model = session.get(ModelRow, model_id)
    if model is None:
        raise UnknownModel(model_id)
    return model


def page(
    session: Session, *, project: str = DEFAULT_PROJECT, limit: int, after: str | None = None
) -> Page[ModelRow]:
    """Return the project's newest models, or those older than the id `after`."""
    query = select(ModelRow).where(*_is_in(project))
    return newest_first(session, query, ModelRow.id, limit=limit, after=after)


def _is_in(project: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ModelRow.project_id == project, ModelRow.deleted_at.is_(None)
