"""Lists in pages (keyset pagination).

A page begins after the key of a row and not at an offset, so that rows added meanwhile do not shift it.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select
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


MAX_COMPARED = 10_000
"""How many rows of a list are compared with a filter for one page, where no index finds those that fit. It
bounds what a page costs."""


class FilteredPage(NamedTuple, Generic[AnyRow]):
    """Some rows of a filtered list. Others may follow although these are few, or none."""

    rows: list[AnyRow]
    has_more: bool
    last: Any
    """The key after which the next page goes on; None if the list has no further rows."""


def filtered(
    session: Session,
    query: Select[AnyRow],
    key: InstrumentedAttribute[Any],
    conditions: Sequence[ColumnElement[bool]],
    *,
    keys: Select[Any],
    limit: int,
    after: int | str | None,
    descending: bool,
) -> FilteredPage[AnyRow]:
    """Return at most `limit` rows of the query that meet the conditions, of the next MAX_COMPARED rows.

    key: as for `in_order`. keys: the query for the keys alone of all rows, whether they meet the conditions
    or not.
    """
    edge = None
    if conditions:
        if after is not None:
            keys = keys.where(key < after if descending else key > after)
        in_turn = keys.order_by(key.desc() if descending else key)
        edge = session.scalar(in_turn.offset(MAX_COMPARED - 1).limit(1))
        query = query.where(*conditions)
    if edge is not None:
        query = query.where(key >= edge if descending else key <= edge)
    rows, has_more = in_order(session, query, key, limit=limit, after=after, descending=descending)
    if has_more:
        return FilteredPage(rows, has_more, getattr(rows[-1], key.key))
    return FilteredPage(rows, edge is not None, edge)
