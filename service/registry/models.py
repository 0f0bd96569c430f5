"""Models: create them, find them by name or id, list them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import exc, select
from sqlalchemy.orm import Session

from service.registry.errors import ModelExists, UnknownModel
from service.registry.pages import Page, newest_first
from service.registry.tables import ModelRow, new_id


def create(
    session: Session,
    *,
    name: str,
    dataset: str,
    network: dict[str, Any],
    seed: int,
    acceptance: Mapping[str, Any] | None = None,
) -> ModelRow:
    """Create a model without a version. Raises ModelExists.

    acceptance: criteria for all versions of the model; a request can override them.
    """
    model = ModelRow(
        id=new_id("mdl"),
        name=name,
        dataset=dataset,
        network=network,
        seed=seed,
        acceptance=dict(acceptance) if acceptance else None,
    )
    session.add(model)
    try:
        session.flush()
    except exc.IntegrityError as error:
        raise ModelExists(name) from error
    return model


def find(session: Session, name_or_id: str) -> ModelRow:
    """Return the model of that id, or of that name. Raises UnknownModel."""
    model = session.get(ModelRow, name_or_id) or session.scalar(
        select(ModelRow).where(ModelRow.name == name_or_id)
    )
    if model is None:
        raise UnknownModel(name_or_id)
    return model


def page(session: Session, *, limit: int, after: str | None = None) -> Page[ModelRow]:
    """Return the newest models, or those older than the id `after`."""
    return newest_first(session, select(ModelRow), ModelRow.id, limit=limit, after=after)
