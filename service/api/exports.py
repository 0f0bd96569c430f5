"""Exports: many images of a version, drawn by workers into shards that are downloaded.

The images are those of samples: pure functions of their version, label and seed.
"""

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.error_kinds import RESOURCE_GONE
from service.api.export_objects import ExportObject, describe_export, find_export
from service.api.idempotency import Idempotent, unless_gone
from service.api.job_objects import POLL_SECONDS
from service.api.lookup import VERSION_ERRORS, find_filter, find_model, find_version
from service.api.paging import CURSOR_RULE, Listing, Page, build_listing, parse_id
from service.api.refusals import NEEDS_USABLE_VERSION, refuses
from service.api.route import Route
from service.drawing.shards import FORMATS, estimate_bytes
from service.registry import exports, versions
from service.registry.errors import (
    ExportAlreadyFinished,
    ExportQuotaExceeded,
    LabelForgotten,
    LabelNotLearned,
    StorageFull,
    TooManyExports,
    UnknownExport,
)
from service.registry.export_plan import ExportPlan
from service.registry.exports import ExportFilter, ExportRequest
from service.registry.space import MEBIBYTE, measure_free_bytes
from service.registry.tables import ExportState, ModelRow
from service.requests.fields import (
    HEAD,
    VERSION_RULE,
    Body,
    LabelName,
    Labels,
    ResourceName,
    Seed,
    VersionReference,
    VersionReferenceText,
    refuse_duplicates,
)
from service.requests.violations import InvalidRequest, Violation

router = APIRouter(tags=["exports"], route_class=Route)

MAX_IMAGES = 100_000_000
MAX_SHARDS = 10_000
SHARD_IMAGES, MAX_SHARD_IMAGES = 100_000, 200_000
"""How many images a shard has unless the request says otherwise, and at most: seconds of a worker."""


def _check_format(name: object) -> object:
    if not isinstance(name, str) or name not in FORMATS:
        raise PydanticCustomError("unsupported_format", f"the format must be one of {', '.join(FORMATS)}")
    return name


class CreateExport(Body):
    """Images to draw: `count` of every label, with the seeds `seed`, `seed` + 1, ..."""

    count: int = Field(
        ge=1,
        le=MAX_IMAGES,
        description=f"The number of images of each label. Together the labels may have {MAX_IMAGES:,}.",
    )
    labels: Labels | None = Field(None, description="All labels that the version holds if it is left out.")
    seed: Seed | None = Field(None, description="If it is left out, a random seed is chosen.")
    version: VersionReference | None = Field(
        None, description="Its number or an alias. The head if it is left out."
    )
    format: Annotated[Literal["npz", "webdataset"], BeforeValidator(_check_format)] = Field(
        "npz",
        description="`npz`: shards of arrays for NumPy, `images`, `labels` and `seeds`. `webdataset`: tar "
        "archives with a PNG of each image and, as `cls`, the place of its label in `labels`.",
    )
    shard_images: int = Field(
        SHARD_IMAGES,
        ge=1,
        le=MAX_SHARD_IMAGES,
        description=f"The number of images in each shard but the last. There may be {MAX_SHARDS:,} shards.",
    )


@router.post("/v1/models/{model}/exports", status_code=202)
@requires("sample")
@refuses(
    *VERSION_ERRORS,
    LabelNotLearned,
    LabelForgotten,
    *NEEDS_USABLE_VERSION,
    TooManyExports,
    ExportQuotaExceeded,
    RESOURCE_GONE,
    invalid_name=VERSION_RULE,
    unsupported_format="there is no such `format`",
    output_too_large="more images or shards than an export may have",
)
def create_export(
    model: str, body: CreateExport, response: Response, context: Context, once: Idempotent
) -> ExportObject:
    """Export images: workers draw them into files to download. Poll the export, or list its shards.

    The images are those that a sample of the same labels, count and seed has. Parts of an export wait until
    no learn or forget does.
    """
    refuse_duplicates(body.labels or ())
    with context.database.reading() as session:  # a bad request is refused without waiting for a writer
        if answered := once.find(session):
            return _answer(session, answered.resource_id, context, response)
        _plan(session, context, model, body)
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    with context.database.transaction() as session:
        if answered := once.begin(session):
            return _answer(session, answered.resource_id, context, response)
        row, version, plan = _plan(session, context, model, body, lock=True)
        request = ExportRequest(
            labels=plan.labels,
            count=body.count,
            seed=seed,
            format=body.format,
            shard_images=body.shard_images,
            created_by=context.caller.key_id,
            request_id=context.request_id,
        )
        export, queued = exports.create(
            session, row, version, request, max_attempts=context.settings.max_attempts
        )
        once.record(session, 202, export.id)
        context.append_to_audit_log(
            session,
            "export.create",
            export.id,
            model=row.id,
            version=version.number,
            labels=list(plan.labels),
            count=body.count,
        )
        created, queue = _answer(session, export.id, context, response), row.queue
    for job_id in queued:
        context.wake_worker(job_id, queue)
    return created


class ExportsPage(Page):
    """Which exports are listed."""

    model: ResourceName | None = Field(None, description="Only exports of the model of this name or id.")
    version: VersionReferenceText | None = Field(
        None, description="Only exports of this version of the model: its number, an alias, or `head`."
    )
    state: ExportState | None = Field(None, description="Only exports in this state.")
    label: LabelName | None = Field(None, description="Only exports with images of this label.")


@router.get("/v1/exports")
@requires("read")
@refuses(
    *VERSION_ERRORS,
    invalid_cursor=CURSOR_RULE,
    invalid_name=VERSION_RULE,
    required="`version` needs `model`, whose version it is",
)
def list_exports(
    page: Annotated[ExportsPage, Query()], request: Request, response: Response, context: Context
) -> Listing[ExportObject]:
    """List the exports, newest first. Those of deleted models are left out."""
    with context.database.reading() as session:
        found = find_filter(session, context.project, page.model, page.version)
        rows, has_more = exports.page(
            session,
            project=context.project,
            only=ExportFilter(*found, page.state, page.label),
            limit=page.limit,
            after=parse_id(page.after, "exp"),
        )
        data = [describe_export(session, row) for row in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/v1/exports/{export}")
@requires("read")
@refuses(UnknownExport)
def get_export(export: str, response: Response, context: Context) -> ExportObject:
    """Read an export, with how far it is."""
    with context.database.reading() as session:
        found = describe_export(session, find_export(session, context.project, export))
    if not found.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return found


@router.post("/v1/exports/{export}/cancel", status_code=202)
@requires("sample")
@refuses(UnknownExport, ExportAlreadyFinished)
def cancel_export(export: str, response: Response, context: Context, once: Idempotent) -> ExportObject:
    """Cancel an export: nothing more is drawn, and its shards are deleted.

    Cancelling it again changes nothing. An export that has ended in another way is refused with 409.
    """
    with context.database.transaction() as session:
        answered = once.begin(session)
        row = find_export(session, context.project, export)
        if answered is None:
            row = exports.cancel(session, row.id, project=context.project)
            once.record(session, 202, row.id)
            context.append_to_audit_log(session, "export.cancel", row.id)
        return _answer(session, row.id, context, response)


@router.delete("/v1/exports/{export}", status_code=204)
@requires("forget")
@refuses(UnknownExport)
def delete_export(export: str, context: Context) -> None:
    """Delete an export: it is found no more, and its files are deleted seconds later.

    One that is not done is cancelled.
    """
    with context.database.transaction() as session:
        row = find_export(session, context.project, export)
        exports.remove(session, row.id)
        context.append_to_audit_log(session, "export.delete", row.id, model=row.model_id)


def _plan(
    session: Session, context: ApiContext, model: str, body: CreateExport, *, lock: bool = False
) -> tuple[ModelRow, Any, ExportPlan]:
    """Check the request, and return the model, the version and what is to be drawn.

    lock: lock the version, so that it is not revoked until the transaction ends, and the room for exports.
    """
    row = find_model(session, context.project, model)
    version = find_version(session, row, body.version or HEAD)
    if lock:
        exports.lock_model(session, row.id)
        session.refresh(version, with_for_update=True)
        exports.lock_requests(session)
    labels = body.labels or sorted(
        version.labels, key=lambda name: (version.labels[name] is None, version.labels[name], name)
    )
    versions.find_decoders(session, row, version, labels)
    plan = ExportPlan(labels, body.count, body.seed or 0, body.shard_images)
    _refuse_too_large(plan)
    _require_room(session, context, body.format, plan)
    return row, version, plan


def _refuse_too_large(plan: ExportPlan) -> None:
    if not plan.labels:
        raise InvalidRequest(Violation("/labels", "required", "the version holds no label; name another one"))
    if plan.images > MAX_IMAGES:
        detail = f"{plan.images:,} images are more than the {MAX_IMAGES:,} of an export; make several"
        raise InvalidRequest(Violation("/count", "output_too_large", detail))
    if plan.shards > MAX_SHARDS:
        detail = f"{plan.shards:,} shards are more than the {MAX_SHARDS:,} of an export; make them larger"
        raise InvalidRequest(Violation("/shard_images", "output_too_large", detail))


def _require_room(session: Session, context: ApiContext, format: str, plan: ExportPlan) -> None:
    """Raise StorageFull or ExportQuotaExceeded if there is no room for the export."""
    needed = estimate_bytes(format, plan)
    unfinished = sum(
        estimate_bytes(row.format, exports.plan_of(row))
        for row in exports.find_all_unfinished(session, project=context.project)
    )
    used = exports.count_bytes(session, project=context.project) + unfinished
    if used + needed > context.settings.max_export_bytes:
        raise ExportQuotaExceeded(needed, used, context.settings.max_export_bytes)
    if context.artifacts.store.is_bucket:
        return
    free = context.disk.call(measure_free_bytes, context.settings.artifacts) - context.settings.reserve_bytes
    free -= sum(
        max(0, estimate_bytes(row.format, exports.plan_of(row)) - row.bytes_done)
        for row in exports.find_all_unfinished(session)
    )
    if needed > free:
        raise StorageFull(
            f"the export needs about {needed / MEBIBYTE:,.0f} MiB, and the disk of the artifacts has "
            f"{max(free, 0) / MEBIBYTE:,.0f} MiB free besides the reserve and what unfinished exports need"
        )


def _answer(session: Session, export_id: str, context: ApiContext, response: Response) -> ExportObject:
    with unless_gone("export", export_id):
        found = describe_export(session, exports.find(session, export_id, project=context.project))
    response.headers["Location"] = found.links["self"]
    if not found.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return found
