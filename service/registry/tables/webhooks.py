"""Webhooks: the addresses that want to know what happens in a project, and what is sent to them."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Id, Json, Row, Timestamp

DeliveryState = Literal["pending", "delivered", "failed"]
PENDING = "state = 'pending'"


class WebhookRow(Row):
    """A webhook: where to send messages of some types, and the secret that signs them."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_project_id", "project_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    url: Mapped[str] = mapped_column(Text)
    types: Mapped[list[str]] = mapped_column(Json)
    secret: Mapped[str] = mapped_column(String(100))
    """It is stored as it is, because it has to sign. It opens nothing of this service."""
    disabled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When the service gave up sending to it."""
    created_by: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())


class WebhookDeliveryRow(Row):
    """A message for a webhook, and what became of it."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
        Index(
            "ix_webhook_deliveries_pending",
            "next_at",
            sqlite_where=text(PENDING),
            postgresql_where=text(PENDING),
        ),
        Index("ix_webhook_deliveries_created_at", "created_at"),
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    """The `webhook-id` of the message: the same in each attempt."""
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    type: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    """Ids, names and states: nothing of an image."""
    state: Mapped[DeliveryState] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    """When it may be sent next. While it is being sent: when another process may take it over."""
    status: Mapped[int | None] = mapped_column(Integer)
    """The HTTP status of the last answer."""
    error: Mapped[str | None] = mapped_column(String(200))
    """Why the last attempt got no answer, or none that counts."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
