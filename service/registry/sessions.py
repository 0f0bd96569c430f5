"""Sessions: what a browser has in place of an API key, after a person gave the key once."""

import hashlib
import secrets
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.registry import keys
from service.registry.database import from_now, now, unless_deleted
from service.registry.keys import UsableKey
from service.registry.tables import SessionRow

TOKEN_BYTES = 32
SESSIONS_OF_KEY = 50
"""How many sessions of one key may be open. Another one ends the oldest."""


class OpenSession(NamedTuple):
    """A session that has not ended, the key it was opened with, and its project."""

    key: UsableKey
    project: str | None
    """The id of the project that it was opened for; None if the request names one."""


def create(session: Session, key_id: str, *, project: str | None, seconds: float) -> tuple[SessionRow, str]:
    """Open a session. Returns its row, and the token that the browser sends.

    Deletes sessions that ended, and the oldest of a key that has too many.
    """
    newest = select(SessionRow.token_sha256).where(SessionRow.key_id == key_id)
    newest = newest.order_by(SessionRow.created_at.desc()).limit(SESSIONS_OF_KEY - 1)
    has_too_many = (SessionRow.key_id == key_id) & SessionRow.token_sha256.not_in(newest)
    session.execute(delete(SessionRow).where((SessionRow.expires_at <= now()) | has_too_many))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = SessionRow(
        token_sha256=_digest(token), key_id=key_id, project_id=project, expires_at=from_now(seconds)
    )
    session.add(row)
    with unless_deleted(project):
        session.flush()
    session.refresh(row)
    return row, token


def find(session: Session, token: str) -> OpenSession | None:
    """Return the session of this token; None if it ended, or if its key was revoked or has expired."""
    query = select(SessionRow).where(SessionRow.token_sha256 == _digest(token), SessionRow.expires_at > now())
    row = session.scalar(query)
    key = None if row is None else keys.find_usable_by_id(session, row.key_id)
    return None if row is None or key is None else OpenSession(key, row.project_id)


def end(session: Session, token: str) -> None:
    """End the session of this token, if there is one."""
    session.execute(delete(SessionRow).where(SessionRow.token_sha256 == _digest(token)))


def end_all(session: Session) -> None:
    """End all sessions, as after a restore: some of them may have ended since the backup."""
    session.execute(delete(SessionRow))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
