"""Conditions on columns of JSON: which rows have an entry of metadata, or an item of a list.

Keys and items are parameters of the query, because no path of JSON can name every text.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import BindParameter

from service.registry.pages import AnyRow


def having(
    query: Select[AnyRow], column: InstrumentedAttribute[Any], wanted: Mapping[str, str]
) -> Select[AnyRow]:
    """Return the query for those of its rows whose column, a JSON object of texts, has all these entries."""
    return query.where(has_entries(column, wanted)) if wanted else query


def has_entries(column: InstrumentedAttribute[Any], wanted: Mapping[str, str]) -> ColumnElement[bool]:
    """Return the condition that a column, a JSON object of texts, has all these entries: one or more."""
    return and_(*(_has_entry(column, key, value) for key, value in wanted.items()))


class has_item(ColumnElement[bool]):  # noqa: N801 - reads as the SQL condition it is
    """A column that is a JSON array of texts has this one."""

    inherit_cache = False

    def __init__(self, column: InstrumentedAttribute[Any], item: str) -> None:
        self.column = column
        self.item: BindParameter[str] = bindparam(None, item)


class _has_entry(ColumnElement[bool]):  # noqa: N801 - reads as the SQL condition it is
    inherit_cache = False

    def __init__(self, column: InstrumentedAttribute[Any], name: str, text: str) -> None:
        self.column = column
        self.entry_name: BindParameter[str] = bindparam(None, name)
        self.entry_text: BindParameter[str] = bindparam(None, text)


@compiles(has_item, "sqlite")
def _has_item_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, item = (compiler.process(part, **kwargs) for part in (element.column, element.item))
    return f"EXISTS (SELECT 1 FROM json_each({column}) AS entry WHERE entry.value = {item})"


@compiles(has_item, "postgresql")
def _has_item_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, item = (compiler.process(part, **kwargs) for part in (element.column, element.item))
    return f"EXISTS (SELECT 1 FROM json_array_elements_text({column}) AS item WHERE item = {item})"


@compiles(_has_entry, "sqlite")
def _has_entry_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, name, text = _parts(element, compiler, kwargs)
    return (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS each WHERE each.key = {name} AND each.value = {text})"
    )


@compiles(_has_entry, "postgresql")
def _has_entry_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, name, text = _parts(element, compiler, kwargs)
    return f"({column} ->> CAST({name} AS TEXT)) = {text}"


def _parts(element: Any, compiler: Any, kwargs: Mapping[str, Any]) -> list[str]:
    return [
        compiler.process(part, **kwargs) for part in (element.column, element.entry_name, element.entry_text)
    ]
