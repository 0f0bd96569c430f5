"""Uploaded datasets. A dataset never changes once it is uploaded."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import exc, exists, or_, select
from sqlalchemy.orm import Session

from service.registry.errors import DatasetExists, DatasetInUse, QuotaExceeded
from service.registry.tables import (
    DEFAULT_PROJECT,
    UNFINISHED_STATES,
    DatasetRow,
    JobRow,
    LabelRow,
    ModelRow,
)

IMAGE_BYTES = 28 * 28


def put(
    session: Session,
    name: str,
    *,
    images: Mapping[str, int],
    sha256: str,
    label_digests: Mapping[str, str] | None = None,
    project: str = DEFAULT_PROJECT,
) -> tuple[DatasetRow, bool]:
    """Record an upload to a project. Returns its row and whether it is new.

    The same upload again changes nothing.

    images: {label: number of images}, in their order in the artifact; sha256: that of the stored artifact.
    label_digests: {label: a hash of its images, whatever their order}.
    Raises DatasetExists if the dataset of that name has other images.
    """
    row = find(session, name, project=project)
    if row is None:
        row = DatasetRow(
            project_id=project,
            name=name,
            images=dict(images),
            sha256=sha256,
            label_digests=None if label_digests is None else dict(label_digests),
        )
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


def check_quota(
    session: Session,
    images: Mapping[str, int],
    *,
    project: str,
    most: int,
    most_bytes: int,
    most_bytes_of_all: int,
) -> None:
    """Raise QuotaExceeded if one more dataset of the project, with these images, is more than allowed.

    images: {label: number of images}. most_bytes: of the project's datasets together; most_bytes_of_all: of
    those of all projects.
    """
    uploaded = [row.images for row in list_all(session, project=project)]
    if len(uploaded) >= most:
        raise QuotaExceeded(f"there are {len(uploaded)} uploaded datasets, the most allowed")
    size = _size_of([*uploaded, images])
    if size > most_bytes:
        raise QuotaExceeded(
            f"all uploaded datasets together would have {size:,} bytes, more than the {most_bytes:,} allowed"
        )
    size = _size_of([*session.scalars(select(DatasetRow.images)), images])
    if size > most_bytes_of_all:
        raise QuotaExceeded(
            f"the uploaded datasets of all projects would have {size:,} bytes, more than the "
            f"{most_bytes_of_all:,} that they may have of the disk"
        )


def delete(session: Session, name: str, *, project: str) -> None:
    """Delete the row of an uploaded dataset. Raises DatasetInUse if an unfinished job may need its images.

    These are jobs that learn from it, and jobs of models that hold a label learned from it: they may repeat
    its images, or retrain without another label. Its artifact has no row then, and is collected later.
    """
    row = session.get_one(DatasetRow, (project, name), with_for_update=True)
    held = exists().where(
        LabelRow.model_id == JobRow.model_id, LabelRow.dataset == name, LabelRow.status != "forgotten"
    )
    needs = (
        select(JobRow.id)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(
            JobRow.state.in_(UNFINISHED_STATES),
            ModelRow.project_id == project,
            or_(JobRow.dataset == name, held),
        )
    )
    job = session.scalar(needs.limit(1))
    if job is not None:
        raise DatasetInUse(name, job)
    session.delete(row)


def list_all(session: Session, *, project: str = DEFAULT_PROJECT) -> Sequence[DatasetRow]:
    """Return all uploaded datasets of the project, the oldest first."""
    query = select(DatasetRow).where(DatasetRow.project_id == project)
    return session.scalars(query.order_by(DatasetRow.created_at, DatasetRow.name)).all()


def _size_of(datasets: Iterable[Mapping[str, int]]) -> int:
    """Return the bytes of the images of these datasets, [{label: number of images}]."""
    return IMAGE_BYTES * sum(sum(each.values()) for each in datasets)
