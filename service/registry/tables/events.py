"""What happened to jobs, in the order in which it did."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Json, Row, Timestamp

EventType = Literal["state", "progress", "log"]


class JobEventRow(Row):
    """An event of a job: a new state, progress within an attempt, or a line for the client.

    Triggers of the database add the events of states, in the statement that changes the job's row: so also
    for a worker of an earlier release, and for code that does not think of it.
    """

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint("type IN ('state', 'progress', 'log')", name="type"),
        Index("ix_job_events_at", "at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Grows with every event of the job. Some numbers are missing, as old progress is thinned out."""
    type: Mapped[EventType] = mapped_column(String(16))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    """state: {state, attempt, code}; progress: {phase, step, total, loss, eta_seconds}; log: {message}."""
    at: Mapped[datetime] = mapped_column(Timestamp, default=now())
