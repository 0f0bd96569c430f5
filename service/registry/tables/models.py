"""Models, with their labels, versions and recorded samples."""

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
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.queue_names import DEFAULT_QUEUE
from service.registry.database import now
from service.registry.tables.base import Id, Json, Name, Row, Timestamp
from service.registry.tables.projects import DEFAULT_PROJECT

LabelStatus = Literal["temporary", "permanent", "forgotten"]
Operation = Literal["learn", "forget", "resize", "evaluate"]
AliasAction = Literal["set", "rollback", "delete"]
SizePolicy = Literal["fixed", "auto"]


class ModelRow(Row):
    """A model, by the name that a client gave it. `head` is the number of its newest version."""

    __tablename__ = "models"
    __table_args__ = (
        Index(
            "one_model_per_name",
            "project_id",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        CheckConstraint("size_policy IN ('fixed', 'auto')", name="size_policy"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), default=DEFAULT_PROJECT)
    name: Mapped[str] = mapped_column(Name)
    dataset: Mapped[str] = mapped_column(Name)
    network: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    acceptance: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """The criteria that every version must meet, unless the request for it sets others."""
    size_policy: Mapped[SizePolicy] = mapped_column(
        String(16), default="fixed", server_default=text("'fixed'")
    )
    """`auto`: a resize follows each job that changes the main network, unless its request says otherwise."""
    queue: Mapped[str] = mapped_column(
        String(32), default=DEFAULT_QUEUE, server_default=text(f"'{DEFAULT_QUEUE}'")
    )
    """The queue of its jobs, unless the request for a job names another."""
    description: Mapped[str | None] = mapped_column(Text)
    client_metadata: Mapped[dict[str, str] | None] = mapped_column("metadata", Json)
    head: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When a client deleted it. The rows of its jobs and receipts stay, and its name is free again."""
    deletion_logged_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the erasure log got the line that says so."""


class LabelRow(Row):
    """A label that a model has learned at least once. A label without a row was never learned."""

    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("model_id", "slot"),
        CheckConstraint("status IN ('temporary', 'permanent', 'forgotten')", name="status"),
        CheckConstraint("(status = 'forgotten') = (forgotten_by IS NOT NULL)", name="forgotten_by"),
        CheckConstraint("slot >= 0", name="slot"),
    )

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    dataset: Mapped[str] = mapped_column(Name)
    renamed_from: Mapped[str | None] = mapped_column(Name)
    """The name it has in the dataset, if the model has another name for it."""
    slot: Mapped[int | None] = mapped_column(Integer)
    """The index of the label's input of the main network. It never changes: a label that is learned again has
    its old slot. Null while the label has a network of its own."""
    status: Mapped[LabelStatus] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(Integer)
    """How many times it was learned. Making a temporary label permanent does not count."""
    learned_version: Mapped[int] = mapped_column(Integer)
    forgotten_version: Mapped[int | None] = mapped_column(Integer)
    forgotten_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))

    @property
    def source(self) -> str:
        """The name the label has in its dataset."""
        return self.renamed_from or self.name


class VersionRow(Row):
    """A published state of a model. It never changes; the versions of a model are numbered without a gap.

    What may change is what others say of it: whether it may be drawn from, and what clients write about it.
    """

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        ForeignKeyConstraint(["model_id", "parent"], ["versions.model_id", "versions.number"]),
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint("(number = 1) = (parent IS NULL)", name="first_has_no_parent"),
        CheckConstraint("parent IS NULL OR parent = number - 1", name="parent_is_previous"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int] = mapped_column(Integer)
    parent: Mapped[int | None] = mapped_column(Integer)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    operation: Mapped[Operation] = mapped_column(String(16))
    strategy: Mapped[str] = mapped_column(Name)
    labels: Mapped[dict[str, int | None]] = mapped_column(Json)
    """{name: slot} of every label that the version holds; null for a label with a network of its own."""
    parameters: Mapped[int] = mapped_column(BigInteger)
    widths: Mapped[dict[str, Any]] = mapped_column(Json)
    files: Mapped[dict[str, dict[str, Any]]] = mapped_column(Json)
    """{file name: {sha256, bytes, media_type}}. The names are in version_files.py."""
    report: Mapped[dict[str, Any]] = mapped_column(Json)
    revoked_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The job that forgot a label which this version still holds: nobody may draw from it any more."""
    purged_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The job whose purge covers it: all files but the descriptive ones are deleted, or soon will be."""
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When a client deleted it: all files but the descriptive ones are deleted, or soon will be."""
    description: Mapped[str | None] = mapped_column(Text)
    client_metadata: Mapped[dict[str, str] | None] = mapped_column("metadata", Json)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class AliasRow(Row):
    """A name that a client gave to a version of a model, such as `production`. It may be moved."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
        CheckConstraint("revision >= 1", name="revision"),
    )

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(Integer)
    """The number of its newest change."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    updated_at: Mapped[datetime] = mapped_column(Timestamp, default=now(), onupdate=now())


class AliasChangeRow(Row):
    """An entry of an alias's history. Entries are only ever added; they stay when the alias is deleted.

    Triggers of the database refuse to change or delete one (migration 0015).
    """

    __tablename__ = "alias_changes"
    __table_args__ = (
        CheckConstraint("action IN ('set', 'rollback', 'delete')", name="action"),
        CheckConstraint("(action = 'delete') = (to_version IS NULL)", name="to_version"),
        CheckConstraint("(action = 'rollback') = (restored IS NOT NULL)", name="restored"),
        CheckConstraint("number >= 1", name="number"),
    )

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(Name, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Counts the changes of the alias from 1, also beyond a deletion."""
    action: Mapped[AliasAction] = mapped_column(String(16))
    from_version: Mapped[int | None] = mapped_column(Integer)
    """Null where the alias did not exist before."""
    to_version: Mapped[int | None] = mapped_column(Integer)
    """Null where the alias was deleted."""
    restored: Mapped[int | None] = mapped_column(Integer)
    """The number of the change that a rollback went back to."""
    reason: Mapped[str | None] = mapped_column(String(500))
    created_by: Mapped[str | None] = mapped_column(Id)
    """The id of the API key that requested it; null where no key is needed."""
    request_id: Mapped[str | None] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class SampleRow(Row):
    """A request for images: all that is needed to draw exactly the same pixels again."""

    __tablename__ = "samples"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
        Index("ix_samples_model_id", "model_id"),
        CheckConstraint("count >= 1", name="count"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int] = mapped_column(Integer)
    labels: Mapped[list[str]] = mapped_column(Json)
    count: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
