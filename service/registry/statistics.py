"""Figures of the whole deployment, for metrics. Each query uses an index or reads a small table."""

import time
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session

from service.queue_names import DEFAULT_QUEUE
from service.registry import export_clearing, workers
from service.registry.database import Database, seconds_since
from service.registry.jobs import is_blocked
from service.registry.tables import (
    INDEPENDENT,
    UNFINISHED_STATES,
    ArtifactFaultRow,
    DatasetDeletionRow,
    ExportRow,
    JobRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    VersionRow,
)

FAULTS = ("missing", "corrupt", "unreadable")


MAX_QUEUES = 50
"""Of how many queues there are figures: those with the most jobs."""


@dataclass(frozen=True)
class QueueStatistics:
    """What the database says of one queue at one moment."""

    queued: int = 0
    demand: int = 0
    """How many of its jobs run, or could run now: so many workers would have work."""
    wait_seconds: float = 0.0
    """How long the oldest of those that could run has waited; 0 if there is none."""
    workers: int = 0
    """How many workers that live serve it."""


@dataclass(frozen=True)
class Statistics:
    """What the database says of the whole deployment at one moment."""

    jobs: dict[str, int]
    """{state: number of jobs} of the unfinished ones."""
    queue_age_seconds: float
    """How long the oldest queued job that waits for no other job of its model has waited; 0 if none does.

    Parts of exports do not count, because they wait for all other jobs.
    """
    queues: dict[str, QueueStatistics]
    """{queue: figures} of those that have jobs or workers, and of the default one."""
    models: int
    versions: int
    receipts_unsigned: int
    purges_pending: int
    dataset_deletions_pending: int
    exports_unfinished: int
    exports_to_clear: int
    """How many exports have ended without a result, or were deleted, and still have files."""
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
        queues=_queues(session),
        models=_count(session, select(func.count()).where(ModelRow.deleted_at.is_(None))),
        versions=_count(session, select(func.count()).select_from(VersionRow)),
        receipts_unsigned=_count(session, select(func.count()).where(ReceiptRow.envelope.is_(None))),
        purges_pending=_count(session, select(func.count()).where(PurgeRow.state == "pending")),
        dataset_deletions_pending=_count(
            session, select(func.count()).where(DatasetDeletionRow.state != "done")
        ),
        exports_unfinished=_count(session, select(func.count()).where(ExportRow.finished_at.is_(None))),
        exports_to_clear=_count(
            session, select(func.count()).select_from(ExportRow).where(export_clearing.is_to_clear())
        ),
        artifact_faults={fault: faults.get(fault, 0) for fault in FAULTS},
    )


def _queue_age(session: Session) -> float:
    oldest = (
        select(seconds_since(JobRow.created_at))
        .where(JobRow.state == "queued", JobRow.export_id.is_(None), ~is_blocked())
        .order_by(JobRow.sequence)
        .limit(1)
    )
    return max(0.0, session.scalar(oldest) or 0.0)


def _queues(session: Session) -> dict[str, QueueStatistics]:
    by_queue = select(JobRow.queue, func.count()).where(JobRow.state == "queued").group_by(JobRow.queue)
    queued: dict[str, int] = dict(session.execute(by_queue).all())
    unfinished, is_change = JobRow.state.in_(UNFINISHED_STATES), JobRow.operation.not_in(INDEPENDENT)
    first = select(func.min(JobRow.sequence)).where(unfinished, is_change).group_by(JobRow.model_id)
    waits = (JobRow.state == "queued") & JobRow.export_id.is_(None)  # parts of exports wait for all others
    waited = func.max(case((waits, seconds_since(JobRow.created_at))))
    wanted = (
        select(JobRow.queue, func.count(), waited)
        .where(unfinished, or_(JobRow.sequence.in_(first), ~is_change))
        .group_by(JobRow.queue)
    )
    demand = {queue: (count, seconds) for queue, count, seconds in session.execute(wanted)}
    served = workers.find_served(session)
    names = sorted({*queued, *demand} - {DEFAULT_QUEUE, *served}, key=lambda name: -queued.get(name, 0))
    found = {}
    for queue in [DEFAULT_QUEUE, *(name for name in served if name != DEFAULT_QUEUE), *names][:MAX_QUEUES]:
        count, seconds = demand.get(queue, (0, None))
        found[queue] = QueueStatistics(
            queued.get(queue, 0), count, max(0.0, seconds or 0.0), served.get(queue, 0)
        )
    return found


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0
