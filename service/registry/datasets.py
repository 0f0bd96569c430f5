"""Uploaded datasets. A dataset never changes once it is uploaded."""

from collections.abc import Mapping, Sequence

from sqlalchemy import exc, select
from sqlalchemy.orm import Session

from service.registry.errors import DatasetExists
from service.registry.tables import DEFAULT_PROJECT, DatasetRow


def put(
    session: Session, name: str, *, images: Mapping[str, int], sha256: str, project: str = DEFAULT_PROJECT
) -> tuple[DatasetRow, bool]:
    """Record an upload to a project. Returns its row and whether it is new.

    The same upload again changes nothing.

    images: {label: number of images}, in their order in the artifact; sha256: that of the stored artifact.
    Raises DatasetExists if the dataset of that name has other images.
    """
    row = find(session, name, project=project)
    if row is None:
        row = DatasetRow(project_id=project, name=name, images=dict(images), sha256=sha256)
        try:
            with session.begin_nested():
                session.add(row)
            return row, True
        except exc.IntegrityError:  # another request was faster
            row = session.get_one(DatasetRow, (project, name))
    if (row.sha256, list(row.images.items())) != (sha256, list(images.items())):
        raise DatasetExists(name, "with other images")
    return row, False


def find(session: Session, name: str, *, project: str = DEFAULT_PROJECT) -> DatasetRow | None:
    """Return the project's uploaded dataset of that name, if there is one."""
    return session.get(DatasetRow, (project, name))


def list_all(session: Session, *, project: str = DEFAULT_PROJECT) -> Sequence[DatasetRow]:
    """Return all uploaded datasets of the project, the oldest first."""
    query = select(DatasetRow).where(DatasetRow.project_id == project)
    return session.scalars(query.order_by(DatasetRow.created_at, DatasetRow.name)).all()
