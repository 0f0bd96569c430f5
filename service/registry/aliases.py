"""Aliases: names of versions that clients choose and move, such as `production`, with an append-only history.

An alias names a version that may be drawn from when it is set. If a forget revokes that version later, the
alias stays as it is and names a version that nobody may draw from. Nothing moves it but a client, because no
other version is what the client chose.

Whoever changes an alias has locked the model's row (`jobs.lock_model`). So do publications, so that an alias
is set either before a forget revokes a version or after it, when it is refused.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, load_only

from service.registry import versions
from service.registry.errors import (
    NoEarlierVersion,
    RegistryError,
    UnknownAlias,
    VersionUnusable,
)
from service.registry.pages import Page, in_order, newest_first
from service.registry.tables import AliasAction, AliasChangeRow, AliasRow, ModelRow, VersionRow


@dataclass(frozen=True)
class AliasRequest:
    """What the history records of a request to change an alias."""

    reason: str | None = None
    created_by: str | None = None
    request_id: str | None = None


def find(session: Session, model: ModelRow, name: str) -> AliasRow:
    """Return the alias of that name. Raises UnknownAlias."""
    alias = get(session, model, name)
    if alias is None:
        raise UnknownAlias(model.name, name)
    return alias


def get(session: Session, model: ModelRow, name: str) -> AliasRow | None:
    """Return the alias of that name, None if there is none."""
    return session.get(AliasRow, (model.id, name))


def page(session: Session, model: ModelRow, *, limit: int, after: str | None = None) -> Page[AliasRow]:
    """Return the aliases of the model in the order of their names, or those after the name `after`."""
    query = select(AliasRow).where(AliasRow.model_id == model.id)
    return in_order(session, query, AliasRow.name, limit=limit, after=after)


def history(
    session: Session, model: ModelRow, name: str, *, limit: int, after: int | None = None
) -> Page[AliasChangeRow]:
    """Return the newest changes of an alias, or those before number `after`, also if it was deleted.

    Raises UnknownAlias if there was never such an alias.
    """
    found = newest_first(session, _changes(model, name), AliasChangeRow.number, limit=limit, after=after)
    if not found.rows and _last_number(session, model, name) == 0:
        raise UnknownAlias(model.name, name)
    return found


def find_all_of(session: Session, model_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return {model id: {alias: version}} for several models, with one query for all of them."""
    found: dict[str, dict[str, int]] = {model_id: {} for model_id in model_ids}
    columns = select(AliasRow.model_id, AliasRow.name, AliasRow.version).order_by(AliasRow.name)
    for model_id, name, version in session.execute(columns.where(AliasRow.model_id.in_(model_ids))):
        found[model_id][name] = version
    return found


def find_targets(session: Session, model: ModelRow, rows: Sequence[AliasRow]) -> Mapping[int, VersionRow]:
    """Return {number: version} of the versions that these aliases name, with what says their state."""
    columns = (VersionRow.number, VersionRow.revoked_by, VersionRow.purged_by, VersionRow.deleted_at)
    query = select(VersionRow).options(load_only(*columns)).where(VersionRow.model_id == model.id)
    named = session.scalars(query.where(VersionRow.number.in_({row.version for row in rows})))
    return {version.number: version for version in named}


def put(
    session: Session, model: ModelRow, name: str, version: VersionRow, request: AliasRequest
) -> tuple[AliasRow, bool]:
    """Set an alias to a version. Return it, and whether it is new. Raises VersionUnusable.

    That is recorded in the history, also if the alias named this version before.
    """
    versions.check_drawable(model, version)
    alias = get(session, model, name)
    before = None if alias is None else alias.version
    change = _record(session, model, name, "set", request, before=before, to=version)
    if alias is not None:
        _move(session, alias, change)
        return alias, False
    alias = AliasRow(model_id=model.id, name=name, version=version.number, revision=change.number)
    session.add(alias)
    session.flush()
    session.refresh(alias)
    return alias, True


def roll_back(session: Session, alias: AliasRow, model: ModelRow, request: AliasRequest) -> AliasRow:
    """Set an alias to the version that it named before and that may still be drawn from.

    A rollback undoes the last change that was not undone yet, as "undo" does in an editor: rolled back twice,
    an alias names the version before the last two. Versions that may not be drawn from are passed over.
    Raises NoEarlierVersion; if there are some and none may be drawn from, VersionUnusable of the newest.
    """
    refused: list[RegistryError] = []
    for earlier in _earlier_changes(session, alias):
        if earlier.to_version is None or earlier.to_version == alias.version:
            continue
        try:
            versions.check_drawable(model, versions.find(session, model, earlier.to_version))
        except VersionUnusable as error:
            refused.append(error)
            continue
        change = _record(session, model, alias.name, "rollback", request, before=alias.version, to=earlier)
        _move(session, alias, change)
        return alias
    raise refused[0] if refused else NoEarlierVersion(model.name, alias.name, alias.version)


def remove(session: Session, alias: AliasRow, model: ModelRow, request: AliasRequest) -> None:
    """Delete an alias. Its history stays, and goes on if an alias of this name is set again."""
    _record(session, model, alias.name, "delete", request, before=alias.version, to=None)
    session.delete(alias)
    session.flush()


def _earlier_changes(session: Session, alias: AliasRow) -> Iterator[AliasChangeRow]:
    """Yield the changes that a rollback may go back to, the newest first: not beyond a deletion."""
    change = session.get_one(AliasChangeRow, (alias.model_id, alias.name, alias.revision))
    while True:
        number = _undone(change) - 1
        earlier = session.get(AliasChangeRow, (alias.model_id, alias.name, number))
        if earlier is None or earlier.action == "delete":
            return
        yield earlier
        change = earlier


def _undone(change: AliasChangeRow) -> int:
    """Return the number of the change that set the version: itself, unless it is a rollback to an earlier."""
    return change.restored or change.number


def _move(session: Session, alias: AliasRow, change: AliasChangeRow) -> None:
    assert change.to_version is not None, "only a deletion has none"
    alias.version, alias.revision = change.to_version, change.number
    session.flush()
    session.refresh(alias)


def _record(
    session: Session,
    model: ModelRow,
    name: str,
    action: AliasAction,
    request: AliasRequest,
    *,
    before: int | None,
    to: VersionRow | AliasChangeRow | None,
) -> AliasChangeRow:
    """Add a change to the history. to: a version, or for a rollback the change that it goes back to."""
    restored = to if isinstance(to, AliasChangeRow) else None
    change = AliasChangeRow(
        model_id=model.id,
        alias=name,
        number=_last_number(session, model, name) + 1,
        action=action,
        from_version=before,
        to_version=to.number if isinstance(to, VersionRow) else restored and restored.to_version,
        restored=restored and _undone(restored),
        reason=request.reason,
        created_by=request.created_by,
        request_id=request.request_id,
    )
    session.add(change)
    session.flush()
    return change


def _last_number(session: Session, model: ModelRow, name: str) -> int:
    of_alias = (AliasChangeRow.model_id == model.id, AliasChangeRow.alias == name)
    return session.scalar(select(func.max(AliasChangeRow.number)).where(*of_alias)) or 0


def _changes(model: ModelRow, name: str) -> Select[AliasChangeRow]:
    return select(AliasChangeRow).where(AliasChangeRow.model_id == model.id, AliasChangeRow.alias == name)
