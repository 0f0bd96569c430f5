"""/v1/jobs: what was asked of the models, how far it is, and how it ended."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.dependencies import Here, Listing, Page, find_model, listing, unknown_cursor
from service.api.problems import refusals
from service.api.route import Route
from service.receipts import issuing
from service.receipts.signing import signing_key
from service.receipts.statement import MEDIA_TYPE
from service.registry import jobs
from service.registry.errors import ReceiptNotReady, UnknownJob
from service.registry.tables import JobRow, PurgeRow

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=Route)

POLL_SECONDS = "1"
"""Retry-After of a job that is not done."""

ShownState = Literal[
    "queued", "running", "verifying", "cancelling", "succeeded", "failed", "rejected", "cancelled"
]


class ProgressObject(BaseModel):
    """How far a job is: step `step` of `total` in `phase`."""

    phase: str
    step: int
    total: int
    fraction: float
    eta_seconds: float | None
    loss: float | None


class ReasonObject(BaseModel):
    """One criterion a candidate missed; measured is null where nothing could be."""

    criterion: str
    label: str | None
    bound: float
    measured: float | None
    n: int
    interval: tuple[float, float] | None


class JobErrorObject(BaseModel):
    """Why a job failed or was refused."""

    type: str
    code: str
    message: str
    retryable: bool
    reasons: list[ReasonObject] = Field([], description="of a rejected job: every criterion it missed")


class KeyObject(BaseModel):
    """A deleted file of a sealed version, by the sha256 it was stored under."""

    version: int
    file: str
    sha256: str
    bytes: int


class PurgeObject(BaseModel):
    """The deletion of what holds the forgotten labels.

    `asked`: begins once the job succeeds. `pending`: the versions are sealed, their files are being deleted.
    `done`: each of `keys` is gone; `kept` are files that another version refers to.
    """

    reason: Literal["asked", "retention"]
    state: Literal["asked", "pending", "done"]
    keys: list[KeyObject]
    kept: list[KeyObject]
    finished_at: datetime | None


class ReceiptResponse(Response):
    media_type = MEDIA_TYPE


class JobObject(BaseModel):
    """One accepted request to change a model, or to measure a version. Poll it until `done`."""

    id: str
    object: Literal["job"] = "job"
    model: str
    operation: str
    strategy: str
    labels: list[str]
    renamed: dict[str, str] = Field(description="the dataset's own name for a label, where it is another")
    state: ShownState
    done: bool
    progress: ProgressObject | None
    queue_position: int | None
    attempt: int
    max_attempts: int
    base_version: int | None
    evaluated_version: int | None = Field(description="the version an evaluate job measures")
    output_version: int | None
    purge: PurgeObject | None = Field(
        description="of a forget that was asked to purge, or whose time has come"
    )
    seed: int
    acceptance: dict[str, Any] = Field(description="what was frozen when it was accepted")
    cost: dict[str, Any] | None = Field(description="seconds, examples and energy of its last attempt")
    error: JobErrorObject | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobsPage(Page):
    """`?model=&state=` beside the paging."""

    model: str | None = None
    state: ShownState | None = None


@router.get("", responses=refusals(404))
def list_jobs(
    page: Annotated[JobsPage, Query()], request: Request, response: Response, here: Here
) -> Listing[JobObject]:
    """All jobs, newest first; of one model or in one state if asked."""
    with here.database.reading() as session:
        model = find_model(session, page.model) if page.model is not None else None
        after = _known(session, page.after)
        rows, has_more = jobs.page(session, model=model, state=page.state, limit=page.limit, after=after)
        positions = jobs.queue_positions(session, rows)
        data = [job_object(row, positions.get(row.id)) for row in rows]
    return listing(request, response, data, has_more=has_more, last=rows[-1].id if rows else None)


@router.get("/{job}", responses=refusals(404))
def get_job(job: str, response: Response, here: Here) -> JobObject:
    """One job. Small enough to poll: ETag, and Retry-After while it is not done."""
    with here.database.reading() as session:
        row = find_job(session, job)
        found = job_object(row, jobs.queue_position(session, row))
    if not found.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return found


@router.post("/{job}/cancel", status_code=202, responses=refusals(404, 409))
def cancel_job(job: str, response: Response, here: Here) -> JobObject:
    """Ask a job to stop. Asking again changes nothing; a job that ended otherwise is a 409."""
    with here.database.transaction() as session:
        row = jobs.cancel(session, find_job(session, job).id)
        cancelled = job_object(row, jobs.queue_position(session, row))
    response.headers["Location"] = cancelled.links["self"]
    return cancelled


@router.get("/{job}/receipt", response_class=ReceiptResponse, responses=refusals(404, 409))
def get_receipt(job: str, here: Here) -> Response:
    """The signed receipt of a forget: an in-toto statement in a DSSE envelope, for `palimpsest verify`."""
    with here.database.reading() as session:
        row = find_job(session, job)
        receipt = issuing.found(session, row)
    if receipt is None:
        key = signing_key(here.settings.keys)
        receipt = issuing.issue(here.database, here.artifacts, key, row.id)
    if receipt is None:
        raise ReceiptNotReady(row.id, "the deletion of its data is pending")
    return ReceiptResponse(receipt)


def _known(session: Session, cursor: str | None) -> str | None:
    try:
        return None if cursor is None else find_job(session, cursor).id
    except UnknownJob:
        raise unknown_cursor() from None


def find_job(session: Session, job_id: str) -> JobRow:
    """The job of that id; UnknownJob also for what could never be one."""
    if not re.fullmatch(r"job_[0-9A-Za-z]{1,40}", job_id):
        raise UnknownJob(job_id)
    return jobs.find(session, job_id)


def job_object(row: JobRow, queue_position: int | None) -> JobObject:
    """The job as clients see it."""
    links = {"self": f"/v1/jobs/{row.id}", "model": f"/v1/models/{row.model_id}"}
    version = row.evaluated_version or row.output_version
    if version is not None:
        links["version"] = f"/v1/models/{row.model_id}/versions/{version}"
    if row.state in ("succeeded", "rejected"):
        links["report"] = f"/v1/jobs/{row.id}/report"
    if row.operation == "forget" and row.state == "succeeded":
        links["receipt"] = f"/v1/jobs/{row.id}/receipt"
    return JobObject(
        id=row.id,
        model=row.model_id,
        operation=row.operation,
        strategy=row.strategy,
        labels=row.labels,
        renamed=row.renamed or {},
        state=cast(ShownState, row.shown_state),
        done=row.done,
        progress=_progress(row.progress),
        queue_position=queue_position,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        base_version=row.base_version,
        evaluated_version=row.evaluated_version,
        output_version=row.output_version,
        purge=_purge(row.purge) if row.operation == "forget" and row.purge else None,
        seed=row.seed,
        acceptance=row.acceptance,
        cost=row.cost,
        error=JobErrorObject.model_validate(row.error) if row.error else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        links=links,
    )


def _purge(row: PurgeRow) -> PurgeObject:
    keys, kept = ([KeyObject(**file) for file in files] for files in (row.keys, row.kept))
    return PurgeObject(reason=row.reason, state=row.state, keys=keys, kept=kept, finished_at=row.finished_at)


def _progress(progress: dict[str, Any] | None) -> ProgressObject | None:
    if not progress:
        return None
    total = max(progress["total"], 1)
    return ProgressObject(
        phase=progress["phase"],
        step=progress["step"],
        total=total,
        fraction=min(progress["step"] / total, 1.0),
        eta_seconds=progress.get("eta_seconds"),
        loss=progress["loss"],
    )
