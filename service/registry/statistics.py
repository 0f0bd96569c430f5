"""Figures of the whole deployment, for metrics. Each query uses an index or reads a small table."""

import time
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service.registry.database import Database, seconds_since
from service.registry.jobs import is_blocked
from service.registry.tables import (
    UNFINISHED_STATES,
    ArtifactFaultRow,
    DatasetDeletionRow,
    JobRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    VersionRow,
)

FAULTS = ("missing", "corrupt", "unreadable")


@dataclass(frozen=True)
class Statistics:
    """What the database says of the whole deployment at one moment."""

    jobs: dict[str, int]
    """{state: number of jobs} of the unfinished ones."""
    queue_age_seconds: float
    """How long the oldest queued job that waits for no other job of its model has waited; 0 if none does."""
    models: int
    versions: int
    receipts_unsigned: int
    purges_pending: int
    dataset_deletions_pending: int
    artifact_faults: dict[str, int]


class RecentStatistics:
    """Reads the figures again only if the last ones are older than `seconds`. Thread-safe.

    So several scrapers cost no more than one.
    """

    def __init__(self, database: Database, *, seconds: float = 5.0) -> None:
        self._database = database
        self._seconds = seconds
        self._lock = Lock()
        self._last: tuple[float, Statistics] | None = None

    def read(self) -> Statistics:
        """Return the figures. Raises DatabaseUnavailable."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._seconds:
                with self._database.reading() as session:
                    self._last = time.monotonic(), read(session)
            return self._last[1]


def read(session: Session) -> Statistics:
    """Read all figures in one transaction. Raises DatabaseUnavailable."""
    by_state = select(JobRow.state, func.count()).where(JobRow.state.in_(UNFINISHED_STATES))
    by_fault = select(ArtifactFaultRow.fault, func.count()).group_by(ArtifactFaultRow.fault)
    counted: dict[str, int] = dict(session.execute(by_state.group_by(JobRow.state)).all())
    faults: dict[str, int] = dict(session.execute(by_fault).all())
    return Statistics(
        jobs={state: counted.get(state, 0) for state in UNFINISHED_STATES},
        queue_age_seconds=_queue_age(session),
        models=_count(session, select(func.count()).where(ModelRow.deleted_at.is_(None))),
        versions=_count(session, select(func.count()).select_from(VersionRow)),
        receipts_unsigned=_count(session, select(func.count()).where(ReceiptRow.envelope.is_(None))),
        purges_pending=_count(session, select(func.count()).where(PurgeRow.state == "pending")),
        dataset_deletions_pending=_count(
            session, select(func.count()).where(DatasetDeletionRow.state != "done")
        ),
        artifact_faults={fault: faults.get(fault, 0) for fault in FAULTS},
    )


def _queue_age(session: Session) -> float:
    oldest = (
        select(seconds_since(JobRow.created_at))
        .where(JobRow.state == "queued", ~is_blocked())
        .order_by(JobRow.sequence)
        .limit(1)
    )
    return max(0.0, session.scalar(oldest) or 0.0)


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0
