"""What is deleted after a forget or with a model, and the receipts of that."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Id, Json, Name, Row, Timestamp

PurgeState = Literal["requested", "pending", "done"]
PurgeReason = Literal["requested", "retention"]


class PurgeRow(Row):
    """A purge: the deletion of the files of versions that had learned what a job forgot."""

    __tablename__ = "purges"
    __table_args__ = (
        Index("ix_purges_state", "state"),
        CheckConstraint("state IN ('requested', 'pending', 'done')", name="state"),
        CheckConstraint("reason IN ('requested', 'retention')", name="reason"),
        CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    reason: Mapped[PurgeReason] = mapped_column(String(16))
    """requested: by a client; retention: by the deployment's rule for revoked versions (purge_after_days)."""
    state: Mapped[PurgeState] = mapped_column(String(16))
    """requested: it begins once the job has succeeded; pending: the versions are marked as purged, and the
    sweeper will delete their files; done: the files are deleted."""
    keys: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files whose artifacts were deleted: [{version, file, sha256, bytes}]."""
    kept: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files of purged versions whose artifacts were kept, because other rows need them: same fields. With
    the field `reason`, the file is deleted, but a bucket keeps old versions of it."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)


class ImageErasureRow(Row):
    """The request of a forget to delete the images of its labels from uploaded datasets."""

    __tablename__ = "image_erasures"
    __table_args__ = (
        Index("ix_image_erasures_state", "state"),
        CheckConstraint("state IN ('requested', 'pending', 'done')", name="state"),
        CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    labels: Mapped[list[str]] = mapped_column(Json)
    """The labels of the model whose images are to be deleted."""
    state: Mapped[PurgeState] = mapped_column(String(16))
    """requested: it begins once the job has succeeded; pending: the images can no longer be learned, and the
    sweeper deletes them; done: they are deleted."""
    waits_for: Mapped[str | None] = mapped_column(Id)
    """An older job that may still need the images. The deletion waits for its end."""
    datasets: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """Once it is done: the entry of every dataset that images were deleted from."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)


class ReceiptRow(Row):
    """The receipt of a forget that succeeded. The envelope is null until the receipt is signed."""

    __tablename__ = "receipts"
    __table_args__ = (
        Index(
            "ix_receipts_unsigned",
            "job_id",
            sqlite_where=text("envelope IS NULL"),
            postgresql_where=text("envelope IS NULL"),
        ),
        Index(
            "ix_receipts_not_logged",
            "job_id",
            sqlite_where=text("logged_at IS NULL"),
            postgresql_where=text("logged_at IS NULL"),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    envelope: Mapped[str | None] = mapped_column(Text)
    """The bytes of the receipt, as they are downloaded."""
    logged_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the forget was written to the erasure log, which comes before its receipt is signed."""


class VersionDeletionRow(Row):
    """The deletion of the files of a version that a client deleted."""

    __tablename__ = "version_deletions"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "number"], ["versions.model_id", "versions.number"]),
        Index("ix_version_deletions_state", "state"),
        Index(
            "ix_version_deletions_not_logged",
            "model_id",
            sqlite_where=text("logged_at IS NULL"),
            postgresql_where=text("logged_at IS NULL"),
        ),
        CheckConstraint("state IN ('pending', 'done')", name="state"),
        CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),
    )

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[Literal["pending", "done"]] = mapped_column(String(16))
    """pending: the sweeper will delete the files; done: they are deleted."""
    keys: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files whose artifacts were deleted: [{version, file, sha256, bytes}]."""
    kept: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files whose artifacts were kept, because other rows need them: as those of a purge."""
    created_by: Mapped[str | None] = mapped_column(Id)
    request_id: Mapped[str | None] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
    logged_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the erasure log got the line that says so."""


class ModelDeletionRow(Row):
    """The deletion of a model: which of its files are deleted, and the receipt of that if one is due."""

    __tablename__ = "model_deletions"
    __table_args__ = (CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),)

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    purge: Mapped[bool] = mapped_column()
    """Whether the request asked for a proof that all files are deleted."""
    state: Mapped[Literal["pending", "done"]] = mapped_column(String(16))
    """pending: the sweeper will delete the files; done: they are deleted."""
    keys: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files whose artifacts were deleted: [{version, file, sha256, bytes}]."""
    kept: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The files whose artifacts were kept, because rows of other models need them: as those of a purge."""
    reference: Mapped[str | None] = mapped_column(Name)
    created_by: Mapped[str | None] = mapped_column(Id)
    request_id: Mapped[str | None] = mapped_column(Name)
    envelope: Mapped[str | None] = mapped_column(Text)
    """The bytes of the signed receipt, once the files of a purge are deleted."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
