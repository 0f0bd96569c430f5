"""Delete the images of labels from uploaded datasets, or whole datasets.

A deletion has three steps. `delete_labels` or `delete_dataset` takes the labels out of the dataset's row and
records the deletion: from then on no request can learn them. Once every older job that may read the images
has ended, `replace_artifact` gives the dataset an artifact without them. `delete_artifact` deletes the old
one. Every step changes rows only after what it needs is durable, so that the sweeper continues an interrupted
deletion.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session

from service.registry import artifact_references
from service.registry.artifacts import Artifacts, FileContent
from service.registry.database import now
from service.registry.datasets import IMAGE_BYTES, SAME_UNDER_TWO_LABELS, find_deletion
from service.registry.errors import DatasetInUse, UnknownDataset, UnknownDatasetLabel
from service.registry.tables import (
    UNFINISHED_STATES,
    DatasetDeletionRow,
    DatasetRow,
    JobRow,
    LabelRow,
    ModelRow,
    SnapshotRow,
    new_id,
)


@dataclass(frozen=True)
class Replacement:
    """What the artifact of a dataset is to be replaced by."""

    sha256: str
    """The artifact with the images to delete."""
    stored: Mapping[str, int]
    """{label: number of images} in the artifact, in their order there."""
    labels: Collection[str]
    """The labels whose images are to be deleted."""

    @property
    def remaining(self) -> dict[str, int]:
        return {label: count for label, count in self.stored.items() if label not in self.labels}


def delete_dataset(session: Session, name: str, *, project: str) -> DatasetDeletionRow:
    """Delete an uploaded dataset. Its name is free again once no older job may read its images.

    Raises UnknownDataset; DatasetInUse if an unfinished job may need its images: one that learns from it, or
    one of a model that holds a label learned from it, as that job may retrain without another label.
    """
    row = _lock(session, name, project)
    return _delete(session, row, list(row.images))


def delete_label(session: Session, name: str, label: str, *, project: str) -> DatasetDeletionRow:
    """Delete the images of a label from an uploaded dataset; with the last label, the dataset.

    Raises UnknownDataset, UnknownDatasetLabel; DatasetInUse if an unfinished job may need the label's images.
    """
    row = _lock(session, name, project)
    if label not in row.images:
        deletion = find_deletion(session, name, label, project=project)
        raise UnknownDatasetLabel(name, label, list(row.images), deleted=deletion is not None)
    return _delete(session, row, [label])


def withdraw(
    session: Session, row: DatasetRow, names: Collection[str], *, job_id: str | None = None
) -> DatasetDeletionRow:
    """Take labels out of a dataset and record that their images are to be deleted.

    row: locked; it has all of these labels. job_id: the forget that requested it.
    """
    images = {name: row.images[name] for name in names}
    row.stored = row.stored or dict(row.images)
    row.images = {name: count for name, count in row.images.items() if name not in images}
    if row.label_digests is not None:
        row.label_digests = {name: one for name, one in row.label_digests.items() if name not in images}
    row.warnings = _without_labels(row.warnings, names)
    row.deleted_labels = sorted({*(row.deleted_labels or ()), *images})
    deletion = DatasetDeletionRow(
        id=new_id("del"),
        project_id=row.project_id,
        dataset=row.name,
        labels=images,
        whole=not row.images,
        job_id=job_id,
        last_sequence=session.scalar(select(func.max(JobRow.sequence))) or 0,
        state="requested",
    )
    session.add(deletion)
    session.flush()
    return deletion


def _without_labels(
    warnings: Sequence[Mapping[str, Any]] | None, names: Collection[str]
) -> list[dict[str, Any]] | None:
    """Return the warnings that are about other labels, too, without these labels.

    An image under several labels is one under a single label when the others are deleted.
    """
    if warnings is None:
        return None
    left = [{**one, "labels": [name for name in one["labels"] if name not in names]} for one in warnings]
    return [one for one in left if len(one["labels"]) >= (2 if one["code"] == SAME_UNDER_TWO_LABELS else 1)]


def find_unfinished(session: Session) -> list[str]:
    """Return the ids of the deletions that are not done, the oldest first."""
    query = select(DatasetDeletionRow.id).where(DatasetDeletionRow.state != "done")
    return list(session.scalars(query.order_by(DatasetDeletionRow.id)))


def find_blocking_job(session: Session, deletion: DatasetDeletionRow) -> str | None:
    """Return the oldest job that was accepted before the deletion and may still read the images.

    It has not ended, or its snapshot is still there. It learns from the dataset, or its model ever did.
    """
    ever_learned = exists().where(LabelRow.model_id == JobRow.model_id, LabelRow.dataset == deletion.dataset)
    has_snapshot = exists().where(SnapshotRow.job_id == JobRow.id)
    query = (
        select(JobRow.id)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(
            JobRow.sequence <= deletion.last_sequence,
            or_(JobRow.state.in_(UNFINISHED_STATES), has_snapshot),
            ModelRow.project_id == deletion.project_id,
            or_(JobRow.dataset == deletion.dataset, ever_learned),
            JobRow.export_id.is_(None),  # it reads a decoder, and no image
        )
    )
    return session.scalar(query.order_by(JobRow.sequence).limit(1))


def find_replacement(session: Session, deletion_id: str) -> Replacement | None:
    """Return how to replace the artifact; None if that is done, or has to wait for a job."""
    deletion = session.get_one(DatasetDeletionRow, deletion_id)
    if deletion.state != "requested" or find_blocking_job(session, deletion) is not None:
        return None
    row = session.get_one(DatasetRow, (deletion.project_id, deletion.dataset), populate_existing=True)
    return Replacement(row.sha256, row.stored or row.images, frozenset(deletion.labels))


def copy_remaining(replacement: Replacement, artifacts: Artifacts, target: BinaryIO) -> FileContent:
    """Copy the remaining images into the empty file `target`, and return them as content to store.

    Raises ArtifactMissing, ArtifactUnreadable; ArtifactCorrupt if the artifact was changed: what is left of a
    changed artifact must not get a hash of its own, which would hide the change.
    """
    return artifacts.copy_parts(replacement.sha256, _parts(replacement), target)


def replace_artifact(
    session: Session, deletion_id: str, replacement: Replacement, content: FileContent | None
) -> bool:
    """Let the dataset refer to the artifact without the images; without an image, delete the dataset.

    content: stored already; None if no image remains. Returns False if the dataset has changed meanwhile.
    """
    deletion = session.get_one(DatasetDeletionRow, deletion_id)
    key = (deletion.project_id, deletion.dataset)
    row = session.get(DatasetRow, key, with_for_update=True, populate_existing=True)  # first, as all do
    deletion = session.get_one(DatasetDeletionRow, deletion_id, with_for_update=True, populate_existing=True)
    if deletion.state != "requested" or row is None or row.sha256 != replacement.sha256:
        return False
    deletion.state, deletion.sha256 = "pending", row.sha256
    if content is None:
        session.delete(row)
        _mark_others_replaced(session, deletion)
    else:
        row.sha256 = deletion.replaced_by = content.sha256
        row.stored = replacement.remaining if set(replacement.remaining) != set(row.images) else None
        if row.held_out is not None:
            row.held_out = {name: n for name, n in row.held_out.items() if name in replacement.remaining}
    session.flush()
    return True


def delete_artifact(
    session: Session, deletion_id: str, artifacts: Artifacts, *, left: Sequence[str] = ()
) -> bool:
    """Delete the artifact that held the images, unless another upload has the same one.

    left: why something is left of the classifiers that were trained on them. Returns False if the artifacts
    are locked or nothing is pending; the next sweep then tries again.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return False
    deletion = session.get_one(DatasetDeletionRow, deletion_id, with_for_update=True, populate_existing=True)
    if deletion.state != "pending" or deletion.sha256 is None:
        return False
    deletion.kept = deletion.sha256 in artifact_references.find_referenced(session)
    if not deletion.kept:
        left = [*left, *artifacts.delete(deletion.sha256).values()]
    deletion.remains = left[0] if left else None
    deletion.state, deletion.finished_at = "done", now()
    session.flush()
    return True


def _lock(session: Session, name: str, project: str) -> DatasetRow:
    row = session.get(DatasetRow, (project, name), with_for_update=True, populate_existing=True)
    if row is None or not row.images:
        raise UnknownDataset(name)
    return row


def _delete(session: Session, row: DatasetRow, names: Sequence[str]) -> DatasetDeletionRow:
    if (job_id := _find_needing_job(session, row, names)) is not None:
        raise DatasetInUse(row.name, job_id)
    deletion = withdraw(session, row, names)
    if deletion.whole and find_blocking_job(session, deletion) is None:
        whole = Replacement(row.sha256, row.stored or {}, frozenset(row.stored or {}))
        replace_artifact(session, deletion.id, whole, None)
    return deletion


def _find_needing_job(session: Session, row: DatasetRow, names: Collection[str]) -> str | None:
    """Return an unfinished job that learns one of the labels, or whose model holds one learned from here."""
    source = func.coalesce(LabelRow.renamed_from, LabelRow.name)
    holds: ColumnElement[bool] = exists().where(
        LabelRow.model_id == JobRow.model_id,
        LabelRow.dataset == row.name,
        LabelRow.status != "forgotten",
        source.in_(names),
    )
    unfinished = (
        select(JobRow)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(JobRow.state.in_(UNFINISHED_STATES), ModelRow.project_id == row.project_id)
        .order_by(JobRow.sequence)
    )
    holding = session.scalar(unfinished.where(holds).limit(1))
    if holding is not None:
        return holding.id
    learning = session.scalars(unfinished.where(JobRow.dataset == row.name, JobRow.operation == "learn"))
    return next((job.id for job in learning if set(job.sources.values()) & set(names)), None)


def _mark_others_replaced(session: Session, deletion: DatasetDeletionRow) -> None:
    """Mark every other deletion from a dataset that exists no longer: they wait for the same artifact."""
    others = update(DatasetDeletionRow).where(
        DatasetDeletionRow.project_id == deletion.project_id,
        DatasetDeletionRow.dataset == deletion.dataset,
        DatasetDeletionRow.state == "requested",
        DatasetDeletionRow.id != deletion.id,
    )
    session.execute(others.values(state="pending", sha256=deletion.sha256))


def _parts(replacement: Replacement) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the images of every remaining label in the artifact."""
    offset = 0
    for label, count in replacement.stored.items():
        if label not in replacement.labels:
            yield offset, count * IMAGE_BYTES
        offset += count * IMAGE_BYTES
