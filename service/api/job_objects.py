"""The JSON objects by which the API describes a job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from reports import Criterion, read_criterion
from service.registry import jobs, workers
from service.registry.job_errors import FailureType
from service.registry.tables import Guarantee, ImageErasureRow, JobRow, Operation, PurgeRow

POLL_SECONDS = "1"
"""The Retry-After header of the answer for a job that is not done: seconds until the next poll."""

ShownState = Literal[
    "queued", "running", "verifying", "cancelling", "succeeded", "failed", "rejected", "cancelled"
]


class ProgressObject(BaseModel):
    """How far the current phase of a job is."""

    phase: str
    step: int = Field(description="How many steps of the phase are done.")
    total: int = Field(description="How many steps the phase has.")
    fraction: float = Field(description="`step` / `total`, from 0 to 1.")
    eta_seconds: float | None = Field(description="The estimated seconds until the phase ends, if known.")
    loss: float | None


class JobErrorObject(BaseModel):
    """Why a job failed or was rejected."""

    type: str = Field(json_schema_extra={"enum": list(get_args(FailureType))})
    code: str
    message: str
    retryable: bool
    reasons: list[Criterion] = Field(
        [], description="For a rejected job: every criterion that its candidate missed."
    )


class PurgeObject(BaseModel):
    """The deletion of the files that hold the forgotten labels.

    `requested`: it begins once the job has succeeded. `pending`: the versions can no longer be used, and
    their files are being deleted. `done`: they are deleted. The receipt lists every file with its sha256.
    """

    reason: Literal["requested", "retention"]
    state: Literal["requested", "pending", "done"]
    files_deleted: int = Field(description="How many files were deleted; 0 until it is done.")
    bytes_deleted: int = Field(description="How many bytes these files had.")
    files_kept: int = Field(
        description="How many files were not deleted, because something else refers to them, or not "
        "completely, because their bucket keeps old versions."
    )
    finished_at: datetime | None


class DeletedImagesObject(BaseModel):
    """The images that were deleted from a dataset."""

    dataset: str
    labels: dict[str, int] = Field(description="How many images each label had, by its name in the dataset.")
    whole: bool = Field(description="Whether no label was left, so that the dataset was deleted.")
    sha256: str = Field(description="The file that held the images.")
    replaced_by: str | None = Field(description="The file with the images of the other labels.")
    kept: bool = Field(
        description="Whether the old file is kept, because another dataset has the same images."
    )
    remains: str | None = Field(
        None,
        description="Why the bucket of the old file keeps old versions of it. Null: it does not.",
    )


class ImageErasureObject(BaseModel):
    """The deletion of the images of forgotten labels from uploaded datasets.

    `requested`: it begins once the job has succeeded. `pending`: the images can no longer be learned, and
    are being deleted. `done`: they are deleted.
    """

    state: Literal["requested", "pending", "done"]
    labels: list[str]
    waits_for: str | None = Field(
        description="An older job that may still need the images: the deletion waits for its end."
    )
    datasets: list[DeletedImagesObject] = Field(description="What was deleted, once it is done.")
    finished_at: datetime | None


class LabelElsewhereObject(BaseModel):
    """A label that a model holds."""

    model: str
    name: str = Field(description="The name of the model.")
    label: str
    status: str


class SamplesElsewhereObject(BaseModel):
    """Recorded samples of a label, which can be drawn again."""

    model: str
    name: str = Field(description="The name of the model.")
    label: str
    count: int


class DatasetLabelObject(BaseModel):
    """A label of an uploaded dataset."""

    dataset: str
    label: str


class ElsewhereObject(BaseModel):
    """What else of the project held labels that were learned from the same images."""

    models: list[LabelElsewhereObject]
    datasets: list[DatasetLabelObject]
    samples: list[SamplesElsewhereObject]


class RepeatedRequestObject(BaseModel):
    """A request that the job answers besides its own, because it asks for no more than the job does."""

    reference: str | None
    metadata: dict[str, str]
    request_id: str | None
    created_by: str | None = Field(description="The id of the API key that requested it.")
    created_at: datetime


class JobObject(BaseModel):
    """A job: an accepted request to change a model, or to measure a version. Poll it until `done`."""

    id: str
    object: Literal["job"] = "job"
    model: str
    model_name: str
    operation: Operation
    strategy: str
    guarantee: Guarantee | None = Field(
        description="Of a forget: what it has to guarantee, and once it has succeeded, what it guarantees."
    )
    packages: dict[str, str] = Field(
        description="For its `strategy`, `network` or `dataset`, if that is not built in: the package that "
        "brings it. The manifest of the version that it publishes has the package's version too."
    )
    params: dict[str, Any] = Field(description="The params of the strategy, with every default filled in.")
    labels: list[str]
    already_forgotten: dict[str, str] = Field(
        description="For each label of the request that the job leaves out: the job that forgot it."
    )
    renamed: dict[str, str] = Field(
        description="For each label that has another name in the dataset: that name."
    )
    expires_in: int | None = Field(
        description="Of a learn of temporary labels: how many seconds after its end they are forgotten."
    )
    made_permanent: list[str] = Field(
        description="Of a learn: the labels that were temporary. Forgetting one was exact; from now on it is "
        "approximate, unless the request to forget has `guarantee: exact`, which trains a new network."
    )
    state: ShownState
    done: bool
    progress: ProgressObject | None
    queue: str = Field(description="Only workers that serve this queue take the job.")
    priority: int = Field(
        description="Workers take jobs with a larger priority first, but for one in four (decision 0140)."
    )
    queue_position: int | None = Field(
        description="How many unfinished jobs were accepted before it; 100 stands for 100 or more. Null once "
        "it is no longer queued."
    )
    waits_for: str | None = Field(
        description="Of a queued job that no running worker can run: that none serves its queue, or what "
        "none of them offers."
    )
    attempt: int
    max_attempts: int
    base_version: int | None = Field(
        description="The version that it started from. Before it starts: the version that its request "
        "expects to be the head, if it names one."
    )
    evaluated_version: int | None = Field(description="The version that an evaluate job measures.")
    output_version: int | None
    purge: PurgeObject | None = Field(
        description="Null, except for a forget job whose request set `purge`, or whose revoked versions are "
        "past their retention time."
    )
    image_erasure: ImageErasureObject | None = Field(
        description="Null, except for a forget job whose request set `also.datasets`."
    )
    elsewhere: ElsewhereObject | None = Field(
        description="Of a forget that succeeded: what else of the project held labels learned from the same "
        "images when it was published, or when their images were deleted. It forgets none of that."
    )
    seed: int
    acceptance: dict[str, Any] = Field(description="The criteria that were frozen when the job was accepted.")
    reference: str | None = Field(description="The client's own name for the request.")
    metadata: dict[str, str]
    also_requested: list[RepeatedRequestObject] = Field(
        description="Of a forget: the later requests that it answers and that have another `reference` or "
        "other `metadata`. The receipt has the reference of the job's own request."
    )
    request_id: str | None = Field(description="The id under which the service's log has the request.")
    trace_id: str | None = Field(
        description="The trace that the request belongs to, from its header `traceparent`. The lines that "
        "the service and the worker log have it."
    )
    created_by: str | None = Field(description="The id of the API key that requested it.")
    retry_of: str | None = Field(description="The job that it repeats.")
    follows: str | None = Field(
        description="Of a resize: the learn or forget after which it runs. It is cancelled if that job does "
        "not succeed."
    )
    followed_by: str | None = Field(
        description="Of a learn or forget: the job that resizes the network afterwards."
    )
    cost: dict[str, Any] | None = Field(
        description="The seconds, examples and energy that the last attempt took."
    )
    error: JobErrorObject | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


def describe_one(
    session: Session, row: JobRow, already_forgotten: Mapping[str, str] | None = None
) -> JobObject:
    """Return the JSON object that describes a job. See describe_job."""
    return describe_job(
        row,
        jobs.queue_position(session, row),
        already_forgotten,
        waits_for=workers.find_waiting(session, [row]).get(row.id),
    )


def describe_job(
    row: JobRow,
    queue_position: int | None,
    already_forgotten: Mapping[str, str] | None = None,
    *,
    waits_for: str | None = None,
) -> JobObject:
    """Return the JSON object that describes a job.

    already_forgotten: of the request that it answers, if that left out more labels than the job's own.
    waits_for: see workers.find_waiting.
    """
    links = {"self": f"/v1/jobs/{row.id}", "model": f"/v1/models/{row.model_id}"}
    if row.retry_of is not None:
        links["retry_of"] = f"/v1/jobs/{row.retry_of}"
    follower = row.follower if row.operation in ("learn", "forget") else None
    if row.follows is not None:
        links["follows"] = f"/v1/jobs/{row.follows}"
    if follower is not None:
        links["followed_by"] = f"/v1/jobs/{follower.id}"
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
        model_name=row.model.name,
        operation=row.operation,
        strategy=row.strategy,
        guarantee=row.guarantee,
        packages=row.packages or {},
        params=row.params,
        labels=row.labels,
        already_forgotten=dict(already_forgotten or row.already_forgotten or {}),
        renamed=row.renamed or {},
        expires_in=row.expires_in,
        made_permanent=row.made_permanent or [],
        state=cast(ShownState, row.public_state),
        done=row.done,
        progress=_describe_progress(row),
        queue=row.queue,
        priority=row.priority,
        queue_position=queue_position,
        waits_for=waits_for,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        base_version=_base_version(row),
        evaluated_version=row.evaluated_version,
        output_version=row.output_version,
        purge=_describe_purge(row.purge) if row.operation == "forget" and row.purge else None,
        image_erasure=_describe_erasure(row.image_erasure)
        if row.operation == "forget" and row.image_erasure
        else None,
        elsewhere=None if row.elsewhere is None else ElsewhereObject.model_validate(row.elsewhere),
        seed=row.seed,
        acceptance=row.acceptance,
        reference=row.reference,
        metadata=row.client_metadata or {},
        also_requested=_describe_repeated_requests(row) if row.operation == "forget" else [],
        request_id=row.request_id,
        trace_id=row.trace_id,
        created_by=row.created_by,
        retry_of=row.retry_of,
        follows=row.follows,
        followed_by=None if follower is None else follower.id,
        cost=row.cost,
        error=_describe_error(row.error) if row.error else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        links=links,
    )


def _base_version(row: JobRow) -> int | None:
    """Return the version that the job started from, or that it expects to start from."""
    if row.operation == "evaluate":
        return None
    return row.base_version if row.started_at is None else row.started_from


def _describe_error(error: dict[str, Any]) -> JobErrorObject:
    """Describe the error of a job's row, whatever release wrote it."""
    reasons = [read_criterion(one) for one in error.get("reasons", [])]
    return JobErrorObject.model_validate({**error, "reasons": reasons})


def _describe_purge(row: PurgeRow) -> PurgeObject:
    is_done = row.state == "done"  # before that the row has what is to be deleted, or was kept so far
    deleted, kept = (row.keys, row.kept) if is_done else ([], [])
    return PurgeObject(
        reason=row.reason,
        state=row.state,
        files_deleted=len(deleted),
        bytes_deleted=sum(file["bytes"] for file in deleted),
        files_kept=len(kept),
        finished_at=row.finished_at,
    )


def _describe_repeated_requests(row: JobRow) -> list[RepeatedRequestObject]:
    return [
        RepeatedRequestObject(
            reference=one.reference,
            metadata=one.client_metadata or {},
            request_id=one.request_id,
            created_by=one.created_by,
            created_at=one.created_at,
        )
        for one in row.repeated_requests
    ]


def _describe_erasure(row: ImageErasureRow) -> ImageErasureObject:
    return ImageErasureObject(
        state=row.state,
        labels=row.labels,
        waits_for=row.waits_for,
        datasets=[DeletedImagesObject(**entry) for entry in row.datasets],
        finished_at=row.finished_at,
    )


def _describe_progress(row: JobRow) -> ProgressObject | None:
    """Describe the last progress that the worker reported. A job that succeeded has done all of it."""
    progress = row.progress
    if not progress:
        return None
    total = max(progress["total"], 1)
    if row.state == "succeeded":
        return ProgressObject(
            phase=progress["phase"],
            step=total,
            total=total,
            fraction=1.0,
            eta_seconds=0.0,
            loss=progress["loss"],
        )
    return ProgressObject(
        phase=progress["phase"],
        step=progress["step"],
        total=total,
        fraction=min(progress["step"] / total, 1.0),
        eta_seconds=progress.get("eta_seconds"),
        loss=progress["loss"],
    )
