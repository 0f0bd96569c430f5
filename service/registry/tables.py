"""The rows. What must never be true is refused here, by a constraint, whoever writes."""

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from ulid import ULID

from service.registry.database import now

JobState = Literal["queued", "running", "verifying", "succeeded", "failed", "rejected", "cancelled"]
CLAIMED_STATES: tuple[JobState, ...] = ("running", "verifying")
UNFINISHED_STATES: tuple[JobState, ...] = ("queued", *CLAIMED_STATES)

RUNNING_CHANGE = "state IN ('running', 'verifying') AND operation <> 'evaluate'"
"""Of these a model has one at most. A version never changes, so measuring one disturbs nobody."""

LabelStatus = Literal["temporary", "permanent", "forgotten"]
Operation = Literal["learn", "forget", "resize", "evaluate"]
Level = Literal["quick", "full"]
PurgeState = Literal["requested", "pending", "done"]
PurgeReason = Literal["requested", "retention"]


def new_id(prefix: str) -> str:
    """A sortable id: prefix + ULID in Crockford base32."""
    return f"{prefix}_{ULID()}"


class Timestamp(TypeDecorator[datetime]):
    """A moment by the database's clock; read back in UTC on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class ArtifactHash(TypeDecorator[str]):
    """The sha256 of an artifact this row needs. What a column of this type names, no purge or collection deletes."""

    impl = String(64)
    cache_ok = True


Json = JSON(none_as_null=True)
Name = String(200)
Id = String(40)


class Row(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ModelRow(Row):
    """The named thing a client creates. `head` is the number of its newest version."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    dataset: Mapped[str] = mapped_column(Name)
    network: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    acceptance: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What every version must reach, unless its request says otherwise."""
    head: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class LabelRow(Row):
    """A label a model has learned at least once. A label without a row is absent."""

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
    """The dataset's own name for it, where the model's is another."""
    slot: Mapped[int | None] = mapped_column(Integer)
    """The label's input of the main network, for life: relearning keeps it.
    Null while it has a network of its own."""
    status: Mapped[LabelStatus] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(Integer)
    """How often the label has been learned."""
    learned_version: Mapped[int] = mapped_column(Integer)
    forgotten_version: Mapped[int | None] = mapped_column(Integer)
    forgotten_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))

    @property
    def source(self) -> str:
        """The dataset's own name for it."""
        return self.renamed_from or self.name


class VersionRow(Row):
    """An immutable, published state of a model; versions form one gap-free chain."""

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
    """{name: slot} of every label this version holds; null for one with a network of its own."""
    parameters: Mapped[int] = mapped_column(BigInteger)
    widths: Mapped[dict[str, Any]] = mapped_column(Json)
    files: Mapped[dict[str, dict[str, Any]]] = mapped_column(Json)
    """{file name: {sha256, bytes, media_type}}."""
    report: Mapped[dict[str, Any]] = mapped_column(Json)
    revoked_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The job that forgot a label this version still holds."""
    purged_by: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """The job whose purge sealed it: its files, but for the evidence, are deleted or about to be."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class JobRow(Row):
    """One accepted request to change a model, or to measure a version of it.

    The row is the job; a message is only its bell.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "one_running_job_per_model",
            "model_id",
            unique=True,
            sqlite_where=text(RUNNING_CHANGE),
            postgresql_where=text(RUNNING_CHANGE),
        ),
        Index("ix_jobs_model_id_sequence", "model_id", "sequence"),
        Index("ix_jobs_state_sequence", "state", "sequence"),
        CheckConstraint("operation IN ('learn', 'forget', 'resize', 'evaluate')", name="operation"),
        CheckConstraint(
            "state IN ('queued', 'running', 'verifying', 'succeeded', 'failed', 'rejected', 'cancelled')",
            name="state",
        ),
        CheckConstraint("(state IN ('running', 'verifying')) = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint(
            "(state = 'succeeded' AND operation <> 'evaluate') = (output_version IS NOT NULL)",
            name="output_version",
        ),
        CheckConstraint(
            "(operation = 'evaluate') = (evaluated_version IS NOT NULL)", name="evaluated_version"
        ),
        CheckConstraint("attempt <= max_attempts", name="attempt"),
        {"sqlite_autoincrement": True},
    )

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    """The order of acceptance. Jobs of one model run in it."""
    id: Mapped[str] = mapped_column(Id, unique=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    operation: Mapped[Operation] = mapped_column(String(16))
    strategy: Mapped[str] = mapped_column(Name)
    labels: Mapped[list[str]] = mapped_column(Json)
    dataset: Mapped[str] = mapped_column(Name)
    renamed: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: the dataset's own name for it}, of the labels to be learned under another."""
    retention: Mapped[str | None] = mapped_column(String(16))
    params: Mapped[dict[str, Any]] = mapped_column(Json)
    acceptance: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    base_version: Mapped[int | None] = mapped_column(Integer)
    """The head the client insisted on, if it did."""
    evaluated_version: Mapped[int | None] = mapped_column(Integer)
    """The version an evaluate job measures."""

    state: Mapped[JobState] = mapped_column(String(16))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer)
    lease_until: Mapped[datetime | None] = mapped_column(Timestamp)
    notified_at: Mapped[datetime | None] = mapped_column(Timestamp, default=now())
    """When its bell was last rung (a new job's is about to be); null asks the sweeper to ring at once."""
    worker: Mapped[str | None] = mapped_column(Text)
    """host:pid of the worker that claimed it last."""
    progress: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """{type, code, message, retryable}."""
    cost: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What the attempt that ended it took, as worker/jobs/cost.py writes it. No two runs take the same: so it is
    here, and in no file."""
    output_version: Mapped[int | None] = mapped_column(Integer)
    request_id: Mapped[str | None] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    purge: Mapped["PurgeRow | None"] = relationship(viewonly=True)
    """Looked up when it is asked for; only a forget has one."""

    @property
    def sources(self) -> dict[str, str]:
        """The dataset's own name for each label."""
        return {name: name for name in self.labels} | (self.renamed or {})

    @property
    def done(self) -> bool:
        return self.state not in UNFINISHED_STATES

    @property
    def shown_state(self) -> str:
        """The state a client sees: `cancelling` from the moment a cancel was accepted."""
        return "cancelling" if self.cancel_requested and not self.done else self.state


class PurgeRow(Row):
    """The deletion of what holds the labels a job forgot; a job has one at most."""

    __tablename__ = "purges"
    __table_args__ = (
        Index("ix_purges_state", "state"),
        CheckConstraint("state IN ('requested', 'pending', 'done')", name="state"),
        CheckConstraint("reason IN ('requested', 'retention')", name="reason"),
        CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    reason: Mapped[PurgeReason] = mapped_column(String(16))
    """Who wants it: a client (requested), or the deployment's rule for revoked versions (retention)."""
    state: Mapped[PurgeState] = mapped_column(String(16))
    """requested: the job has yet to succeed; pending: versions are sealed, their files are being deleted; done."""
    keys: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """The artifacts deleted: [{version, file, sha256, bytes}]."""
    kept: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """Those of a sealed version that something else refers to, likewise."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)


class ReceiptRow(Row):
    """The receipt of a forget that succeeded; without an envelope it is yet to be signed."""

    __tablename__ = "receipts"
    __table_args__ = (
        Index(
            "ix_receipts_unsigned",
            "job_id",
            sqlite_where=text("envelope IS NULL"),
            postgresql_where=text("envelope IS NULL"),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    envelope: Mapped[str | None] = mapped_column(Text)
    """The receipt's very bytes."""


class ReportRow(Row):
    """What a job measured, where that is no version's own report: a fuller one, or a refused candidate's."""

    __tablename__ = "reports"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
        Index("ix_reports_model_id_version", "model_id", "version"),
        CheckConstraint("level IN ('quick', 'full')", name="level"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int | None] = mapped_column(Integer)
    """The version it is about; null for a candidate that was refused, and never became one."""
    level: Mapped[Level] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact: the report's own bytes."""
    report: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class DatasetRow(Row):
    """Images a client uploaded to learn from: once, and never changed."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(Name, primary_key=True)
    images: Mapped[dict[str, int]] = mapped_column(Json)
    """{label: how many}, in the order their pixels are stored in."""
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact: every image's 784 bytes, label after label."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class SampleRow(Row):
    """A recorded ask for images: enough to draw exactly the same pixels again."""

    __tablename__ = "samples"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
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
