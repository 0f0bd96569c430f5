"""Uploaded datasets, and the deletion of their images."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import ArtifactHash, Digest, Id, Json, Name, Row, Timestamp
from service.registry.tables.projects import DEFAULT_PROJECT

DeletionState = Literal["requested", "pending", "done"]


class DatasetRow(Row):
    """A dataset that a client uploaded. Its images never change; those of a label can be deleted."""

    __tablename__ = "datasets"

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id"), primary_key=True, default=DEFAULT_PROJECT
    )
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    images: Mapped[dict[str, int]] = mapped_column(Json)
    """{label: number of images} of the labels that can be learned. Empty: all of them are being deleted."""
    stored: Mapped[dict[str, int] | None] = mapped_column(Json)
    """{label: number of images} of all labels in the artifact, in their order there, while it holds labels
    that are being deleted. Null: these are the labels of `images`."""
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact that holds the 784 bytes of every image, label after label."""
    label_digests: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: a hash of its images, whatever their order}. Null for uploads of earlier releases."""
    deleted_labels: Mapped[list[str] | None] = mapped_column(Json)
    """Labels that the dataset had when it was uploaded, and whose images were deleted."""
    held_out: Mapped[dict[str, int] | None] = mapped_column(Json)
    """{label: how many of its images, the last ones, are its test images}, as the uploaded file had them. Of
    labels without an entry, and where it is null, every fifth image is."""
    conversions: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    """[{code, detail, labels}]: how the uploaded file was read. Null for uploads of earlier releases."""
    warnings: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    """[{code, detail, labels}]: what looks wrong with the images. Null for uploads of earlier releases."""
    sent_sha256: Mapped[str | None] = mapped_column(Digest)
    """That of the file that was uploaded. Null for uploads of earlier releases."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class DatasetDeletionRow(Row):
    """The deletion of images from an uploaded dataset: those of some labels, or all.

    The row is written when the images can no longer be learned; the sweeper then deletes them.
    """

    __tablename__ = "dataset_deletions"
    __table_args__ = (
        Index(
            "ix_dataset_deletions_unfinished",
            "id",
            sqlite_where=text("state <> 'done'"),
            postgresql_where=text("state <> 'done'"),
        ),
        Index(
            "ix_dataset_deletions_not_logged",
            "id",
            sqlite_where=text("logged_at IS NULL"),
            postgresql_where=text("logged_at IS NULL"),
        ),
        Index("ix_dataset_deletions_job_id", "job_id"),
        CheckConstraint("state IN ('requested', 'pending', 'done')", name="state"),
        CheckConstraint("(state = 'requested') = (sha256 IS NULL)", name="sha256"),
        CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(Id)
    dataset: Mapped[str] = mapped_column(Name)
    labels: Mapped[dict[str, int]] = mapped_column(Json)
    """{label: how many images it had}."""
    whole: Mapped[bool] = mapped_column()
    """Whether no label was left, so that the dataset itself is deleted."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The forget that requested it; null if a client did."""
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    """The newest job at that time. It and older jobs may read the images, and are waited for."""
    state: Mapped[DeletionState] = mapped_column(String(16))
    """requested: the images are in the dataset's artifact; pending: the dataset has another artifact, and the
    old one is to be deleted; done: it is deleted."""
    sha256: Mapped[str | None] = mapped_column(Digest)
    """The artifact that held the images."""
    replaced_by: Mapped[str | None] = mapped_column(Digest)
    """The artifact with the other images; null if no image was left."""
    kept: Mapped[bool] = mapped_column(default=False)
    """Whether the old artifact was not deleted, because another upload has the same images."""
    remains: Mapped[str | None] = mapped_column(Text)
    """Why a bucket has old versions left of the old artifact, or of a classifier that was trained on it; null
    if it has none."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
    logged_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the erasure log got the line that says so."""

    def entry(self) -> dict[str, Any]:
        """Return what a job and its receipt tell of it. JSON-ready."""
        return {
            "dataset": self.dataset,
            "labels": self.labels,
            "whole": self.whole,
            "sha256": self.sha256,
            "replaced_by": self.replaced_by,
            "kept": self.kept,
            "remains": self.remains,
        }
