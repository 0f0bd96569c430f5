"""Samples: recorded requests for images, from which exactly the same pixels can be drawn again."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry.errors import UnknownSample
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


def find(session: Session, sample_id: str, *, project: str = DEFAULT_PROJECT) -> SampleRow:
    """Return the recorded sample of that id, of a model of the project. Raises UnknownSample."""
    query = select(SampleRow).join(ModelRow).where(SampleRow.id == sample_id)
    sample = session.scalar(query.where(ModelRow.project_id == project))
    if sample is None:
        raise UnknownSample(sample_id)
    return sample
