"""How many jobs may be queued: in all, and for each API key."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.registry.errors import QueueFull
from service.registry.tables import JobRow

_SPAN = select(func.max(JobRow.sequence) - func.min(JobRow.sequence) + 1).where(JobRow.state == "queued")


def check_room(session: Session, key_id: str | None, *, new: int, most: int, most_of_key: int) -> None:
    """Raise QueueFull if with `new` more jobs more than `most` are queued, or than `most_of_key` of this key.

    Requests that are accepted at the same moment do not see each other, so that a few more may be queued.
    The jobs are counted only if there may be enough of them, which the sequences of the oldest and the newest
    queued job tell in constant time.
    """
    at_most = (session.scalar(_SPAN) or 0) + new
    if at_most > most and _count(session, None) + new > most:
        raise QueueFull(f"{most:,} jobs are queued")
    if key_id is not None and at_most > most_of_key and _count(session, key_id) + new > most_of_key:
        raise QueueFull(f"{most_of_key:,} jobs of this API key are queued")


def _count(session: Session, key_id: str | None) -> int:
    query = select(func.count()).select_from(JobRow).where(JobRow.state == "queued")
    return session.scalar(query if key_id is None else query.where(JobRow.created_by == key_id)) or 0
