"""What was measured: a version's report as JSON or as a page, a job's, relapses, two versions compared."""

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from service.api.context import Context
from service.api.lookup import find_job, find_model, find_version
from service.api.problems import Problem, refusals
from service.api.responses import PAGE_HEADERS, PngResponse
from service.api.route import Route, not_modified, preferred
from service.drawing.images import enlarge, grid, png
from service.registry import labels, reports, versions
from service.registry.reports import StoredReport
from service.registry.tables import Level, VersionRow
from service.reporting import page as report_page
from service.reporting.figures import Figure, Found, figure, figures, moved, recovered, relapsed
from service.requests.fields import LabelName

router = APIRouter(prefix="/v1", tags=["reports"], route_class=Route)

MOST_VERSIONS = 500
"""Of the newest versions a relapse is told of."""

RECOVERED_COLUMNS = 8

PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report; as a page for who prefers HTML",
        "content": {"application/json": {}, "text/html": {}},
    }
}


class Asked(BaseModel):
    """`?level=`: quick as measured before publishing, full as an evaluate job measured it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level | None = Field(None, description="the fullest there is when left out")


class RelapsePoint(BaseModel):
    """What one version drew for a forgotten label."""

    version: int
    operation: str
    strategy: str
    accuracy: float | None
    n: int
    interval: tuple[float, float] | None
    threshold: str | None
    verdict: Literal["met", "missed"] | None
    reason: str | None = None


class RelapseLabel(BaseModel):
    """A label that was forgotten, and what every version since drew for it, oldest first."""

    label: str
    status: str = Field(description="now; a label learned again is no longer watched")
    forgotten_version: int | None
    relapsed: bool = Field(description="at the head: drawn more often than it is held to")
    series: list[RelapsePoint]


class RelapseObject(BaseModel):
    """Every label ever forgotten, tested after every later job."""

    object: Literal["relapse"] = "relapse"
    model: str
    head: int | None
    relapsed: list[str]
    earlier: bool = Field(description="there are older versions than these tell of")
    labels: list[RelapseLabel]


class ComparedVersion(BaseModel):
    """One side of a comparison."""

    version: int
    operation: str
    strategy: str
    labels: list[str]
    widths: dict[str, Any]
    level: str
    seconds: float | None = Field(description="what its job took")
    revoked_by: str | None
    created_at: datetime


class ComparedFigure(BaseModel):
    """A figure of both versions. `clear`: their 95 % intervals do not touch."""

    figure: str
    from_: dict[str, Any] | None = Field(alias="from")
    to: dict[str, Any] | None
    change: float | None
    clear: bool | None


class ComparisonObject(BaseModel):
    """Two versions side by side, figure by figure."""

    object: Literal["comparison"] = "comparison"
    model: str
    from_: ComparedVersion = Field(alias="from")
    to: ComparedVersion
    learned: list[str]
    forgotten: list[str]
    figures: list[ComparedFigure]


class Comparing(BaseModel):
    """`?from=&to=`: two versions by their numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: int = Field(alias="from", ge=1, le=2**31 - 1)
    to: int = Field(ge=1, le=2**31 - 1)


@router.get(
    "/models/{model}/versions/{number}/report", response_class=Response, responses=PAGE | refusals(404)
)
def get_report(
    model: str, number: str, asked: Annotated[Asked, Query()], request: Request, context: Context
) -> Response:
    """The evidence for a version: JSON, or a page for a browser; beside it the cost of its job."""
    wanted = preferred(request, "application/json", "text/html")
    with context.database.reading() as session:
        row = find_model(session, model)
        version = find_version(session, row, number)
        evidence = reports.find_for_version(session, version, asked.level)
        if wanted == "application/json":
            return JSONResponse(_told(evidence), headers={"Vary": "Accept"})
        subject = report_page.Subject(
            model=row,
            version=version,
            parent=versions.find(session, row, version.parent) if version.parent else None,
            job=find_job(session, version.job_id),
            evidence=evidence,
            earlier=reports.find_earlier(session, version, evidence),
            relapses=relapse_series(reports.find_newest_versions(session, row, limit=MOST_VERSIONS)),
        )
    page = report_page.render(subject)
    return Response(page, headers=PAGE_HEADERS | {"Vary": "Accept"}, media_type="text/html; charset=utf-8")


@router.get("/jobs/{job}/report", response_class=Response, responses=refusals(404))
def get_report_of_job(job: str, request: Request, context: Context) -> Response:
    """The bytes of the report a job measured; of a rejected one too, which is kept nowhere else."""
    preferred(request, "application/json")
    with context.database.reading() as session:
        evidence = reports.find_for_job(session, find_job(session, job))
    headers = {"ETag": f'"{evidence.sha256}"', "Cache-Control": "max-age=60"}
    return not_modified(request, headers) or Response(
        context.artifacts.read(evidence.sha256), headers=headers, media_type="application/json"
    )


@router.get(
    "/jobs/{job}/report/recovered/{label}/{network}.png",
    response_class=PngResponse,
    responses=refusals(404),
)
def get_recovered(
    job: str, label: LabelName, network: Literal["candidate", "reference"], context: Context
) -> Response:
    """What a search of the network for a forgotten label ended with; of the version, or of a reference."""
    with context.database.reading() as session:
        report = reports.find_for_job(session, find_job(session, job)).report
    found = recovered(report).get(label)
    if found is None:
        raise Problem(404, "picture_not_found", "The report of this job has no such picture.")
    pixels = np.frombuffer(base64.b64decode(found[network]["base64"]), dtype=np.uint8)
    side = math.isqrt(found[network]["pixels"])
    images = pixels.reshape(-1, side, side)
    columns = min(RECOVERED_COLUMNS, len(images))
    rows = len(images) // columns
    return PngResponse(png(enlarge(grid(images[: rows * columns], rows, columns), 2)))


@router.get("/models/{model}/relapse", responses=refusals(404))
def get_relapse(model: str, context: Context) -> RelapseObject:
    """Whether what was forgotten stayed forgotten: each forgotten label, measured by every later version."""
    with context.database.reading() as session:
        row = find_model(session, model)
        known = labels.find_all(session, row.id)
        line = reports.find_newest_versions(session, row, limit=MOST_VERSIONS)
    again = relapsed(line[-1].report) if line else []
    return RelapseObject(
        model=row.id,
        head=row.head,
        relapsed=again,
        earlier=bool(line) and line[0].number > 1,
        labels=[
            RelapseLabel(
                label=name,
                status=known[name].status,
                forgotten_version=known[name].forgotten_version,
                relapsed=name in again,
                series=[RelapsePoint.model_validate(point) for point in points],
            )
            for name, points in relapse_series(line).items()
        ],
    )


@router.get("/models/{model}/compare", responses=refusals(404))
def compare(model: str, asked: Annotated[Comparing, Query()], context: Context) -> ComparisonObject:
    """The figures of two versions side by side, at the fullest level both have."""
    with context.database.reading() as session:
        row = find_model(session, model)
        sides = [find_version(session, row, str(number)) for number in (asked.from_, asked.to)]
        before, after = _at_one_level(session, sides)
    held = [set(version.labels) for version in sides]
    return ComparisonObject.model_validate(
        {
            "model": row.id,
            "from": _side(sides[0], before),
            "to": _side(sides[1], after),
            "learned": sorted(held[1] - held[0]),
            "forgotten": sorted(held[0] - held[1]),
            "figures": list(side_by_side(figures(before.report), figures(after.report))),
        }
    )


def relapse_series(line: Sequence[VersionRow]) -> dict[str, list[dict[str, Any]]]:
    """{label: a point for each version that had forgotten it}, in the order they were first forgotten."""
    series: dict[str, list[dict[str, Any]]] = {}
    for version in line:
        for name, measured in version.report.get("forgotten", {}).get("labels", {}).items():
            point = figure(measured)
            series.setdefault(name, []).append(
                {
                    "version": version.number,
                    "operation": version.operation,
                    "strategy": version.strategy,
                    "accuracy": point.pop("value"),
                    **point,
                }
            )
    return series


def side_by_side(before: Sequence[Found], after: Sequence[Found]) -> list[dict[str, Any]]:
    """Every figure of either, those of both first where they stand in `after`."""
    old, new = ({found.path: found.figure for found in one} for one in (before, after))
    paths = [*new, *(path for path in old if path not in new)]
    return [_compared(".".join(path), old.get(path), new.get(path)) for path in paths]


def _compared(name: str, before: Figure | None, after: Figure | None) -> dict[str, Any]:
    return {"figure": name, "from": before, "to": after, **moved(before, after)}


def _at_one_level(session: Session, sides: Sequence[VersionRow]) -> list[StoredReport]:
    found = [reports.find_for_version(session, version) for version in sides]
    if len({evidence.level for evidence in found}) == 1:
        return found
    return [reports.find_for_version(session, version, "quick") for version in sides]


def _side(version: VersionRow, evidence: StoredReport) -> dict[str, Any]:
    return {
        "version": version.number,
        "operation": version.operation,
        "strategy": version.strategy,
        "labels": sorted(version.labels),
        "widths": version.widths,
        "level": evidence.level,
        "seconds": (evidence.cost or {}).get("seconds"),
        "revoked_by": version.revoked_by,
        "created_at": version.created_at,
    }


def _told(evidence: StoredReport) -> Mapping[str, Any]:
    """The report as it was hashed, and beside it what is no part of the hash."""
    source = {
        "job": evidence.job_id,
        "sha256": evidence.sha256,
        "created_at": evidence.created_at.isoformat().replace("+00:00", "Z"),
        "href": f"/v1/jobs/{evidence.job_id}/report",
    }
    return {**evidence.report, "cost": evidence.cost, "source": source}
