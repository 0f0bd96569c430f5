"""The events of jobs: their states, their progress with its loss, and lines that a client may read.

The events of states are added by triggers of the database (migration 0010), the others by the worker, in
the transaction of a heartbeat or of the end of its attempt. So they are numbered one after another: whoever
adds an event has locked the job's row. Progress and lines are bounded for each job: of too many progress
events every other one is deleted, so that those that remain still show the whole course of the loss.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.logs import without_secrets
from service.registry.database import Database, from_now
from service.registry.frequent_queries import FrequentQuery, is_one_of
from service.registry.tables import UNFINISHED_STATES, EventType, JobEventRow, JobRow

MAX_PROGRESS_EVENTS = 400
"""How many progress events a job has at most."""
MAX_LOG_EVENTS = 200
MAX_LOG_CHARACTERS = 500
BATCH = 1000
"""How many events are read or deleted at once."""


class Page(NamedTuple):
    """Some events of a job, the oldest first, and whether later ones follow."""

    rows: list[JobEventRow]
    has_more: bool


class News(NamedTuple):
    """What happened to a job after an event, and whether the job has ended."""

    rows: list[JobEventRow]
    done: bool


def add_progress(session: Session, job_id: str, progress: Mapping[str, Any]) -> None:
    """Add a progress event, and thin out the job's progress events if there are too many.

    The caller's transaction has locked the job's row.
    """
    _add(session, job_id, "progress", progress)
    of_job = (JobEventRow.job_id == job_id, JobEventRow.type == "progress")
    numbers = list(session.scalars(select(JobEventRow.number).where(*of_job).order_by(JobEventRow.number)))
    if len(numbers) > MAX_PROGRESS_EVENTS:
        thinned = delete(JobEventRow).where(*of_job, JobEventRow.number.in_(numbers[1:-1:2]))
        session.execute(thinned.execution_options(synchronize_session=False))


def add_log(session: Session, job_id: str, message: str) -> None:
    """Add a line for the client, unless the job has MAX_LOG_EVENTS already.

    The caller's transaction has locked the job's row.
    """
    of_job = select(func.count()).where(JobEventRow.job_id == job_id, JobEventRow.type == "log")
    if (session.scalar(of_job) or 0) < MAX_LOG_EVENTS:
        line = " ".join(without_secrets(message).split())
        shown = line if len(line) <= MAX_LOG_CHARACTERS else line[: MAX_LOG_CHARACTERS - 1] + "…"
        _add(session, job_id, "log", {"message": shown})


def page(session: Session, job_id: str, *, limit: int, after: int = 0, type: EventType | None = None) -> Page:
    """Return the job's oldest events after the one with the number `after`."""
    query = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.number > after)
    if type is not None:
        query = query.where(JobEventRow.type == type)
    rows = list(session.scalars(query.order_by(JobEventRow.number).limit(limit + 1)))
    return Page(rows[:limit], len(rows) > limit)


def read_news(database: Database, after: Mapping[str, int]) -> dict[str, News]:
    """Return {job id: what happened after the event with that number} of the jobs about which there is news.

    A job that is unknown counts as one that has ended without events. One query finds which jobs have news,
    however many are asked about. Raises DatabaseUnavailable.
    """
    found = {row[0]: (row[1], row[2] or 0) for row in database.run(_NEWEST, ids=list(after))}
    with_news = {job_id for job_id, number in after.items() if found.get(job_id, ("", 0))[1] > number}
    ended = {job_id for job_id in after if found.get(job_id, ("", 0))[0] not in UNFINISHED_STATES}
    if not with_news:
        return {job_id: News([], done=True) for job_id in ended}
    with database.reading() as session:
        pages = {job_id: page(session, job_id, limit=BATCH, after=after[job_id]) for job_id in with_news}
    read = {
        job_id: News(one.rows, done=job_id in ended and not one.has_more) for job_id, one in pages.items()
    }
    return {job_id: News([], done=True) for job_id in ended} | read


def delete_old(session: Session, *, days: float) -> int:
    """Delete events that are older than that, of jobs that have ended. Returns how many. For the sweeper."""
    old = select(JobEventRow.job_id, JobEventRow.number).join(JobRow, JobRow.id == JobEventRow.job_id)
    old = old.where(JobEventRow.at < from_now(-days * 86400), JobRow.finished_at < from_now(-days * 86400))
    rows = session.execute(old.order_by(JobEventRow.at).limit(BATCH)).all()
    for job_id in {row.job_id for row in rows}:
        numbers = [row.number for row in rows if row.job_id == job_id]
        of_job = delete(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.number.in_(numbers))
        session.execute(of_job.execution_options(synchronize_session=False))
    return len(rows)


_NEWEST = FrequentQuery(
    select(
        JobRow.id,
        JobRow.state,
        select(func.max(JobEventRow.number))
        .where(JobEventRow.job_id == JobRow.id)
        .correlate(JobRow)
        .scalar_subquery(),
    ).where(is_one_of(JobRow.id, "ids"))
)


def _add(session: Session, job_id: str, type: EventType, data: Mapping[str, Any]) -> None:
    newest = select(func.max(JobEventRow.number)).where(JobEventRow.job_id == job_id)
    number = (session.scalar(newest) or 0) + 1
    session.add(JobEventRow(job_id=job_id, number=number, type=type, data=dict(data)))
    session.flush()
