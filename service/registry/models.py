"""Models: create them, find them by name or id, list them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, bindparam, exc, or_, select
from sqlalchemy.orm import Session

from service.queue_names import DEFAULT_QUEUE
from service.registry.database import is_duplicate, unless_deleted
from service.registry.errors import ModelExists, UnknownModel
from service.registry.json_columns import having
from service.registry.pages import Page, in_order
from service.registry.tables import DEFAULT_PROJECT, ModelRow, SizePolicy, new_id


def create(
    session: Session,
    *,
    name: str,
    dataset: str,
    network: dict[str, Any],
    seed: int,
    acceptance: Mapping[str, Any] | None = None,
    size_policy: SizePolicy = "fixed",
    queue: str = DEFAULT_QUEUE,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
    project: str = DEFAULT_PROJECT,
) -> ModelRow:
    """Create a model without a version. Raises ModelExists, UnknownProject.

    acceptance: criteria for all versions of the model; a request can override them.
    size_policy: whether a resize follows the jobs whose request does not say.
    queue: the queue of its jobs, unless their request names another.
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
        size_policy=size_policy,
        queue=queue,
        description=description,
        client_metadata=dict(metadata or {}) or None,
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
    model = session.scalar(_NAMED, {"project": project, "name_or_id": name_or_id})
    if model is None:
        raise UnknownModel(name_or_id)
    return model


def get(session: Session, model_id: str) -> ModelRow:
    """Return the model of that id, whatever its project is, also if it was deleted. Raises UnknownModel."""
    model = session.get(ModelRow, model_id)
    if model is None:
        raise UnknownModel(model_id)
    return model


@dataclass(frozen=True)
class ModelFilter:
    """Which models a list has. None and an empty mapping admit all of them."""

    name_prefix: str | None = None
    dataset: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def page(
    session: Session,
    *,
    project: str = DEFAULT_PROJECT,
    only: ModelFilter = ModelFilter(),
    by_name: bool = False,
    descending: bool = True,
    limit: int,
    after: str | None = None,
) -> Page[ModelRow]:
    """Return the project's models, the newest first, or those that follow the one with the id `after`.

    by_name: in the order of their names instead. `after` then says after which name to go on. Raises
    UnknownModel if no model ever had this id; one that has been deleted meanwhile had.
    """
    query = select(ModelRow).where(*_is_in(project))
    if only.name_prefix:
        query = query.where(ModelRow.name.startswith(only.name_prefix, autoescape=True))
    if only.dataset is not None:
        query = query.where(ModelRow.dataset == only.dataset)
    query = having(query, ModelRow.client_metadata, only.metadata)
    key = ModelRow.name if by_name else ModelRow.id
    if after is not None:
        known = select(key).where(ModelRow.id == after, ModelRow.project_id == project)
        place = session.scalar(known)
        if place is None:
            raise UnknownModel(after)
        after = place
    return in_order(session, query, key, limit=limit, after=after, descending=descending)


def _is_in(project: str | BindParameter[str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ModelRow.project_id == project, ModelRow.deleted_at.is_(None)


_NAMED = select(ModelRow).where(
    *_is_in(bindparam("project")),
    or_(ModelRow.id == bindparam("name_or_id"), ModelRow.name == bindparam("name_or_id")),
)
