"""Who may call the API, and which of their requests were answered: keys, sessions, idempotency keys."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.registry.database import now
from service.registry.tables.base import Digest, Id, Json, Name, Row, Timestamp
from service.registry.tables.projects import ProjectRow


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
    already_forgotten: Mapped[dict[str, str] | None] = mapped_column(Json)
    """What the answer said of the request's labels that were forgotten already: {hash of the label: job}."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
