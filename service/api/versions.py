"""/v1/models/{model}/versions: list and read versions, their ancestors and their files."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from reports import Figure, Guarantee, LabelGroup, Report, read_report
from service.api.access import requires
from service.api.context import Context
from service.api.downloads import answer_bytes, find_link, redirect
from service.api.error_kinds import FILE_NOT_FOUND, FILE_PURGED, RANGE_NOT_SATISFIABLE
from service.api.lookup import (
    VERSION_ERRORS,
    find_model,
    find_version,
    headers_of_version,
    lock_model,
    unless_purged,
)
from service.api.paging import (
    CURSOR_RULE,
    METADATA_PARAMETER,
    FilteredPage,
    Listing,
    MetadataFilter,
    PageQuery,
    build_listing,
    parse_number,
)
from service.api.problems import Problem
from service.api.refusals import NEEDS_USABLE_VERSION, READS_FILES, refuses
from service.api.responses import BINARY, merge_patch_body
from service.api.route import Route, not_modified
from service.registry import aliases, purging, version_deletions, versions
from service.registry.errors import UnknownModel, VersionInUse
from service.registry.tables import ModelRow, Operation, VersionRow
from service.registry.version_deletions import DeletionRequest
from service.registry.versions import VersionFilter, VersionState
from service.requests.descriptions import PatchDescription
from service.requests.fields import TEXT_RULE

router = APIRouter(prefix="/v1/models/{model}/versions", tags=["versions"], route_class=Route)

_CONTENT: dict[str, Any] = {
    **dict.fromkeys(("application/octet-stream", "image/png"), BINARY),  # generators take the first
    "application/json": {"schema": {"type": "object"}},
}
SHOWN = ("application/json", "image/png")
"""The media types of files that pages show, which load nothing from elsewhere: they are never redirected."""
FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": _CONTENT},
    206: {"description": "The requested range of the file.", "content": _CONTENT},
    307: {"description": "The file is at the link in `Location`, for a minute."},
}


class FileObject(BaseModel):
    """A file of a version. Its sha256 is also the ETag of its URL."""

    sha256: str
    bytes: int
    media_type: str
    href: str


class HeadlineFigures(BaseModel):
    """The two main figures of the report: accuracies in the open set, from 0 to 1."""

    retained: Figure = Field(description="The accuracy of the labels it holds.")
    forgotten: Figure = Field(description="The accuracy of the labels it forgot.")

    @classmethod
    def of(cls, report: Report) -> Self:
        return cls(retained=_headline(report.retained), forgotten=_headline(report.forgotten))


class AncestorObject(BaseModel):
    """A version without its files and figures, as a lineage lists it."""

    object: str = "version"
    number: int
    parent: int | None
    job: str
    operation: str
    strategy: str
    guarantee: Guarantee | None = Field(description="Of a forget: what it guarantees.")
    labels: list[str] = Field(description="Every label that the version holds.")
    parameters: int
    state: VersionState = Field(
        description="`usable`: it may be drawn from; `revoked`: it holds a forgotten label; `deleted`: a "
        "client deleted it with its files; `purged`: a purge deleted its files."
    )
    revoked_by: str | None = Field(description="The job that forgot a label which this version still holds.")
    purged_by: str | None = Field(
        description="The job whose purge deleted its files, all but the report and the manifest."
    )
    deleted_at: datetime | None = Field(
        description="When a client deleted it. Its report and its manifest can still be read."
    )
    created_at: datetime


class VersionObject(AncestorObject):
    """An immutable published state of a model."""

    model: str
    description: str | None
    metadata: dict[str, str]
    aliases: list[str] = Field(description="The aliases that name it.")
    widths: dict[str, Any]
    figures: HeadlineFigures
    files: dict[str, FileObject]
    links: dict[str, str]


class VersionsPage(FilteredPage):
    """Which versions are listed, and in which order."""

    state: VersionState | None = Field(None, description="Only versions in this state.")
    operation: Operation | None = Field(None, description="Only versions that such a job made.")


@router.get("", openapi_extra=METADATA_PARAMETER)
@requires("read")
@refuses(UnknownModel, invalid_cursor=CURSOR_RULE)
def list_versions(
    model: str,
    page: Annotated[VersionsPage, Query()],
    metadata: MetadataFilter,
    request: Request,
    response: Response,
    context: Context,
) -> Listing[VersionObject]:
    """List the versions of a model, newest first unless the other order is requested."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        rows, has_more = versions.page(
            session,
            row,
            only=VersionFilter(page.state, page.operation, metadata),
            descending=page.order == "desc",
            limit=page.limit,
            after=parse_number(page.after),
        )
        data = _describe(session, row, rows)
    return build_listing(
        request, response.headers, data, has_more=has_more, last=str(rows[-1].number) if rows else None
    )


@router.get("/{number}")
@requires("read")
@refuses(*VERSION_ERRORS)
def get_version(model: str, number: str, context: Context) -> VersionObject:
    """Read one version, by its number, an alias, or as `head`."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        return _describe(session, row, [find_version(session, row, number)])[0]


@router.patch("/{number}", openapi_extra=merge_patch_body(PatchDescription))
@requires("learn")
@refuses(*VERSION_ERRORS, invalid_text=TEXT_RULE)
def update_version(model: str, number: str, body: PatchDescription, context: Context) -> VersionObject:
    """Change the description and the metadata of a version, by a merge patch (RFC 7396)."""
    with context.database.transaction(line=model) as session:
        row = lock_model(context, session, model)
        version = find_version(session, row, number)
        version.description = body.description_after(version.description)
        version.client_metadata = body.metadata_after(version.client_metadata)
        session.flush()
        context.append_to_audit_log(
            session, "version.update", row.id, version=version.number, fields=body.changed
        )
        return _describe(session, row, [version])[0]


@router.delete("/{number}", status_code=204)
@requires("forget")
@refuses(*VERSION_ERRORS, VersionInUse)
def delete_version(model: str, number: str, context: Context) -> None:
    """Delete a version: from the answer on nobody may draw from it or download it (410 `version_deleted`).

    Its files are deleted seconds later, all but its report and its manifest; so are its full reports. Its
    number, its place in the lineage and the receipts that name it stay, and no forget starts from it. In use
    (409 `version_in_use`) are the head, the version of an alias, and what an unfinished job may start from.
    Deleting a version again changes nothing.
    """
    with context.database.transaction(line=model) as session:
        row = lock_model(context, session, model)
        version = find_version(session, row, number)
        request = DeletionRequest(context.caller.key_id, context.request_id)
        if version_deletions.delete_version(session, row, version, request):
            context.append_to_audit_log(session, "version.delete", row.id, version=version.number)


@router.get("/{number}/lineage")
@requires("read")
@refuses(*VERSION_ERRORS, invalid_cursor=CURSOR_RULE)
def get_lineage(
    model: str, number: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[AncestorObject]:
    """List a version and all of its ancestors, newest first."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        version = find_version(session, row, number)
        after = min(parse_number(page.after) or version.number + 1, version.number + 1)
        rows, has_more = versions.page(session, row, limit=page.limit, after=after)
        data = [AncestorObject(**_ancestor_fields(version)) for version in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=str(rows[-1].number) if rows else None
    )


@router.get("/{number}/files/{name}", response_class=Response, responses=FILE)
@requires("sample")
@refuses(
    *VERSION_ERRORS,
    FILE_NOT_FOUND,
    FILE_PURGED,
    *NEEDS_USABLE_VERSION,
    *READS_FILES,
    RANGE_NOT_SATISFIABLE,
)
def get_file(model: str, number: str, name: str, request: Request, context: Context) -> Response:
    """Download a file of a version, or one `Range` of its bytes.

    The bytes are checked against the sha256 of the file before they are sent. If the service is set up so,
    weights and decoders are redirected (307) to a link of the storage that they lie in, which ends after a
    minute: compare the sha256 yourself, and send it no API key.
    """
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        version = find_version(session, row, number)
        is_purged = purging.is_file_purged(session, version, name)
    file = version.files.get(name)
    if is_purged:
        raise Problem(
            FILE_PURGED, "A purge deleted this picture together with the weights that had drawn it."
        )
    if file is None:
        names = ", ".join(sorted(version.files))
        raise Problem(
            FILE_NOT_FOUND,
            f"Version {version.number} has no file {name[:80]!r}; its files are: {names}.",
        )
    versions.check_downloadable(row, version, name)
    headers = {
        **headers_of_version(request.scope, version.number, number),
        "ETag": f'"{file["sha256"]}"',
        "Accept-Ranges": "bytes",
    }
    if unchanged := not_modified(request, headers):
        return unchanged
    with unless_purged(context, row, version):
        if file["media_type"] not in SHOWN and (link := find_link(context, request, file["sha256"])):
            return redirect(link, headers["ETag"])
        data = context.artifacts.read(file["sha256"])
    return answer_bytes(request, data, headers, file["media_type"])


def _headline(group: LabelGroup) -> Figure:
    """The group's own figure, without its labels."""
    return Figure(
        value=group.value,
        n=group.n,
        interval=group.interval,
        threshold=group.threshold,
        verdict=group.verdict,
        reason=group.reason,
    )


def _describe(session: Session, model: ModelRow, rows: Sequence[VersionRow]) -> list[VersionObject]:
    named = aliases.find_all_of(session, [model.id])[model.id]
    return [
        _describe_version(model, row, [alias for alias, number in named.items() if number == row.number])
        for row in rows
    ]


def _describe_version(model: ModelRow, row: VersionRow, names: list[str]) -> VersionObject:
    address = f"/v1/models/{model.name}/versions/{row.number}"
    return VersionObject(
        **_ancestor_fields(row),
        model=model.id,
        description=row.description,
        metadata=row.client_metadata or {},
        aliases=names,
        widths=row.widths,
        figures=HeadlineFigures.of(read_report(row.report)),
        files={
            name: FileObject(**file, href=f"{address}/files/{quote(name)}")
            for name, file in sorted(row.files.items())
        },
        links={
            "self": address,
            "report": f"{address}/report",
            "lineage": f"{address}/lineage",
            "job": f"/v1/jobs/{row.job_id}",
            **({"receipt": f"/v1/jobs/{row.job_id}/receipt"} if row.operation == "forget" else {}),
        },
    )


def _ancestor_fields(row: VersionRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "parent": row.parent,
        "job": row.job_id,
        "operation": row.operation,
        "strategy": row.strategy,
        "guarantee": read_report(row.report).guarantee,
        "labels": sorted(row.labels, key=lambda name: (row.labels[name] is None, row.labels[name], name)),
        "parameters": row.parameters,
        "state": versions.state_of(row),
        "revoked_by": row.revoked_by,
        "purged_by": row.purged_by,
        "deleted_at": row.deleted_at,
        "created_at": row.created_at,
    }
