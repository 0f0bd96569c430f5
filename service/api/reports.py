"""Routes for measurements: reports as JSON or as pages, relapses, and comparison of two versions."""

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from reports import FigureSummary, FullReport, Picture, Report, read_report
from service.api.access import Caller, requires
from service.api.context import Context
from service.api.error_kinds import PICTURE_NOT_FOUND
from service.api.lookup import (
    VERSION_ERRORS,
    find_job,
    find_model,
    find_version,
    headers_of_version,
)
from service.api.problems import Problem
from service.api.refusals import READS_FILES, refuses
from service.api.responses import PAGE_HEADERS, PNG, PngResponse
from service.api.route import FOR_ONE_CLIENT, FOR_ONE_MINUTE, Route, not_modified, preferred
from service.drawing.images import enlarge, grid, png
from service.registry import labels, reports, versions
from service.registry.errors import ArtifactMissing, ReportDeleted, UnknownJob, UnknownModel, UnknownReport
from service.registry.reports import StoredReport
from service.registry.tables import Level, VersionRow
from service.reporting import page as report_page
from service.reporting.figures import FigurePair, pair_figures
from service.reporting.relapse import RelapsePoint, relapse_series
from service.requests.fields import LABEL_RULE, VERSION_RULE, LabelName, VersionReferenceText

router = APIRouter(prefix="/v1", tags=["reports"], route_class=Route)

MAX_RELAPSE_VERSIONS = 500
"""How many of the newest versions are looked at for relapses."""

RECOVERED_COLUMNS = 8
"""Images in a row of the picture of recovered images."""


class ReportSource(BaseModel):
    """Which job measured the report, and the address of the file that was stored and hashed."""

    job: str
    sha256: str
    created_at: datetime
    href: str


class WithSource(BaseModel):
    """Fields that a response adds to a report; they are not in the stored file."""

    cost: dict[str, Any] | None = Field(description="seconds, examples and energy of the job")
    source: ReportSource


class QuickReportObject(Report, WithSource):
    """A version's quick report, whatever release wrote it."""

    level: Literal["quick"] = "quick"


class FullReportObject(FullReport, WithSource):
    """A version's full report, whatever release wrote it."""


REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report; an HTML page for a client that prefers HTML",
        "model": QuickReportObject | FullReportObject,
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
}


REPORT_OF_JOB: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report.", "content": {"application/json": {"schema": {"type": "object"}}}}
}


class ReportQuery(BaseModel):
    """`?level=`: the quick report, measured before publishing, or the full one of an evaluate job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level | None = Field(None, description="left out: full if there is a full report, else quick")


class RelapseLabel(BaseModel):
    """A label that was forgotten, and its accuracy in every version since, oldest first."""

    label: str
    status: str = Field(description="status now; a label that was learned again has no further points")
    forgotten_version: int | None
    relapsed: bool = Field(
        description="whether the newest version draws it more often than its limit allows; false without a "
        "verdict, too"
    )
    series: list[RelapsePoint]


class RelapseObject(BaseModel):
    """Every label that was ever forgotten, measured after each later job."""

    object: Literal["relapse"] = "relapse"
    model: str
    head: int | None
    relapsed: list[str]
    earlier: bool = Field(description="whether there are older versions that the series leave out")
    labels: list[RelapseLabel]


class ComparedVersion(BaseModel):
    """One side of a comparison."""

    version: int
    operation: str
    strategy: str
    labels: list[str]
    widths: dict[str, Any]
    level: Level
    seconds: float | None = Field(description="how long its job took")
    revoked_by: str | None
    created_at: datetime

    @classmethod
    def of(cls, version: VersionRow, stored: StoredReport) -> Self:
        return cls(
            version=version.number,
            operation=version.operation,
            strategy=version.strategy,
            labels=sorted(version.labels),
            widths=version.widths,
            level=stored.level,
            seconds=(stored.cost or {}).get("seconds"),
            revoked_by=version.revoked_by,
            created_at=version.created_at,
        )


class FigureComparison(BaseModel):
    """A figure of both versions. `clear`: whether their 95 % intervals do not overlap."""

    model_config = ConfigDict(populate_by_name=True)

    figure: str
    from_: FigureSummary | None = Field(alias="from")
    to: FigureSummary | None
    change: float | None
    clear: bool | None

    @classmethod
    def of(cls, pair: FigurePair) -> Self:
        change, clear = pair.change
        return cls(figure=pair.name, from_=pair.before, to=pair.after, change=change, clear=clear)


class ComparisonObject(BaseModel):
    """Two versions side by side, figure by figure."""

    model_config = ConfigDict(populate_by_name=True)

    object: Literal["comparison"] = "comparison"
    model: str
    from_: ComparedVersion = Field(alias="from")
    to: ComparedVersion
    learned: list[str]
    forgotten: list[str]
    figures: list[FigureComparison]


class ComparisonQuery(BaseModel):
    """`?from=&to=`: the two versions, each by its number, an alias, or as `head`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: VersionReferenceText = Field(alias="from")
    to: VersionReferenceText


@router.get("/models/{model}/versions/{number}/report", response_class=Response, responses=REPORT)
@requires("read")
@refuses(*VERSION_ERRORS, UnknownReport, ReportDeleted, *READS_FILES)
def get_report(
    model: str, number: str, query: Annotated[ReportQuery, Query()], request: Request, context: Context
) -> Response:
    """A version's report and the cost of the job that measured it: JSON, or an HTML page for a browser.

    The JSON follows `/v1/catalog/report-schema`, whatever release measured the version. `source.href` is the
    address of the file that was hashed. Without the scope `sample`, `pictures` of forgotten labels are null.
    """
    media_type = preferred(request, "application/json", "text/html")
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        version = find_version(session, row, number)
        headers = {**headers_of_version(request.scope, version.number, number), "Vary": "Accept"}
        headers["Cache-Control"] = FOR_ONE_CLIENT  # a full report may be added at any time
        stored = reports.find_for_version(session, version, query.level)
        if media_type == "application/json":
            shown = _without_pictures(_report_object(stored), context.caller)
            return JSONResponse(shown, headers=headers)
        job = find_job(session, context.project, version.job_id)
        subject = report_page.Subject(
            model=row,
            version=version,
            parent=versions.find(session, row, version.parent) if version.parent else None,
            job=job,
            is_purged=job.purge is not None and job.purge.state != "requested",
            stored=stored,
            earlier=reports.find_earlier(session, version, stored),
            relapses=relapse_series(reports.find_newest_versions(session, row, limit=MAX_RELAPSE_VERSIONS)),
        )
    page = report_page.render(subject)
    return Response(page, headers=PAGE_HEADERS | headers, media_type="text/html; charset=utf-8")


@router.get("/jobs/{job}/report", response_class=Response, responses=REPORT_OF_JOB)
@requires("read")
@refuses(UnknownJob, UnknownReport, ReportDeleted, *READS_FILES)
def get_report_of_job(job: str, request: Request, context: Context) -> Response:
    """The report that a job measured, as the file that was hashed. A rejected job has one, too.

    If it was deleted, with its model or the version that it measured, the answer is 410 `report_deleted`.
    Without the scope `sample`, `pictures` of forgotten labels are null, and the answer is not that file.
    """
    preferred(request, "application/json")
    with context.database.reading() as session:
        stored = reports.find_for_job(session, find_job(session, context.project, job))
    shown = _without_pictures(stored.document, context.caller)
    if shown != stored.document:  # the hash is of other bytes: this answer gets an ETag of its own
        return JSONResponse(shown)
    headers = {"ETag": f'"{stored.sha256}"', "Cache-Control": FOR_ONE_MINUTE}
    if unchanged := not_modified(request, headers):
        return unchanged
    try:
        data = context.artifacts.read(stored.sha256)
    except ArtifactMissing:  # perhaps deleted since its row was read
        with context.database.reading() as session:
            reports.find_for_job(session, find_job(session, context.project, job))
        raise
    return Response(data, headers=headers, media_type="application/json")


@router.get("/jobs/{job}/report/recovered/{label}/{network}.png", response_class=PngResponse, responses=PNG)
@requires("sample")
@refuses(UnknownJob, UnknownReport, ReportDeleted, PICTURE_NOT_FOUND, invalid_name=LABEL_RULE)
def get_recovered(
    job: str, label: LabelName, network: Literal["candidate", "reference"], context: Context
) -> Response:
    """The images that the recovery attack found for a forgotten label, in the version or in a reference."""
    with context.database.reading() as session:
        report = reports.find_for_job(session, find_job(session, context.project, job)).report
    audited = report.forgetting.labels.get(label) if isinstance(report, FullReport) else None
    if audited is None or audited.pictures is None:
        raise Problem(PICTURE_NOT_FOUND, "The report of this job has no recovered images of this label.")
    pictures = audited.pictures
    return PngResponse(_png(pictures.candidate if network == "candidate" else pictures.reference))


@router.get("/models/{model}/relapse")
@requires("read")
@refuses(UnknownModel)
def get_relapse(model: str, context: Context) -> RelapseObject:
    """Whether forgotten labels stayed forgotten: the accuracy of each in every later version."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        known = labels.find_all(session, row.id)
        newest = reports.find_newest_versions(session, row, limit=MAX_RELAPSE_VERSIONS)
    relapsed = read_report(newest[-1].report).relapsed if newest else []
    return RelapseObject(
        model=row.id,
        head=row.head,
        relapsed=relapsed,
        earlier=bool(newest) and newest[0].number > 1,
        labels=[
            RelapseLabel(
                label=name,
                status=known[name].status,
                forgotten_version=known[name].forgotten_version,
                relapsed=name in relapsed,
                series=points,
            )
            for name, points in relapse_series(newest).items()
        ],
    )


@router.get("/models/{model}/compare")
@requires("read")
@refuses(*VERSION_ERRORS, UnknownReport, ReportDeleted, invalid_name=VERSION_RULE)
def compare(model: str, query: Annotated[ComparisonQuery, Query()], context: Context) -> ComparisonObject:
    """The figures of two versions side by side, from full reports if both versions have one."""
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        before, after = (find_version(session, row, named) for named in (query.from_, query.to))
        stored_before, stored_after = _at_one_level(session, (before, after))
    return ComparisonObject(
        model=row.id,
        from_=ComparedVersion.of(before, stored_before),
        to=ComparedVersion.of(after, stored_after),
        learned=sorted(set(after.labels) - set(before.labels)),
        forgotten=sorted(set(before.labels) - set(after.labels)),
        figures=[
            FigureComparison.of(pair) for pair in pair_figures(stored_before.report, stored_after.report)
        ],
    )


def _at_one_level(session: Session, sides: Sequence[VersionRow]) -> list[StoredReport]:
    found = [reports.find_for_version(session, version) for version in sides]
    if len({stored.level for stored in found}) == 1:
        return found
    return [reports.find_for_version(session, version, "quick") for version in sides]


def _report_object(stored: StoredReport) -> dict[str, Any]:
    """The report in the schema of this release, with the fields that are not in the stored file."""
    beside = WithSource(
        cost=stored.cost,
        source=ReportSource(
            job=stored.job_id,
            sha256=stored.sha256,
            created_at=stored.created_at,
            href=f"/v1/jobs/{stored.job_id}/report",
        ),
    )
    return {**stored.report.as_json(), **beside.model_dump(mode="json")}


def _without_pictures(report: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
    """Return the report's document without recovered images, unless the caller has the scope `sample`."""
    if "sample" in caller.scopes or "forgetting" not in report:
        return report
    tests = report["forgetting"]
    hidden = {
        label: {**one, "pictures": None} if "pictures" in one else one
        for label, one in tests["labels"].items()
    }
    return {**report, "forgetting": {**tests, "labels": hidden}}


def _png(picture: Picture) -> bytes:
    """The picture's images as a grid of whole rows, enlarged."""
    side = math.isqrt(picture.pixels)
    images = np.frombuffer(base64.b64decode(picture.base64), dtype=np.uint8).reshape(-1, side, side)
    columns = min(RECOVERED_COLUMNS, len(images))
    rows = len(images) // columns
    return png(enlarge(grid(images[: rows * columns], rows, columns), 2), is_enlarged=True)
