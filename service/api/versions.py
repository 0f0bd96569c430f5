"""/v1/models/{model}/versions: every published version, its ancestors, its evidence and its files."""

import re
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from reports import Figure, LabelGroup, Report, read_report
from service.api.context import Context
from service.api.lookup import find_model, find_version, unless_purged
from service.api.paging import Listing, PageQuery, build_listing, unknown_cursor
from service.api.problems import Problem, refusals
from service.api.route import Route, not_modified
from service.registry import purging, versions
from service.registry.tables import ModelRow, VersionRow

router = APIRouter(prefix="/v1/models/{model}/versions", tags=["versions"], route_class=Route)

FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {}}},
    206: {"description": "The requested range", "content": {"application/octet-stream": {}}},
}


class FileObject(BaseModel):
    """A published file; its ETag is its sha256."""

    sha256: str
    bytes: int
    media_type: str
    href: str


class HeadlineFigures(BaseModel):
    """The two most important figures of the report: open-set accuracies, from 0 to 1."""

    retained: Figure = Field(description="of the labels it holds")
    forgotten: Figure = Field(description="of the labels it forgot")

    @classmethod
    def of(cls, report: Report) -> Self:
        return cls(retained=_headline(report.retained), forgotten=_headline(report.forgotten))


class AncestorObject(BaseModel):
    """A version in the lineage of a version."""

    object: str = "version"
    number: int
    parent: int | None
    job: str
    operation: str
    strategy: str
    labels: list[str] = Field(description="every label the version holds")
    parameters: int
    revoked_by: str | None = Field(description="the job that forgot a label this version still holds")
    purged_by: str | None = Field(
        description="the job whose purge deleted all files but the report and the manifest"
    )
    created_at: datetime


class VersionObject(AncestorObject):
    """An immutable published state of a model."""

    model: str
    widths: dict[str, Any]
    figures: HeadlineFigures
    files: dict[str, FileObject]
    links: dict[str, str]


@router.get("", responses=refusals(404))
def list_versions(
    model: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[VersionObject]:
    """The model's versions, newest first."""
    with context.database.reading() as session:
        row = find_model(session, model)
        rows, has_more = versions.page(session, row, limit=page.limit, after=_version_number(page.after))
        data = [_describe_version(row, version) for version in rows]
    return build_listing(
        request, response, data, has_more=has_more, last=str(rows[-1].number) if rows else None
    )


@router.get("/{number}", responses=refusals(404))
def get_version(model: str, number: str, context: Context) -> VersionObject:
    """One version."""
    with context.database.reading() as session:
        row = find_model(session, model)
        return _describe_version(row, find_version(session, row, number))


@router.get("/{number}/lineage", responses=refusals(404))
def get_lineage(
    model: str, number: str, page: PageQuery, request: Request, response: Response, context: Context
) -> Listing[AncestorObject]:
    """The version and its ancestors, newest first, back to the first."""
    with context.database.reading() as session:
        row = find_model(session, model)
        version = find_version(session, row, number)
        after = min(_version_number(page.after) or version.number + 1, version.number + 1)
        rows, has_more = versions.page(session, row, limit=page.limit, after=after)
        data = [AncestorObject(**_ancestor_fields(version)) for version in rows]
    return build_listing(
        request, response, data, has_more=has_more, last=str(rows[-1].number) if rows else None
    )


@router.get("/{number}/files/{name}", response_class=Response, responses=FILE | refusals(404, 410, 416))
def get_file(model: str, number: str, name: str, request: Request, context: Context) -> Response:
    """A published file, its bytes checked against their sha256. One `Range` of bytes at a time."""
    with context.database.reading() as session:
        row = find_model(session, model)
        version = find_version(session, row, number)
        is_purged = purging.has_removed(session, version, name)
    file = version.files.get(name)
    if is_purged:
        raise Problem(
            410, "file_purged", "A purge deleted this picture, because weights that it deleted had drawn it."
        )
    if file is None:
        raise Problem(404, "file_not_found", f"This version has: {', '.join(sorted(version.files))}.")
    versions.check_downloadable(row, version, name)
    headers = {"ETag": f'"{file["sha256"]}"', "Cache-Control": "max-age=60", "Accept-Ranges": "bytes"}
    if unchanged := not_modified(request, headers):
        return unchanged
    with unless_purged(context, row, version):
        data = context.artifacts.read(file["sha256"])
    return _answer_range(request, data, headers, file["media_type"])


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


def _describe_version(model: ModelRow, row: VersionRow) -> VersionObject:
    address = f"/v1/models/{model.name}/versions/{row.number}"
    return VersionObject(
        **_ancestor_fields(row),
        model=model.id,
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
        "labels": sorted(row.labels, key=lambda name: (row.labels[name] is None, row.labels[name], name)),
        "parameters": row.parameters,
        "revoked_by": row.revoked_by,
        "purged_by": row.purged_by,
        "created_at": row.created_at,
    }


def _version_number(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", cursor):
        raise unknown_cursor()
    return int(cursor)


def _answer_range(request: Request, data: bytes, headers: dict[str, str], media_type: str) -> Response:
    """Answer with `data`, or with the requested range of it (RFC 9110 14): 206, or 416 if it lies outside."""
    requested = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", request.headers.get("range", ""))
    fresh = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    if not requested or requested.groups() == ("", "") or not fresh:
        return Response(data, headers=headers, media_type=media_type)
    first, last = requested.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if start >= len(data) or (not first and int(last) == 0):
        raise Problem(
            416,
            "range_not_satisfiable",
            f"The file has {len(data)} bytes; request a range within them.",
            headers={"Content-Range": f"bytes */{len(data)}"},
        )
    if start > end:  # an invalid range is ignored
        return Response(data, headers=headers, media_type=media_type)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, headers, media_type)
