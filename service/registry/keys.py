"""API keys: made, found, listed, revoked. A key is shown once; only the sha256 of its text is stored."""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from service.registry.database import Database, from_now, now, unless_deleted
from service.registry.errors import UnknownKey
from service.registry.frequent_queries import FrequentQuery
from service.registry.names import is_storable
from service.registry.pages import Page, newest_first
from service.registry.tables import ApiKeyRow, ProjectRow, SessionRow, new_id

Scope = Literal["read", "sample", "learn", "forget", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a key may be allowed to do. No scope includes another."""

DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_BYTES, SECRET_DIGITS, CHECKSUM_DIGITS = 32, 43, 6
PATTERN = re.compile(r"pal_([0-9A-Z]{26})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")
"""pal_ID_SECRET_CHECKSUM: the prefix lets scanners find leaked keys, the checksum tells them from typos."""

NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class UsableKey:
    """A key that was found to be genuine, not revoked and not expired."""

    id: str
    scopes: frozenset[str]
    project: str | None
    """The id of its project; None for a key of the whole deployment."""
    project_name: str | None


def create(
    session: Session,
    *,
    name: str,
    scopes: Collection[Scope],
    project: str | None,
    expires_in: float | None = None,
) -> tuple[ApiKeyRow, str]:
    """Create a key. Returns its row and its text, which cannot be read again.

    project: the id of its project; None for the whole deployment. expires_in: seconds; None: it stays valid.
    """
    key_id = new_id("key")
    secret = _in_digits(secrets.token_bytes(SECRET_BYTES), SECRET_DIGITS)
    unchecked = f"pal_{key_id.removeprefix('key_')}_{secret}"
    text = f"{unchecked}_{checksum(unchecked)}"
    row = ApiKeyRow(
        id=key_id,
        project_id=project,
        name=name,
        scopes=[scope for scope in SCOPES if scope in scopes],
        secret_sha256=_digest(text),
        expires_at=None if expires_in is None else from_now(expires_in),
    )
    session.add(row)
    with unless_deleted(project):
        session.flush()
    session.refresh(row)
    return row, text


def find_usable(session: Session, text: str) -> UsableKey | None:
    """Return the key with this text; None if it is malformed, unknown, revoked or expired.

    An unknown key takes as long as a revoked or expired one: one query, one hash and one comparison. Only a
    text whose form or checksum is wrong takes less, and that says nothing about any key.
    """
    found = PATTERN.fullmatch(text)
    if found is None or not is_well_formed(text):
        return None
    return _find_usable(session, f"key_{found[1]}", _digest(text))


def is_well_formed(text: str) -> bool:
    """Whether the text has the form of a key, and its checksum. Needs no database."""
    found = PATTERN.fullmatch(text)
    return found is not None and checksum(text[: -CHECKSUM_DIGITS - 1]) == found[3]


def find_usable_by_id(session: Session, key_id: str) -> UsableKey | None:
    """Return the key of this id; None if it is unknown, revoked or expired. For sessions opened with it."""
    return _find_usable(session, key_id, None)


def find(session: Session, key_id: str, *, project: str | None) -> ApiKeyRow:
    """Return the key of that id. Raises UnknownKey, also for a key of another project if one is given."""
    row = session.get(ApiKeyRow, key_id) if is_storable(key_id) else None
    if row is None or (project is not None and row.project_id != project):
        raise UnknownKey(key_id)
    return row


def page(session: Session, *, project: str | None, limit: int, after: str | None = None) -> Page[ApiKeyRow]:
    """Return the newest keys, or those older than the id `after`: of one project, or all of them."""
    query = select(ApiKeyRow)
    if project is not None:
        query = query.where(ApiKeyRow.project_id == project)
    return newest_first(session, query, ApiKeyRow.id, limit=limit, after=after)


def revoke(session: Session, key_id: str, *, project: str | None) -> ApiKeyRow:
    """Revoke the key, for ever. Revoking it again changes nothing. Raises UnknownKey."""
    row = find(session, key_id, project=project)
    if row.revoked_at is None:
        row.revoked_at = now()
        session.flush()
        session.refresh(row)
    return row


def is_any_usable(session: Session) -> bool:
    """Return whether there is a key that is neither revoked nor expired."""
    return session.scalar(select(ApiKeyRow.id).where(_is_usable()).limit(1)) is not None


_ENDINGS = FrequentQuery(
    select(
        select(func.count()).where(ApiKeyRow.revoked_at.is_not(None)).scalar_subquery(),
        *(
            select(column).scalar_subquery()
            for row in (SessionRow, ProjectRow)
            for column in (func.count(row.created_at), func.max(row.created_at))
        ),
    )
)


def read_endings(database: Database) -> tuple[Any, ...]:
    """Return what differs from an earlier result if a key was revoked, or a session or project has ended.

    It also differs if one of them began. Raises DatabaseUnavailable.
    """
    return database.run(_ENDINGS)[0]


def record_uses(session: Session, seconds_ago: Mapping[str, float]) -> None:
    """Record when keys were last used. seconds_ago: {key id: how long ago}."""
    for key_id, seconds in seconds_ago.items():
        session.execute(
            update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=from_now(-seconds))
        )


def _find_usable(session: Session, key_id: str, digest: str | None) -> UsableKey | None:
    query = (
        select(ApiKeyRow, ProjectRow.name, _is_usable())
        .outerjoin(ProjectRow, ProjectRow.id == ApiKeyRow.project_id)
        .where(ApiKeyRow.id == key_id)
    )
    row, project_name, usable = session.execute(query).one_or_none() or (None, None, False)
    stored = NO_DIGEST if row is None else row.secret_sha256
    is_genuine = hmac.compare_digest(stored, stored if digest is None else digest)
    if row is None or not is_genuine or not usable:
        return None
    return UsableKey(row.id, frozenset(row.scopes), row.project_id, project_name)


def _is_usable() -> ColumnElement[bool]:
    not_expired = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now())
    return and_(ApiKeyRow.revoked_at.is_(None), not_expired)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(text: str) -> str:
    return _in_digits(zlib.crc32(text.encode()).to_bytes(4), CHECKSUM_DIGITS)


def _in_digits(data: bytes, length: int) -> str:
    """Write the bytes as a number of `length` digits in base 62."""
    number, digits = int.from_bytes(data), ""
    for _ in range(length):
        number, digit = divmod(number, len(DIGITS))
        digits = DIGITS[digit] + digits
    return digits
