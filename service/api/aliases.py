"""/v1/models/{model}/aliases: names of versions that clients choose and move, and their history."""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.error_kinds import PRECONDITION_REQUIRED, RESOURCE_GONE, as_conflict
from service.api.idempotency import Idempotent, unless_gone
from service.api.lookup import (
    VERSION_ERRORS,
    find_model,
    find_version,
    lock_model,
    refused_as_conflict,
)
from service.api.paging import CURSOR_RULE, Listing, PageQuery, build_listing, parse_name, parse_number
from service.api.preconditions import Conditional
from service.api.refusals import NEEDS_USABLE_VERSION, refuses
from service.api.route import Route
from service.registry import aliases, versions
from service.registry.aliases import AliasRequest
from service.registry.errors import NoEarlierVersion, UnknownAlias, UnknownModel
from service.registry.tables import AliasAction, AliasChangeRow, AliasRow, ModelRow, VersionRow
from service.requests.fields import ALIAS, ALIAS_RULE, TEXT_RULE, VERSION_RULE, Body, Reason, VersionReference
from service.requests.violations import InvalidRequest, Violation

router = APIRouter(prefix="/v1/models/{model}/aliases", tags=["aliases"], route_class=Route)


class PutAlias(Body):
    """Which version an alias names from now on."""

    version: VersionReference
    reason: Reason | None = None


class RollBackAlias(Body):
    """A rollback of an alias to the version that it named before."""

    reason: Reason | None = None


WITHOUT_REASON = RollBackAlias()
"""What a request without a body asks for."""


class AliasQuery(BaseModel):
    """`?reason=` of the deletion of an alias."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Reason | None = None


class AliasObject(BaseModel):
    """An alias: a name of one version of a model. It stands wherever the number of a version may."""

    object: Literal["alias"] = "alias"
    name: str
    model: str
    version: int
    revision: int = Field(description="The number of its newest change: it grows with every change.")
    drawable: bool = Field(
        description="Whether its version may be drawn from. If it may not, requests that name the alias are "
        "answered as those that name the version's number, such as with 410 `version_revoked`."
    )
    revoked_by: str | None = Field(description="The job that forgot a label which its version still holds.")
    purged_by: str | None = Field(description="The job whose purge deleted the files of its version.")
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]


class AliasChangeObject(BaseModel):
    """An entry in the history of an alias. Entries are never changed or removed."""

    model_config = ConfigDict(populate_by_name=True)

    object: Literal["alias_change"] = "alias_change"
    number: int = Field(description="Counts the changes of the alias from 1, also beyond a deletion.")
    action: AliasAction
    from_: int | None = Field(alias="from", description="The version before. Null: there was no such alias.")
    to: int | None = Field(description="The version after. Null: the alias was deleted.")
    restored: int | None = Field(description="Of a rollback: the number of the change that it went back to.")
    reason: str | None
    created_by: str | None = Field(description="The id of the API key; null where none was needed.")
    request_id: str | None
    created_at: datetime


@router.get("")
@requires("read")
@refuses(UnknownModel, invalid_cursor=CURSOR_RULE)
def list_aliases(
    model: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[AliasObject]:
    """List the aliases of a model, in the order of their names."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        rows, has_more = aliases.page(session, row, limit=page.limit, after=parse_name(page.after, ALIAS))
        targets = aliases.find_targets(session, row, rows)
        data = [_describe(row, alias, targets[alias.version]) for alias in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].name if rows else None
    )


@router.get("/{alias}")
@requires("read")
@refuses(UnknownModel, UnknownAlias)
def get_alias(model: str, alias: str, response: Response, context: Context) -> AliasObject:
    """Read which version an alias names. The ETag of the answer is for the If-Match of a change."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        found = _read(session, row, _find(session, row, alias))
    return _with_etag(found, response)


@router.put(
    "/{alias}",
    responses={201: {"model": AliasObject, "description": "The alias is new."}},
)
@requires("learn")
@refuses(
    *VERSION_ERRORS,
    *(as_conflict(one) for one in NEEDS_USABLE_VERSION),
    PRECONDITION_REQUIRED,
    invalid_name=f"the name of an alias {ALIAS_RULE}; {VERSION_RULE}",
    invalid_text=TEXT_RULE,
)
def put_alias(
    model: str, alias: str, body: PutAlias, conditions: Conditional, response: Response, context: Context
) -> AliasObject:
    """Set an alias to a version that may be drawn from. The status is 201 if the alias is new, else 200.

    An alias that exists is changed only with its ETag in `If-Match` (428 `precondition_required` without,
    412 `precondition_failed` if it has changed since). To create one, send no condition, or
    `If-None-Match: *`. `head` and aliases in `version` are replaced by the number that they stand for now.

    A version that still holds a forgotten label is refused with 409 `version_revoked`, and one whose files
    were purged with 409 `version_purged`. If a forget revokes the version later, the alias stays as it is,
    and drawing by it is answered with 410 `version_revoked` until the alias is set to another version.
    """
    if not ALIAS.fullmatch(alias):
        raise InvalidRequest(Violation("/path/alias", "invalid_name", f"the name of an alias {ALIAS_RULE}"))
    with context.database.transaction(line=model) as session:
        row = lock_model(context, session, model)
        before = aliases.get(session, row, alias)
        conditions.check(_etag(_read(session, row, before)) if before else None, required=True)
        from_version = before.version if before else None
        with refused_as_conflict():
            version = find_version(session, row, body.version)
            changed, created = aliases.put(session, row, alias, version, _request(context, body.reason))
        _audit(session, context, row, "alias.set", changed.name, from_version, changed.version, body.reason)
        found = _describe(row, changed, version)
    response.status_code = 201 if created else 200
    response.headers["Location"] = found.links["self"]
    return _with_etag(found, response)


@router.post("/{alias}/rollback")
@requires("learn")
@refuses(
    UnknownModel,
    UnknownAlias,
    NoEarlierVersion,
    RESOURCE_GONE,
    *(as_conflict(one) for one in NEEDS_USABLE_VERSION),
    invalid_text=TEXT_RULE,
)
def roll_back_alias(
    model: str,
    alias: str,
    conditions: Conditional,
    response: Response,
    context: Context,
    once: Idempotent,
    body: RollBackAlias = WITHOUT_REASON,
) -> AliasObject:
    """Set an alias to the version that it named before, and that may still be drawn from.

    It undoes changes one after another: rolled back twice, an alias names the version before the last two
    changes. Versions that hold a forgotten label, or were purged, are passed over. If nothing else is left,
    the answer is 409 `version_revoked` or `version_purged`; if the alias has named no other version, 409
    `no_earlier_version`. `If-Match` is honoured, and not required.
    """
    with context.database.transaction(line=model) as session:
        if answered := once.begin(session):
            model_id, _, name = answered.resource_id.partition("/")
            with unless_gone("alias", name):
                row = find_model(session, context.project, model_id)
                return _with_etag(_read(session, row, _find(session, row, name)), response)
        row = lock_model(context, session, model)
        before = _find(session, row, alias)
        from_version = before.version
        conditions.check(_etag(_read(session, row, before)))
        with refused_as_conflict():
            changed = aliases.roll_back(session, before, row, _request(context, body.reason))
        once.record(session, 200, f"{row.id}/{alias}")
        _audit(session, context, row, "alias.rollback", alias, from_version, changed.version, body.reason)
        return _with_etag(_read(session, row, changed), response)


@router.delete("/{alias}", status_code=204)
@requires("learn")
@refuses(UnknownModel, UnknownAlias, invalid_text=TEXT_RULE)
def delete_alias(
    model: str,
    alias: str,
    query: Annotated[AliasQuery, Query()],
    conditions: Conditional,
    context: Context,
) -> None:
    """Delete an alias. Its version and its history stay. `If-Match` is honoured, and not required."""
    with context.database.transaction(line=model) as session:
        row = lock_model(context, session, model)
        before = _find(session, row, alias)
        conditions.check(_etag(_read(session, row, before)))
        aliases.remove(session, before, row, _request(context, query.reason))
        _audit(session, context, row, "alias.delete", alias, before.version, None, query.reason)


@router.get("/{alias}/history")
@requires("read")
@refuses(UnknownModel, UnknownAlias, invalid_cursor=CURSOR_RULE)
def list_alias_changes(
    model: str, alias: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[AliasChangeObject]:
    """List the changes of an alias, newest first: who set it when, from and to which version, and why.

    The history of an alias that was deleted can be read, too.
    """
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        if not ALIAS.fullmatch(alias):
            raise UnknownAlias(row.name, alias)
        rows, has_more = aliases.history(
            session, row, alias, limit=page.limit, after=parse_number(page.after)
        )
        data = [_describe_change(change) for change in rows]
    last = str(rows[-1].number) if rows else None
    return build_listing(request, response.headers, data, has_more=has_more, last=last)


def _find(session: Session, model: ModelRow, name: str) -> AliasRow:
    if not ALIAS.fullmatch(name):
        raise UnknownAlias(model.name, name)
    return aliases.find(session, model, name)


def _request(context: ApiContext, reason: str | None) -> AliasRequest:
    return AliasRequest(reason=reason, created_by=context.caller.key_id, request_id=context.request_id)


def _audit(
    session: Session,
    context: ApiContext,
    model: ModelRow,
    action: str,
    alias: str,
    from_version: int | None,
    to_version: int | None,
    reason: str | None,
) -> None:
    details: dict[str, Any] = {"from": from_version, "to": to_version, "reason": reason}
    context.append_to_audit_log(session, action, model.id, alias=alias, **details)


def _read(session: Session, model: ModelRow, alias: AliasRow) -> AliasObject:
    return _describe(model, alias, versions.find(session, model, alias.version))


def _with_etag(found: AliasObject, response: Response) -> AliasObject:
    response.headers["ETag"] = _etag(found)
    return found


def _etag(found: AliasObject) -> str:
    """It differs from every earlier one of this alias, because its revision only grows."""
    return f'"{hashlib.sha256(found.model_dump_json().encode()).hexdigest()[:32]}"'


def _describe(model: ModelRow, alias: AliasRow, version: VersionRow) -> AliasObject:
    address = f"/v1/models/{model.name}/aliases/{alias.name}"
    return AliasObject(
        name=alias.name,
        model=model.id,
        version=alias.version,
        revision=alias.revision,
        drawable=versions.is_drawable(version),
        revoked_by=version.revoked_by,
        purged_by=version.purged_by,
        created_at=alias.created_at,
        updated_at=alias.updated_at,
        links={
            "self": address,
            "history": f"{address}/history",
            "version": f"/v1/models/{model.name}/versions/{alias.version}",
        },
    )


def _describe_change(row: AliasChangeRow) -> AliasChangeObject:
    return AliasChangeObject(
        number=row.number,
        action=row.action,
        from_=row.from_version,
        to=row.to_version,
        restored=row.restored,
        reason=row.reason,
        created_by=row.created_by,
        request_id=row.request_id,
        created_at=row.created_at,
    )
