"""What concerns the whole deployment: its audit log, facts about it, and damaged artifacts."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Digest, Id, Json, Name, Row, Timestamp


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
        Index("ix_audit_log_resource_sequence", "resource", "sequence"),
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
