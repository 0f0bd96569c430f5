"""Uploaded datasets: each put once under its name, and never changed."""

from collections.abc import Mapping, Sequence

from sqlalchemy import exc, select
from sqlalchemy.orm import Session

from service.registry.errors import DatasetExists
from service.registry.tables import DatasetRow


def put(session: Session, name: str, *, images: Mapping[str, int], sha256: str) -> tuple[DatasetRow, bool]:
    """The dataset of that name, and whether it is new: putting the same images again changes nothing.

    images: {label: how many}, as they lie in the durable artifact `sha256`. Raises DatasetExists for others.
    """
    row = find(session, name)
    if row is None:
        row = DatasetRow(name=name, images=dict(images), sha256=sha256)
        try:
            with session.begin_nested():
                session.add(row)
            return row, True
        except exc.IntegrityError:  # another request was quicker
            row = session.get_one(DatasetRow, name)
    if (row.sha256, list(row.images.items())) != (sha256, list(images.items())):
        raise DatasetExists(name, "of other images")
    return row, False


def find(session: Session, name: str) -> DatasetRow | None:
    """The uploaded dataset of that name, if there is one."""
    return session.get(DatasetRow, name)


def list_all(session: Session) -> Sequence[DatasetRow]:
    """All uploaded datasets, the oldest first."""
    return session.scalars(select(DatasetRow).order_by(DatasetRow.created_at, DatasetRow.name)).all()
