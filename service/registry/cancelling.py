"""Cancelling many jobs at once, while workers claim them and put them back."""

from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from service.registry.database import now
from service.registry.tables import CLAIMED_STATES, UNFINISHED_STATES, JobRow


def cancel_unfinished(session: Session, which: ColumnElement[bool]) -> None:
    """Cancel these jobs: the queued ones at once, the claimed ones as soon as their workers notice.

    All rows are locked first, whatever the state of the job. Otherwise, on PostgreSQL, a worker could put a
    job back, or claim it, between the two updates, and neither would find it.
    """
    unfinished = select(JobRow.id).where(which, JobRow.state.in_(UNFINISHED_STATES))
    session.execute(unfinished.order_by(JobRow.sequence).with_for_update(of=JobRow)).all()
    is_claimed = JobRow.state.in_(CLAIMED_STATES) & JobRow.cancel_requested.is_(False)
    _change(session, which & is_claimed, cancel_requested=True)
    is_queued = JobRow.state == "queued"
    _change(session, which & is_queued, state="cancelled", cancel_requested=True, finished_at=now())


def _change(session: Session, which: ColumnElement[bool], **values: Any) -> None:
    change = update(JobRow).where(which).values(values)
    session.execute(change.execution_options(synchronize_session=False))
