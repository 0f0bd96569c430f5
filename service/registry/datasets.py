"""Uploaded datasets. Their images never change; dataset_deletions.py deletes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, exc, exists, select
from sqlalchemy.orm import Session

from service.registry.database import is_duplicate, unless_deleted
from service.registry.errors import DatasetExists, QuotaExceeded
from service.registry.tables import DEFAULT_PROJECT, DatasetDeletionRow, DatasetRow

IMAGE_BYTES = 28 * 28
EVERY = 5
"""Of a label without test images of its own, every image with a number divisible by this is held out."""
SAME_UNDER_TWO_LABELS = "same_under_two_labels"
"""The code of the warning that is about several labels together, and not about each of them."""

_ALL = select(DatasetRow).where(DatasetRow.project_id == bindparam("project")).order_by(DatasetRow.name)


@dataclass(frozen=True)
class ReadableImages:
    """The images of an uploaded dataset that a job may read. Equal values stand for the same images."""

    sha256: str
    """The artifact that holds them."""
    stored: tuple[tuple[str, int], ...]
    """(label, number of images) of every label in the artifact, in their order there."""
    labels: frozenset[str]
    """The labels that may be read."""
    held_out: tuple[tuple[str, int], ...] = ()
    """(label, how many of its images, the last ones, are its test images). Every fifth image of others is."""


@dataclass(frozen=True)
class UploadFacts:
    """What is recorded of an upload beside its images."""

    held_out: Mapping[str, int] | None = None
    """{label: how many of its images, the last ones, the file holds out for testing}. None: no split."""
    label_digests: Mapping[str, str] | None = None
    """{label: a hash of its images, whatever their order}."""
    conversions: Sequence[Mapping[str, Any]] | None = None
    """[{code, detail, labels}]."""
    warnings: Sequence[Mapping[str, Any]] | None = None
    """[{code, detail, labels}]."""
    sent_sha256: str | None = None
    """That of the file that was sent."""


NO_FACTS = UploadFacts()


def put(
    session: Session,
    name: str,
    *,
    images: Mapping[str, int],
    sha256: str,
    facts: UploadFacts = NO_FACTS,
    project: str = DEFAULT_PROJECT,
) -> tuple[DatasetRow, bool]:
    """Record an upload to a project. Returns its row and whether it is new.

    The same upload again changes nothing.

    images: {label: number of images}, in their order in the artifact; sha256: that of the stored artifact.
    Raises DatasetExists if the dataset of that name has other images, UnknownProject.
    """
    row = find(session, name, project=project)
    if row is None:
        row = new_row(name, images=images, sha256=sha256, facts=facts, project=project)
        try:
            with unless_deleted(project), session.begin_nested():
                session.add(row)
            return row, True
        except exc.IntegrityError as error:
            if not is_duplicate(error):
                raise
            # another request was faster
            row = session.get_one(DatasetRow, (project, name))
    refuse_other_images(row, images=images, sha256=sha256, facts=facts)
    return row, False


def new_row(
    name: str, *, images: Mapping[str, int], sha256: str, facts: UploadFacts, project: str
) -> DatasetRow:
    """Return the row of an upload. It is not recorded yet."""
    return DatasetRow(
        project_id=project,
        name=name,
        images=dict(images),
        sha256=sha256,
        held_out=None if facts.held_out is None else dict(facts.held_out),
        label_digests=None if facts.label_digests is None else dict(facts.label_digests),
        conversions=None if facts.conversions is None else [dict(one) for one in facts.conversions],
        warnings=None if facts.warnings is None else [dict(one) for one in facts.warnings],
        sent_sha256=facts.sent_sha256,
    )


def refuse_other_images(
    row: DatasetRow, *, images: Mapping[str, int], sha256: str, facts: UploadFacts
) -> None:
    """Raise DatasetExists unless the dataset has these images, in the same split."""
    if not row.images:
        raise DatasetExists(row.name, "whose images are being deleted")
    if (row.sha256, list(row.images.items())) != (sha256, list(images.items())):
        raise DatasetExists(row.name, "with other images")
    if (row.held_out or {}) != (facts.held_out or {}):
        raise DatasetExists(row.name, "with other images to test with")


def count_test_images(row: DatasetRow) -> dict[str, int]:
    """Return {label: how many of its images are held out for testing}, for the labels that can be learned."""
    held_out = row.held_out or {}
    return {label: held_out.get(label) or count // EVERY for label, count in row.images.items()}


def find(session: Session, name: str, *, project: str = DEFAULT_PROJECT) -> DatasetRow | None:
    """Return the project's uploaded dataset of that name, if there is one.

    It has no `images` while all of them are being deleted.
    """
    return session.get(DatasetRow, (project, name))


def lock_for_learning(session: Session, name: str, *, project: str) -> DatasetRow | None:
    """Return the uploaded dataset of that name, and keep its images from being deleted in this transaction.

    So a deletion sees every job that was accepted before it, and waits for it.
    """
    query = select(DatasetRow).where(DatasetRow.project_id == project, DatasetRow.name == name)
    query = query.with_for_update(read=True).execution_options(populate_existing=True)
    return session.scalar(query)


def find_readable(session: Session, name: str, *, project: str, sequence: int) -> ReadableImages | None:
    """Return what a job may read of an uploaded dataset; None if there is no such dataset.

    sequence: of the job. Jobs that were accepted before images were deleted may still need them, and the
    deletion waits for these jobs. To later ones, the images are gone at once.
    """
    row = session.get(DatasetRow, (project, name), populate_existing=True)
    if row is None:
        return None
    stored = row.stored or row.images
    requested = select(DatasetDeletionRow.labels).where(
        DatasetDeletionRow.project_id == project,
        DatasetDeletionRow.dataset == name,
        DatasetDeletionRow.state == "requested",
        DatasetDeletionRow.last_sequence < sequence,
    )
    deleted = {label for labels in session.scalars(requested) for label in labels}
    held_out = tuple((row.held_out or {}).items())
    return ReadableImages(row.sha256, tuple(stored.items()), frozenset(set(stored) - deleted), held_out)


def find_deletion(session: Session, name: str, label: str, *, project: str) -> DatasetDeletionRow | None:
    """Return the newest deletion of a label's images from the dataset, if they are deleted."""
    row = find(session, name, project=project)
    if row is not None and label not in (row.deleted_labels or ()):
        return None
    deletions = select(DatasetDeletionRow).where(
        DatasetDeletionRow.project_id == project, DatasetDeletionRow.dataset == name
    )
    newest = session.scalars(deletions.order_by(DatasetDeletionRow.id.desc()))
    return next((deletion for deletion in newest if label in deletion.labels), None)


def check_quota(
    session: Session,
    images: Mapping[str, int],
    *,
    project: str,
    most: int,
    most_bytes: int,
    most_bytes_of_all: int | None,
) -> None:
    """Raise QuotaExceeded if one more dataset of the project, with these images, is more than allowed.

    images: {label: number of images}. most_bytes: of the project's datasets together; most_bytes_of_all: of
    those of all projects; None for any number.
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
    if most_bytes_of_all is not None and size > most_bytes_of_all:
        raise QuotaExceeded(
            f"the uploaded datasets of all projects would have {size:,} bytes, more than the "
            f"{most_bytes_of_all:,} that they may have of the disk"
        )


def was_deleted(session: Session, name: str, *, project: str) -> bool:
    """Whether the project uploaded a dataset of that name that was deleted, and none of that name since."""
    if find(session, name, project=project) is not None:
        return False
    deletion = exists().where(
        DatasetDeletionRow.project_id == project,
        DatasetDeletionRow.dataset == name,
        DatasetDeletionRow.whole.is_(True),
    )
    return bool(session.scalar(select(deletion)))


def list_all(session: Session, *, project: str = DEFAULT_PROJECT) -> Sequence[DatasetRow]:
    """Return all uploaded datasets of the project, in the order of their names."""
    return session.scalars(_ALL, {"project": project}).all()


def _size_of(datasets: Iterable[Mapping[str, int]]) -> int:
    """Return the bytes of the images of these datasets, [{label: number of images}]."""
    return IMAGE_BYTES * sum(sum(each.values()) for each in datasets)
