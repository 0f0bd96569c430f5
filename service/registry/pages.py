"""Lists in pages (keyset pagination).

A page begins after the key of a row and not at an offset, so that rows added meanwhile do not shift it.
"""

from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.registry.tables import Row

AnyRow = TypeVar("AnyRow", bound=Row)


class Page(NamedTuple, Generic[AnyRow]):
    """Some rows of a list, and whether others follow."""

    rows: list[AnyRow]
    has_more: bool


def newest_first(
    session: Session,
    query: Select[AnyRow],
    key: InstrumentedAttribute[Any],
    *,
    limit: int,
    after: int | str | None,
) -> Page[AnyRow]:
    """Return at most `limit` rows of the query, from the highest key down.

    key: a unique column that grows with every new row; after: the last key of the previous page, if any.
    """
    return in_order(session, query, key, limit=limit, after=after, descending=True)


def in_order(
    session: Session,
    query: Select[AnyRow],
    key: InstrumentedAttribute[Any],
    *,
    limit: int,
    after: int | str | None,
    descending: bool = False,
) -> Page[AnyRow]:
    """Return at most `limit` rows of the query in the order of their keys.

    key: a column whose values are unique in the query; after: the last key of the previous page, if any.
    """
    if after is not None:
        query = query.where(key < after if descending else key > after)
    rows = list(session.scalars(query.order_by(key.desc() if descending else key).limit(limit + 1)))
    return Page(rows[:limit], len(rows) > limit)
