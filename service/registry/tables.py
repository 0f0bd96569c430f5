"""The tables of the registry. Invariants are database constraints, so that no bug in the code breaks them."""

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
"""The states of a job that a worker has claimed."""
UNFINISHED_STATES: tuple[JobState, ...] = ("queued", *CLAIMED_STATES)

RUNNING_CHANGE = "state IN ('running', 'verifying') AND operation <> 'evaluate'"
"""SQL: the job is changing its model. A unique index allows one such job per model at a time. Any number of
evaluate jobs may run meanwhile, because they only measure versions, and versions never change."""

ENDED_WITHOUT_AUDIT = "finished_at IS NOT NULL AND audited_at IS NULL"
"""SQL: the job has ended, and the audit log does not say how yet."""

LabelStatus = Literal["temporary", "permanent", "forgotten"]
Operation = Literal["learn", "forget", "resize", "evaluate"]
Guarantee = Literal["approximate", "exact"]
Level = Literal["quick", "full"]
PurgeState = Literal["requested", "pending", "done"]
PurgeReason = Literal["requested", "retention"]


def new_id(prefix: str) -> str:
    """Return a new id: the prefix and a ULID in Crockford base32. Ids sort by the time they were made."""
    return f"{prefix}_{ULID()}"


class Timestamp(TypeDecorator[datetime]):
    """A time with its zone. Values are read in UTC from every database (SQLite stores no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class ArtifactHash(TypeDecorator[str]):
    """The sha256 of an artifact that the row needs. Every column that holds one must have this type.

    artifact_references.py finds the artifacts that must not be deleted by looking for columns of this type.
    """

    impl = String(64)
    cache_ok = True


class Digest(TypeDecorator[str]):
    """A sha256 that names no artifact which the row needs."""

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


DEFAULT_PROJECT = "prj_default"
"""The id of the project `default`, which a request means if it names no other. The migration creates it."""


class ProjectRow(Row):
    """A project: what models, datasets, samples and keys belong to. It sees nothing of other projects."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class ApiKeyRow(Row):
    """An API key: who may call the API, and for what. The secret itself is stored nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    """Null for a key of the whole deployment."""
    name: Mapped[str] = mapped_column(Name)
    scopes: Mapped[list[str]] = mapped_column(Json)
    secret_sha256: Mapped[str] = mapped_column(Digest)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    last_used_at: Mapped[datetime | None] = mapped_column(Timestamp)

    project: Mapped[ProjectRow | None] = relationship(viewonly=True)


class SessionRow(Row):
    """A session of a browser, opened with an API key. The token itself is stored nowhere."""

    __tablename__ = "sessions"

    token_sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    """The project that it was opened for."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    expires_at: Mapped[datetime] = mapped_column(Timestamp)


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
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), default=DEFAULT_PROJECT)
    name: Mapped[str] = mapped_column(Name)
    dataset: Mapped[str] = mapped_column(Name)
    network: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    acceptance: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """The criteria that every version must meet, unless the request for it sets others."""
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
    """A published state of a model. It never changes; the versions of a model are numbered without a gap."""

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
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class JobRow(Row):
    """A job: a request that was accepted, to change a model or to measure a version of it.

    The row is the only record of the job. A message to a worker contains nothing but the job's id.
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
        Index(
            "ix_jobs_not_audited",
            "sequence",
            sqlite_where=text(ENDED_WITHOUT_AUDIT),
            postgresql_where=text(ENDED_WITHOUT_AUDIT),
        ),
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
    """Grows in the order in which jobs were accepted, in which the jobs of a model also run."""
    id: Mapped[str] = mapped_column(Id, unique=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    operation: Mapped[Operation] = mapped_column(String(16))
    strategy: Mapped[str] = mapped_column(Name)
    labels: Mapped[list[str]] = mapped_column(Json)
    dataset: Mapped[str] = mapped_column(Name)
    renamed: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: the name it has in the dataset} of the labels that are learned under another name."""
    retention: Mapped[str | None] = mapped_column(String(16))
    params: Mapped[dict[str, Any]] = mapped_column(Json)
    acceptance: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    base_version: Mapped[int | None] = mapped_column(Integer)
    """The version that had to be the head when the job was accepted, if the request named one."""
    evaluated_version: Mapped[int | None] = mapped_column(Integer)
    """The version that an evaluate job measures."""

    state: Mapped[JobState] = mapped_column(String(16))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    """Grows with every claim. A worker may write about the job only while the row has its claim's fence."""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """How many times it was claimed. Claims that a worker released because it was shut down do not count."""
    max_attempts: Mapped[int] = mapped_column(Integer)
    lease_until: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the claim ends, unless a heartbeat extends it."""
    notified_at: Mapped[datetime | None] = mapped_column(Timestamp, default=now())
    """When a wake-up message was last sent, or is about to be; null: the next sweep sends one."""
    worker: Mapped[str | None] = mapped_column(Text)
    """host:pid of the worker that claimed it last."""
    progress: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """{type, code, message, retryable}."""
    cost: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """The seconds, examples and energy of the last attempt (worker/jobs/cost.py). They vary from run to
    run, so no file of a version may contain them: the same job must give the same bytes."""
    output_version: Mapped[int | None] = mapped_column(Integer)
    started_from: Mapped[int | None] = mapped_column(Integer)
    """The version that was the head when the job was claimed, from which it makes the next one."""
    guarantee: Mapped[Guarantee | None] = mapped_column(String(16))
    """What a forget has to guarantee; once it has succeeded, what it guarantees. Null in rows of earlier
    releases."""
    already_forgotten: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: the job that forgot it} of the labels that were left out of a forget."""
    also: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What else the request asked for: `{"datasets": true}` deletes the labels' images from uploads."""
    elsewhere: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What else of the project held labels learned from the same images when a forget was published."""
    reference: Mapped[str | None] = mapped_column(Name)
    """The client's own name for the request, such as the number of an erasure request."""
    client_metadata: Mapped[dict[str, str] | None] = mapped_column("metadata", Json)
    created_by: Mapped[str | None] = mapped_column(Id)
    """The id of the API key that requested it; null where no key is needed."""
    progress_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the worker last made progress. A heartbeat alone does not change it."""
    stalls_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the sweeper ends the claim because the job makes no progress. Every heartbeat sets it."""
    store_failures: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    """How many claims were released because the artifact store did not answer. These are not attempts."""
    request_id: Mapped[str | None] = mapped_column(Name)
    audited_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the audit log got the entry that says how the job ended."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    model: Mapped[ModelRow] = relationship(viewonly=True)
    """Loaded when it is first used."""
    purge: Mapped["PurgeRow | None"] = relationship(viewonly=True)
    """Only a forget can have one. Loaded when it is first used."""

    @property
    def sources(self) -> dict[str, str]:
        """{label: the name it has in the dataset} of every label of the job."""
        return {name: name for name in self.labels} | (self.renamed or {})

    @property
    def done(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.state not in UNFINISHED_STATES

    @property
    def public_state(self) -> str:
        """The state that clients see: `cancelling` once a cancel was accepted, until the job has ended."""
        return "cancelling" if self.cancel_requested and not self.done else self.state


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
    """The files of purged versions whose artifacts were kept, because other rows need them: same fields."""
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


class ReportRow(Row):
    """A report that no version was published with: of an evaluate job, or of a rejected candidate."""

    __tablename__ = "reports"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.number"]),
        Index("ix_reports_model_id_version", "model_id", "version"),
        CheckConstraint("level IN ('quick', 'full')", name="level"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int | None] = mapped_column(Integer)
    """The version that was measured; null for a rejected candidate, which became no version."""
    level: Mapped[Level] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact that holds the report as JSON."""
    report: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


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
    """The files whose artifacts were kept, because rows of other models need them: same fields."""
    reference: Mapped[str | None] = mapped_column(Name)
    created_by: Mapped[str | None] = mapped_column(Id)
    request_id: Mapped[str | None] = mapped_column(Name)
    envelope: Mapped[str | None] = mapped_column(Text)
    """The bytes of the signed receipt, once the files of a purge are deleted."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)


class SnapshotRow(Row):
    """The newest snapshot of an unfinished job, from which another attempt resumes."""

    __tablename__ = "snapshots"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class IdempotencyKeyRow(Row):
    """The answer to a POST that had an Idempotency-Key: its status and the resource's id, not its body.

    It is written in the transaction that writes the resource, so a crash leaves both or neither.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Digest)
    """The hash of method, path, query and body: the key may not be used for another request."""
    status: Mapped[int] = mapped_column(Integer)
    """The HTTP status of the answer."""
    resource_id: Mapped[str] = mapped_column(Name)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class AuditRow(Row):
    """An entry of the audit log: who requested what, and what became of it. Entries are only ever added.

    Triggers of the database refuse to delete one, or to change one that is sealed (audit.py).
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        UniqueConstraint("position"),
        Index(
            "ix_audit_log_unsealed",
            "sequence",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
        CheckConstraint("(position IS NULL) = (hash IS NULL)", name="sealed"),
        {"sqlite_autoincrement": True},
    )

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    project_id: Mapped[str | None] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(Id)
    """The id of the API key; `anonymous` where no key is needed; `palimpsest` for the service itself."""
    action: Mapped[str] = mapped_column(Id)
    resource: Mapped[str] = mapped_column(Name)
    request_id: Mapped[str | None] = mapped_column(Name)
    details: Mapped[dict[str, Any]] = mapped_column(Json)
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Its place in the chain, from 1 without a gap; null until it is sealed."""
    hash: Mapped[str | None] = mapped_column(Digest)
    """The sha256 of the hash before and this entry; null until it is sealed."""


class FactRow(Row):
    """A fact about the deployment, by its name: such as the identity of its artifact store."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(Json)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, default=now(), onupdate=now())


class ArtifactFaultRow(Row):
    """An artifact that a check found missing or changed, until a later check finds it intact."""

    __tablename__ = "artifact_faults"
    __table_args__ = (CheckConstraint("fault IN ('missing', 'corrupt', 'unreadable')", name="fault"),)

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    fault: Mapped[Literal["missing", "corrupt", "unreadable"]] = mapped_column(String(16))
    found_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class DatasetRow(Row):
    """A dataset that a client uploaded. It never changes."""

    __tablename__ = "datasets"

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id"), primary_key=True, default=DEFAULT_PROJECT
    )
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    images: Mapped[dict[str, int]] = mapped_column(Json)
    """{label: number of images}, in the order in which their pixels are stored."""
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact that holds the 784 bytes of every image, label after label."""
    label_digests: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: a hash of its images, whatever their order}. Null for uploads of earlier releases."""
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
