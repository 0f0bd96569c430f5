"""Look up which decoders a version draws with, for requests that are too frequent for a session."""

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Integer, String, and_, bindparam, case, or_, select

from service.registry.database import Database
from service.registry.frequent_queries import FrequentQuery, is_one_of
from service.registry.tables import AliasRow, ModelRow, VersionRow
from service.registry.versions import LabelDecoder, find_label_decoder, is_in_state


class NamedVersion(NamedTuple):
    """What a request names: a version of a model of a project."""

    project: str
    """The id of the project."""
    model: str
    """The model's name or id."""
    number: int
    """The version's number; 0 if the request names it otherwise."""
    alias: str
    """Empty if the request names no alias. With neither number nor alias it is the head."""


class FoundVersion(NamedTuple):
    """A version that may be drawn from."""

    id: str
    number: int


_number: BindParameter[int] = bindparam("number", type_=Integer)
_alias: BindParameter[str] = bindparam("alias", type_=String)
_FIND = FrequentQuery(
    select(VersionRow.id, VersionRow.number)
    .join(ModelRow, ModelRow.id == VersionRow.model_id)
    .outerjoin(AliasRow, and_(AliasRow.model_id == ModelRow.id, AliasRow.name == _alias))
    .where(
        ModelRow.project_id == bindparam("project"),
        ModelRow.deleted_at.is_(None),
        or_(ModelRow.id == bindparam("model"), ModelRow.name == bindparam("model")),
        VersionRow.number
        == case((_number > 0, _number), (_alias != "", AliasRow.version), else_=ModelRow.head),
        is_in_state("usable"),
    )
)
_READ = FrequentQuery(select(VersionRow.labels, VersionRow.files).where(VersionRow.id == bindparam("id")))
_USABLE = FrequentQuery(
    select(VersionRow.id)
    .join(ModelRow, ModelRow.id == VersionRow.model_id)
    .where(is_one_of(VersionRow.id, "ids"), ModelRow.deleted_at.is_(None), is_in_state("usable"))
)


def find(database: Database, named: NamedVersion) -> FoundVersion | None:
    """Return the version if it may be drawn from, else None. Raises DatabaseUnavailable."""
    rows = database.run(_FIND, **named._asdict())
    return FoundVersion(*rows[0]) if rows else None


def read_decoders(database: Database, version_id: str) -> dict[str, LabelDecoder]:
    """Return {label: its decoder} of a version, which never changes. Raises DatabaseUnavailable."""
    labels, files = (_parse(value) for value in database.run(_READ, id=version_id)[0])
    return {label: find_label_decoder(labels, files, label) for label in labels}


def find_usable(database: Database, version_ids: Collection[str]) -> set[str]:
    """Return which of these versions may be drawn from. Raises DatabaseUnavailable."""
    return {row[0] for row in database.run(_USABLE, ids=list(version_ids))}


def _parse(value: Any) -> Mapping[str, Any]:
    """Return a JSON column, which SQLite's driver returns as text."""
    parsed: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return parsed
