"""/v1/jobs: list, read, cancel and repeat jobs, and read the receipt of a forget."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.idempotency import Idempotent
from service.api.job_objects import POLL_SECONDS, JobObject, ShownState, describe_job, describe_one
from service.api.lookup import VERSION_ERRORS, find_job, find_model
from service.api.paging import (
    CURSOR_RULE,
    METADATA_PARAMETER,
    FilteredPage,
    Listing,
    MetadataFilter,
    build_listing,
    unknown_cursor,
)
from service.api.refusals import NEEDS_USABLE_VERSION, READS_FILES, refuses
from service.api.route import Route
from service.api.space import find_lack
from service.api.submission import Order, Submit
from service.receipts import issuing
from service.receipts.signing_keys import find_key
from service.receipts.statement import MEDIA_TYPE
from service.recovery import erasure_log
from service.registry import job_lists, jobs, models, workers
from service.registry.errors import (
    ForgetUnfinished,
    ForgottenWithLess,
    ImagesDeleted,
    JobAlreadyFinished,
    JobAlreadySucceeded,
    JobNotFinished,
    JobNotRepeatable,
    LabelAlreadyLearned,
    LabelForgotten,
    NoPermanentLabel,
    NoReceipt,
    NotExact,
    ReceiptNotReady,
    SigningKeyUnusable,
    StaleBase,
    StorageFull,
    TooManyRepetitions,
    UnknownJob,
    UnknownLabel,
    UnknownModel,
)
from service.registry.job_lists import JobFilter
from service.registry.job_specs import JobSpec, LabelsSpec, Statuses
from service.registry.tables import JobRow, ModelRow, Operation
from service.requests import retries
from service.requests.fields import LABEL_RULE, LabelName, ResourceName
from service.requests.violations import InvalidRequest

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=Route)


class ReceiptResponse(Response):
    media_type = MEDIA_TYPE


class JobsQuery(FilteredPage):
    """Which page of which jobs is requested, and in which order."""

    model: ResourceName | None = Field(
        None, description="List only the jobs of the model of this name or id."
    )
    state: ShownState | None = Field(None, description="List only the jobs in this state.")
    operation: Operation | None = Field(None, description="List only the jobs of this operation.")
    label: LabelName | None = Field(
        None, description="List only the jobs about this label, by its name in the model."
    )
    reference: Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description="List only the jobs with this `reference`: that of their own request, or of another one "
        "that they answer (`also_requested`). So it is with `metadata.KEY`.",
    )


@router.get("", openapi_extra=METADATA_PARAMETER)
@requires("read")
@refuses(UnknownModel, invalid_cursor=CURSOR_RULE, invalid_name=LABEL_RULE)
def list_jobs(
    page: Annotated[JobsQuery, Query()],
    metadata: MetadataFilter,
    request: Request,
    response: Response,
    context: Context,
) -> Listing[JobObject]:
    """List the jobs, newest first unless another order is requested.

    With `operation`, `label`, `reference` or `metadata.KEY` one page looks at 10,000 jobs at most. So it may
    have fewer jobs than `limit`, or none, although `has_more` is true: read on with `next`.
    """
    with context.database.reading() as session:
        model = find_model(session, context.project, page.model) if page.model is not None else None
        found = job_lists.page(
            session,
            project=context.project,
            only=JobFilter(
                None if model is None else model.id,
                page.state,
                page.operation,
                page.label,
                page.reference,
                metadata,
            ),
            descending=page.order == "desc",
            limit=page.limit,
            after=_check_cursor(session, context.project, page.after),
        )
        rows = found.rows
        positions, waiting = jobs.queue_positions(session, rows), workers.find_waiting(session, rows)
        data = [describe_job(row, positions.get(row.id), waits_for=waiting.get(row.id)) for row in rows]
    return build_listing(request, response.headers, data, has_more=found.next is not None, last=found.next)


@router.get("/{job}")
@requires("read")
@refuses(UnknownJob)
def get_job(job: str, response: Response, context: Context) -> JobObject:
    """Read one job.

    To poll it, send the ETag of the last answer, and wait as long as its Retry-After header says.
    """
    with context.database.reading() as session:
        row = find_job(session, context.project, job)
        found = describe_one(session, row)
    if not found.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return found


@router.post("/{job}/cancel", status_code=202)
@requires("learn", "forget")
@refuses(UnknownJob, JobAlreadyFinished)
def cancel_job(job: str, response: Response, context: Context, once: Idempotent) -> JobObject:
    """Cancel a job, and the resize that follows it.

    Cancelling it again changes nothing. A job that has ended in another way is refused with 409.
    """
    with context.database.reading() as session:
        found = find_job(session, context.project, job)  # refused without waiting for another writer
        context.caller.require("forget" if found.operation == "forget" else "learn")
    with context.database.transaction() as session:
        answered = once.begin(session)
        row = jobs.find(session, answered.resource_id) if answered else jobs.cancel(session, found.id)
        if answered is None:
            once.record(session, 202, row.id)
            context.append_to_audit_log(session, "job.cancel", row.id)
        cancelled = describe_one(session, row)
    response.headers["Location"] = cancelled.links["self"]
    if not cancelled.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return cancelled


@router.post(
    "/{job}/retry",
    status_code=202,
    responses={
        200: {
            "model": JobObject,
            "description": "The job is done: it ended within the time of `Prefer: wait`, or another job has "
            "done what this one was to do.",
        },
    },
)
@requires("learn", "forget")
@refuses(
    *VERSION_ERRORS,
    UnknownJob,
    JobNotFinished,
    JobAlreadySucceeded,
    JobNotRepeatable,
    UnknownLabel,
    LabelAlreadyLearned,
    LabelForgotten,
    ImagesDeleted,
    StaleBase,
    ForgottenWithLess,
    ForgetUnfinished,
    TooManyRepetitions,
    NotExact,
    NoPermanentLabel,
    *NEEDS_USABLE_VERSION,
)
async def retry_job(job: str, submission: Submit) -> JobObject:
    """Repeat a job that failed, was rejected or was cancelled, as a new job.

    The new job has the labels, params, seed, criteria, reference and metadata of the old one, and names it as
    `retry_of`. The rules that a new request has apply to it: where they refuse it, because the labels, the
    datasets or the strategies have changed, the answer is 409 `job_not_repeatable`, or the code of the rule.
    A resize that was cancelled because the job did not succeed follows the new job, as a new job as well.
    A job that has not ended is refused with `job_not_finished`, one that succeeded with
    `job_already_succeeded`. If another job has forgotten the labels meanwhile, that job is the answer. The
    key needs the scope of the job's operation.
    """
    context = submission.context
    repeated = await context.database_threads.read(_find_repeatable, job, context)
    lack = await run_in_threadpool(find_lack, context)
    if lack and repeated.operation != "forget":
        raise StorageFull(lack)

    def resolve(session: Session, model: ModelRow, statuses: Statuses) -> JobSpec:
        row = jobs.find(session, repeated.id)
        catalog = context.find_catalog(session)
        try:
            spec = retries.spec_again(row, catalog, statuses)
            if lack and isinstance(spec, LabelsSpec):
                spec = replace(spec, resize=None)  # the reserve is for forgetting alone
            return catalog.with_packages(spec, model.network)
        except InvalidRequest as error:
            reasons = "; ".join(violation.detail for violation in error.violations)
            raise JobNotRepeatable(row.id, reasons) from error

    return await submission.submit(
        Order(
            line=repeated.model_id,
            find_model=lambda session: models.find(session, repeated.model_id, project=context.project),
            resolve=resolve,
            reference=repeated.reference,
            metadata=repeated.client_metadata or {},
            retry_of=repeated.id,
            queue=repeated.queue,
            priority=repeated.priority,
            audited={"operation": repeated.operation, "labels": repeated.labels or None},
        )
    )


def _find_repeatable(job: str, context: ApiContext) -> JobRow:
    """Return the job, if the caller may repeat it. Raises UnknownJob, JobNotFinished, JobAlreadySucceeded."""
    with context.database.reading() as session:
        found = find_job(session, context.project, job)
    context.caller.require("forget" if found.operation == "forget" else "learn")
    if not found.done:
        raise JobNotFinished(found.id, found.public_state)
    if found.state == "succeeded":
        raise JobAlreadySucceeded(found.id)
    return found


@router.get("/{job}/receipt", response_class=ReceiptResponse)
@requires("read")
@refuses(UnknownJob, NoReceipt, ReceiptNotReady, SigningKeyUnusable, *READS_FILES)
def get_receipt(job: str, context: Context) -> Response:
    """Read the signed receipt of a forget job.

    It is an in-toto statement in a DSSE envelope. `palimpsest verify` checks it.
    """
    with context.database.reading() as session:
        row = find_job(session, context.project, job)
        receipt = issuing.find_receipt(session, row)
    if receipt is None and context.settings.signer:
        key = find_key(context.database, context.settings.keys)
        with context.database.transaction() as session:
            erasure_log.write_due(session, context.settings.erasure_log)
        receipt = issuing.sign_receipt(context.database, context.artifacts, key, row.id)
    if receipt is None:
        raise ReceiptNotReady(row.id, "what it deletes is not all deleted yet")
    return ReceiptResponse(receipt)


def _check_cursor(session: Session, project: str, cursor: str | None) -> str | None:
    try:
        return None if cursor is None else find_job(session, project, cursor).id
    except UnknownJob:
        raise unknown_cursor() from None
