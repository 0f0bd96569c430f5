"""Samples: recorded requests for images, from which exactly the same pixels can be drawn again."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry.errors import UnknownSample
from service.registry.json_columns import has_item
from service.registry.pages import Page, newest_first
from service.registry.tables import DEFAULT_PROJECT, ModelRow, SampleRow, VersionRow, new_id


def record(
    session: Session,
    model: ModelRow,
    version: VersionRow,
    *,
    labels: Sequence[str],
    count: int,
    seed: int,
    format: str,
) -> SampleRow:
    """Record a request for `count` images of each label, drawn from this version with this seed."""
    sample = SampleRow(
        id=new_id("smp"),
        model_id=model.id,
        version=version.number,
        labels=list(labels),
        count=count,
        seed=seed,
        format=format,
    )
    session.add(sample)
    session.flush()
    return sample


@dataclass(frozen=True)
class SampleFilter:
    """Which samples a list has. None admits all of them."""

    model_id: str | None = None
    version: int | None = None
    label: str | None = None


def page(
    session: Session,
    *,
    project: str = DEFAULT_PROJECT,
    only: SampleFilter = SampleFilter(),
    limit: int,
    after: str | None = None,
) -> Page[SampleRow]:
    """Return the newest samples of the project's models, or those older than the id `after`."""
    query = select(SampleRow).join(ModelRow)
    query = query.where(ModelRow.project_id == project, ModelRow.deleted_at.is_(None))
    if only.model_id is not None:
        query = query.where(SampleRow.model_id == only.model_id)
    if only.version is not None:
        query = query.where(SampleRow.version == only.version)
    if only.label is not None:
        query = query.where(has_item(SampleRow.labels, only.label))
    return newest_first(session, query, SampleRow.id, limit=limit, after=after)


def remove(session: Session, sample: SampleRow) -> None:
    """Delete the record of a sample."""
    session.delete(sample)
    session.flush()


def find(session: Session, sample_id: str, *, project: str = DEFAULT_PROJECT) -> SampleRow:
    """Return the recorded sample of that id, of a model of the project. Raises UnknownSample."""
    query = select(SampleRow).join(ModelRow).where(SampleRow.id == sample_id)
    sample = session.scalar(query.where(ModelRow.project_id == project))
    if sample is None:
        raise UnknownSample(sample_id)
    return sample
