"""Temporary labels that expire: which are due to be forgotten, and when the others are.

When a label expires follows from the job that learned it, and is stored nowhere else. So a label that is made
permanent, forgotten or learned again has the time of its newest job or none, a worker of an earlier release
cannot lose it, and a restored backup has it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVarTuple

from sqlalchemy import ColumnElement, Select, and_, exists, select
from sqlalchemy.orm import Session

from service.registry.database import from_now, seconds_since
from service.registry.tables import JobRow, LabelRow, ModelRow, VersionRow

Expiries: TypeAlias = Mapping[tuple[str, str], datetime]
"""{(model id, label): when it expires}."""

Columns = TypeVarTuple("Columns")

REQUESTED_BY = "palimpsest"
"""The `created_by` of a forget that the service itself requested; no API key has this id."""
TRY_AGAIN_SECONDS = 60.0
"""How long after such a forget of a model was requested another one may be, if it did not succeed."""


def find_expiries(session: Session, model_ids: Sequence[str]) -> Expiries:
    """Return when the temporary labels of these models expire, with one query. Others are left out."""
    query = _expiring(select(LabelRow.model_id, LabelRow.name, JobRow.finished_at, JobRow.expires_in))
    found: dict[tuple[str, str], datetime] = {}
    rows = session.execute(query.where(LabelRow.model_id.in_(model_ids)))
    for model_id, name, finished_at, seconds in rows:
        assert finished_at is not None, "the job has succeeded"
        assert seconds is not None, "only labels that expire are read"
        found[model_id, name] = finished_at + timedelta(seconds=seconds)
    return found


def find_models_due(session: Session) -> list[str]:
    """Return the ids of the models with labels that have expired, but for those that were tried lately."""
    query = _expiring(select(LabelRow.model_id)).where(_is_due())
    query = query.join(ModelRow, ModelRow.id == LabelRow.model_id).where(ModelRow.deleted_at.is_(None))
    tried = exists().where(
        JobRow.model_id == ModelRow.id,
        JobRow.created_by == REQUESTED_BY,
        JobRow.created_at > from_now(-TRY_AGAIN_SECONDS),
        JobRow.state != "succeeded",
    )
    return list(session.scalars(query.where(~tried.correlate(ModelRow)).distinct()))


def find_labels_due(session: Session, model: ModelRow) -> list[str]:
    """Return the labels of a model that have expired, in the order of their names."""
    query = _expiring(select(LabelRow.name)).where(_is_due(), LabelRow.model_id == model.id)
    return list(session.scalars(query.order_by(LabelRow.name)))


def _expiring(query: Select[*Columns]) -> Select[*Columns]:
    """Join labels with the jobs that learned them, and leave those that do not expire."""
    return (
        query.select_from(JobRow)
        .join(VersionRow, VersionRow.job_id == JobRow.id)
        .join(
            LabelRow,
            and_(LabelRow.model_id == JobRow.model_id, LabelRow.learned_version == VersionRow.number),
        )
        .where(JobRow.expires_in.is_not(None), JobRow.state == "succeeded", LabelRow.status == "temporary")
    )


def _is_due() -> ColumnElement[bool]:
    return seconds_since(JobRow.finished_at) >= JobRow.expires_in
