"""The files of an export: its shards and its manifest, listed and downloaded."""

import re
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.downloads import answer_artifact, find_link, redirect
from service.api.error_kinds import RANGE_NOT_SATISFIABLE
from service.api.export_objects import ShardObject, describe_shard, find_export, has_no_files
from service.api.paging import CURSOR_RULE, Listing, PageQuery, build_listing, parse_number
from service.api.refusals import NEEDS_USABLE_VERSION, READS_FILES, refuses
from service.api.responses import BINARY, VERSION_HEADER
from service.api.route import FOR_ONE_CLIENT, Route, not_modified
from service.drawing.shards import FORMATS
from service.registry import export_parts, exports, versions
from service.registry.errors import (
    ExportFileMissing,
    ExportFileNotReady,
    ExportFilesDeleted,
    UnknownExport,
)
from service.registry.tables import ExportRow, ExportShardRow, ModelRow

router = APIRouter(prefix="/v1/exports/{export}", tags=["exports"], route_class=Route)

SHARD_NUMBER = re.compile(r"[0-9]{1,9}")
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": dict.fromkeys(FORMATS.values(), BINARY)},
    206: {
        "description": "The requested range of the file.",
        "content": dict.fromkeys(FORMATS.values(), BINARY),
    },
    307: {"description": "The file is at the link in `Location`, for a minute."},
}


@router.get("/shards")
@requires("read")
@refuses(UnknownExport, invalid_cursor=CURSOR_RULE)
def list_shards(
    export: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[ShardObject]:
    """List the finished shards of an export, by their numbers. Each can be downloaded at once."""
    with context.database.reading() as session:
        row = find_export(session, context.project, export)
        after = None if page.after is None else parse_number(page.after)
        rows, has_more = exports.shards_page(session, row, limit=page.limit, after=after)
        data = [] if has_no_files(row) else [describe_shard(row, one) for one in rows]
    return build_listing(
        request,
        response.headers,
        data,
        has_more=has_more and bool(data),
        last=str(rows[-1].number) if data else None,
    )


_FILE_ERRORS = (
    UnknownExport,
    ExportFileMissing,
    ExportFileNotReady,
    ExportFilesDeleted,
    *NEEDS_USABLE_VERSION,
    *READS_FILES,
    RANGE_NOT_SATISFIABLE,
)


@router.get("/shards/{number}", response_class=Response, responses=_FILE)
@requires("sample")
@refuses(*_FILE_ERRORS)
def get_shard(export: str, number: str, request: Request, context: Context) -> Response:
    """Download a shard, or one `Range` of its bytes.

    If the service is set up so, shards are redirected (307) to a link of the storage that they lie in, which
    ends after a minute: compare the sha256 yourself, and send it no API key.
    """
    with context.database.reading() as session:
        row = find_export(session, context.project, export)
        _check_files(session, row)
        plan = exports.plan_of(row)
        if not SHARD_NUMBER.fullmatch(number) or int(number) >= plan.shards:
            raise ExportFileMissing(row.id, plan.shards)
        shard = session.get(ExportShardRow, (row.id, int(number)))
        if shard is None:
            raise ExportFileNotReady(row.id, f"shard {number}", row.state)
        name = export_parts.shard_name(row.format, shard.number)
    return _send(request, context, row, shard.sha256, shard.bytes, FORMATS[row.format], name)


_MANIFEST: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The manifest.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


@router.get("/manifest", response_class=Response, responses=_MANIFEST)
@requires("sample")
@refuses(*_FILE_ERRORS)
def get_manifest(export: str, request: Request, context: Context) -> Response:
    """Download the manifest of an export that has succeeded: its images, and the sha256 of each shard."""
    with context.database.reading() as session:
        row = find_export(session, context.project, export)
        _check_files(session, row)
    if row.manifest is None:
        raise ExportFileNotReady(row.id, "the manifest", row.state)
    assert row.manifest_bytes is not None
    return _send(request, context, row, row.manifest, row.manifest_bytes, "application/json", "manifest.json")


def _send(
    request: Request,
    context: ApiContext,
    export: ExportRow,
    sha256: str,
    size: int,
    media_type: str,
    name: str,
) -> Response:
    headers = {
        VERSION_HEADER: str(export.version),
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": FOR_ONE_CLIENT,
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if unchanged := not_modified(request, headers):
        return unchanged
    if media_type != "application/json" and (link := find_link(context, request, sha256)):
        return redirect(link, headers["ETag"])
    return answer_artifact(request, context, sha256, size, headers, media_type)


def _check_files(session: Session, export: ExportRow) -> None:
    """Raise why nothing of the export may be downloaded: VersionUnusable, ExportFilesDeleted."""
    model = session.get_one(ModelRow, export.model_id)
    versions.check_drawable(model, versions.find(session, model, export.version))
    if has_no_files(export):
        raise ExportFilesDeleted(export.id, export.state)
