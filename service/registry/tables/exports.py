"""Exports: many images of a version, drawn by workers into files to download."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import ArtifactHash, Id, Json, Name, Row, Timestamp

ExportState = Literal["queued", "running", "succeeded", "failed", "cancelled", "revoked"]
ExportFormat = Literal["npz", "webdataset"]
UNFINISHED_EXPORTS: tuple[ExportState, ...] = ("queued", "running")

IS_TO_CLEAR = "cleared_at IS NULL AND (deleted_at IS NOT NULL OR state IN ('failed', 'cancelled', 'revoked'))"
"""SQL: the export has ended without a result, or its client deleted it, and files of it may be left."""


ENDED_WITHOUT_AUDIT = "finished_at IS NOT NULL AND audited_at IS NULL"
"""SQL: the export has ended, and the audit log does not say how yet."""


class ExportRow(Row):
    """A request for many images of a version. Each of its shards is drawn by a job of its own."""

    __tablename__ = "exports"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
        Index("ix_exports_model_id", "model_id"),
        Index(
            "ix_exports_unfinished",
            "model_id",
            "id",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index(
            "ix_exports_to_clear", "id", sqlite_where=text(IS_TO_CLEAR), postgresql_where=text(IS_TO_CLEAR)
        ),
        Index(
            "ix_exports_not_audited",
            "id",
            sqlite_where=text(ENDED_WITHOUT_AUDIT),
            postgresql_where=text(ENDED_WITHOUT_AUDIT),
        ),
        CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'revoked')", name="state"
        ),
        CheckConstraint("format IN ('npz', 'webdataset')", name="format"),
        CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("count >= 1 AND shard_images >= 1", name="count"),
        CheckConstraint("(manifest IS NULL) = (manifest_bytes IS NULL)", name="manifest"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int] = mapped_column(Integer)
    labels: Mapped[list[str]] = mapped_column(Json)
    count: Mapped[int] = mapped_column(BigInteger)
    """How many images of each label."""
    seed: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[ExportFormat] = mapped_column(String(16))
    shard_images: Mapped[int] = mapped_column(Integer)
    """How many images every shard has but the last."""
    state: Mapped[ExportState] = mapped_column(String(16), default="queued")
    next_part: Mapped[int] = mapped_column(Integer, default=0)
    """The number of the next shard that gets a job. The number of shards stands for the manifest."""
    images_done: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    """What the finished shards have."""
    manifest: Mapped[str | None] = mapped_column(ArtifactHash)
    manifest_bytes: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """{type, code, message, retryable} of one that failed: the error of the job that did."""
    removed: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """{shards, images, bytes, kept, left}: what was deleted of it (`export_clearing.clear`)."""
    created_by: Mapped[str | None] = mapped_column(Id)
    """The id of the API key that requested it; null where no key is needed."""
    request_id: Mapped[str | None] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When a client deleted it. The row stays for the receipts that name it."""
    audited_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the audit log got the entry that says how it ended."""
    cleared_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the last file of one that ended without a result, or was deleted, was deleted."""

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in UNFINISHED_EXPORTS


class ExportShardRow(Row):
    """A finished shard of an export. The row is inserted once, by the job that holds the newest claim."""

    __tablename__ = "export_shards"
    __table_args__ = (CheckConstraint("number >= 0 AND images >= 1", name="number"),)

    export_id: Mapped[str] = mapped_column(ForeignKey("exports.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Counts the shards of an export from 0."""
    images: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    bytes: Mapped[int] = mapped_column(BigInteger)
    rendering: Mapped[str] = mapped_column(Name)
    """What drew it: decoders.RENDERING of the worker."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
