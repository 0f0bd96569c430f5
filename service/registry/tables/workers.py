"""Workers: that they live, and what other packages bring to them."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Json, Name, Row, Timestamp

DrainMode = Literal["finish", "hand_back"]


class WorkerRow(Row):
    """A worker process, and the strategies, networks and datasets that only its installed packages bring."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("drain IN ('finish', 'hand_back')", name="drain"),)

    name: Mapped[str] = mapped_column(Name, primary_key=True)
    """host:pid, under which it claims jobs."""
    code: Mapped[str] = mapped_column(Text)
    """Release and hash of its sources, as a version's manifest has them."""
    offers: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """{strategies, datasets, architectures}, as in the catalog; null if it offers nothing but what is built
    in."""
    queues: Mapped[list[str] | None] = mapped_column(Json)
    """The queues that it serves; null in rows of earlier releases."""
    drain: Mapped[DrainMode | None] = mapped_column(String(16))
    """That it is to take no more jobs and to end: after its job, or at once, handing its job back."""
    started_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    seen_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
    """When it last gave a sign of life."""
    stopped_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When it was shut down. Of a worker that was killed, null."""
