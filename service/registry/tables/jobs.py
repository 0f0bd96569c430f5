"""Jobs, with their snapshots and reports."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.queue_names import DEFAULT_QUEUE
from service.registry.database import now
from service.registry.tables.base import ArtifactHash, Id, Json, Name, Row, Timestamp
from service.registry.tables.models import ModelRow, Operation

if TYPE_CHECKING:
    from service.registry.tables.erasures import ImageErasureRow, PurgeRow


JobState = Literal["queued", "running", "verifying", "succeeded", "failed", "rejected", "cancelled"]
CLAIMED_STATES: tuple[JobState, ...] = ("running", "verifying")
"""The states of a job that a worker has claimed."""
UNFINISHED_STATES: tuple[JobState, ...] = ("queued", *CLAIMED_STATES)

JobOperation = Literal[Operation, "export"]
"""What a job does. An `export` job draws one shard of an export: clients see the export, and not its jobs."""
INDEPENDENT: tuple[JobOperation, ...] = ("evaluate", "export")
"""The operations that only read a version, which never changes: their jobs neither wait for other jobs of
their model nor delay them."""

RUNNING_CHANGE = "state IN ('running', 'verifying') AND operation NOT IN ('evaluate', 'export')"
"""SQL: the job is changing its model. A unique index allows one such job per model at a time. Any number of
independent jobs may run meanwhile."""

ENDED_WITHOUT_AUDIT = "finished_at IS NOT NULL AND audited_at IS NULL"
"""SQL: the job has ended, and the audit log does not say how yet."""

Guarantee = Literal["approximate", "exact"]
Level = Literal["quick", "full"]


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
        Index(
            "ix_jobs_with_expiry",
            "sequence",
            sqlite_where=text("expires_in IS NOT NULL"),
            postgresql_where=text("expires_in IS NOT NULL"),
        ),
        Index(
            "one_follower_per_job",
            "follows",
            unique=True,
            sqlite_where=text("follows IS NOT NULL"),
            postgresql_where=text("follows IS NOT NULL"),
        ),
        Index(
            "one_job_per_part",
            "export_id",
            "part",
            unique=True,
            sqlite_where=text("export_id IS NOT NULL"),
            postgresql_where=text("export_id IS NOT NULL"),
        ),
        CheckConstraint("operation IN ('learn', 'forget', 'resize', 'evaluate', 'export')", name="operation"),
        CheckConstraint(
            "state IN ('queued', 'running', 'verifying', 'succeeded', 'failed', 'rejected', 'cancelled')",
            name="state",
        ),
        CheckConstraint("(state IN ('running', 'verifying')) = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint(
            "(state = 'succeeded' AND operation NOT IN ('evaluate', 'export')) = "
            "(output_version IS NOT NULL)",
            name="output_version",
        ),
        CheckConstraint(
            "(operation = 'evaluate') = (evaluated_version IS NOT NULL)", name="evaluated_version"
        ),
        CheckConstraint("(operation = 'export') = (export_id IS NOT NULL)", name="export_id"),
        CheckConstraint("attempt <= max_attempts", name="attempt"),
        CheckConstraint("priority BETWEEN -10 AND 10", name="priority"),
        {"sqlite_autoincrement": True},
    )

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    """Grows in the order in which jobs were accepted, in which the jobs of a model also run."""
    id: Mapped[str] = mapped_column(Id, unique=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    operation: Mapped[JobOperation] = mapped_column(String(16))
    strategy: Mapped[str] = mapped_column(Name)
    labels: Mapped[list[str]] = mapped_column(Json)
    dataset: Mapped[str] = mapped_column(Name)
    renamed: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: the name it has in the dataset} of the labels that are learned under another name."""
    retention: Mapped[str | None] = mapped_column(String(16))
    expires_in: Mapped[int | None] = mapped_column(Integer)
    """Of a learn of temporary labels: how many seconds after its end they are forgotten."""
    params: Mapped[dict[str, Any]] = mapped_column(Json)
    """Of an `export` job: `export_clearing.stored_files_of` it."""
    packages: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{`strategy`, `network` or `dataset`: the package that brings it} of those that are not built in."""
    queue: Mapped[str] = mapped_column(
        String(32), default=DEFAULT_QUEUE, server_default=text(f"'{DEFAULT_QUEUE}'")
    )
    """Only workers that serve this queue take the job."""
    priority: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    """Of two jobs that could run, workers mostly take that with the larger number (worker/jobs/turns.py)."""
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
    elsewhere: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What else of the project held labels learned from the same images when a forget was published."""
    reference: Mapped[str | None] = mapped_column(Name)
    """The client's own name for the request, such as the number of an erasure request."""
    client_metadata: Mapped[dict[str, str] | None] = mapped_column("metadata", Json)
    created_by: Mapped[str | None] = mapped_column(Id)
    """The id of the API key that requested it; null where no key is needed."""
    retry_of: Mapped[str | None] = mapped_column(Id)
    """The job that this one repeats."""
    follows: Mapped[str | None] = mapped_column(Id)
    """The learn or forget after which this resize runs. If that job ends and did not succeed, a trigger
    cancels the resize in the same statement (migration 0012)."""
    export_id: Mapped[str | None] = mapped_column(Id)
    """The export of an `export` job."""
    part: Mapped[int | None] = mapped_column(Integer)
    """The number of the shard that an `export` job draws; the number of shards stands for the manifest."""
    progress_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the worker last made progress. A heartbeat alone does not change it."""
    stalls_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the sweeper ends the claim because the job makes no progress. Every heartbeat sets it."""
    store_failures: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    """How many claims were released because the artifact store did not answer. These are not attempts."""
    made_permanent: Mapped[list[str] | None] = mapped_column(Json)
    """Of a learn: the labels that were temporary when it was submitted, and that it makes permanent."""
    request_id: Mapped[str | None] = mapped_column(Name)
    trace_id: Mapped[str | None] = mapped_column(String(32))
    """The trace that the request belongs to (W3C Trace Context)."""
    audited_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the audit log got the entry that says how the job ended."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    model: Mapped[ModelRow] = relationship(viewonly=True)
    """Loaded when it is first used."""
    purge: Mapped["PurgeRow | None"] = relationship(viewonly=True)
    """Only a forget can have one. Loaded when it is first used."""
    image_erasure: Mapped["ImageErasureRow | None"] = relationship(viewonly=True)
    """Only a forget can have one. Loaded when it is first used."""

    follower: Mapped["JobRow | None"] = relationship(
        viewonly=True, primaryjoin="JobRow.id == foreign(remote(JobRow.follows))", uselist=False
    )
    """The resize that follows this job. Loaded when it is first used."""
    repeated_requests: Mapped[list["RepeatedRequestRow"]] = relationship(
        viewonly=True, order_by="RepeatedRequestRow.number"
    )
    """Only a forget can have some. Loaded when they are first used."""

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


class RepeatedRequestRow(Row):
    """A request that a job answers besides its own, with another reference or other metadata."""

    __tablename__ = "repeated_requests"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Counts the requests of one job from 1."""
    reference: Mapped[str | None] = mapped_column(Name)
    client_metadata: Mapped[dict[str, str] | None] = mapped_column("metadata", Json)
    request_id: Mapped[str | None] = mapped_column(Name)
    created_by: Mapped[str | None] = mapped_column(Id)
    """The id of the API key that requested it; null where no key is needed."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class SnapshotRow(Row):
    """The newest snapshot of an unfinished job, from which another attempt resumes."""

    __tablename__ = "snapshots"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


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
