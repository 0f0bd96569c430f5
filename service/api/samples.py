"""Samples: draw images in the request itself, and record how, so that they can be drawn again.

The head is a model's newest version. A version that holds a label forgotten since is revoked: the service
refuses to draw from it. A purged version has lost its files, too.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.drawing import DRAWING_ERRORS, draw, find_again, refuse_revoked
from service.api.error_kinds import RESOURCE_GONE
from service.api.idempotency import Idempotency, Idempotent, unless_gone
from service.api.lookup import VERSION_ERRORS, find_filter, find_model, find_version
from service.api.paging import CURSOR_RULE, Listing, Page, build_listing, parse_id
from service.api.refusals import refuses
from service.api.responses import BINARY, VERSION_HEADER
from service.api.route import Route
from service.api.space import find_lack
from service.drawing.images import Pixels, labelled_grid, npz, png, webp
from service.registry import samples, versions
from service.registry.errors import DatabaseFull, IdempotencyInFlight, UnknownSample
from service.registry.samples import SampleFilter
from service.registry.tables import ModelRow, SampleRow, VersionRow
from service.registry.versions import LabelDecoder
from service.requests.fields import (
    HEAD,
    SAMPLE_ID,
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

router = APIRouter(tags=["samples"], route_class=Route)

MEDIA_TYPES = {
    "png_grid": "image/png",
    "png": "image/png",
    "webp": "image/webp",
    "npz": "application/octet-stream",
    "b64_json": "application/json",
}
MAX_IMAGES = 2_000
MAX_GRID_COLUMNS = 50
GRIDS: Mapping[str, Callable[[Pixels], bytes]] = {"png_grid": partial(png, is_enlarged=True), "webp": webp}
"""The formats that are one picture with a row for each label, and what encodes them."""


def _check_format(name: object) -> object:
    if not isinstance(name, str) or name not in MEDIA_TYPES:
        raise PydanticCustomError("unsupported_format", f"the format must be one of {', '.join(MEDIA_TYPES)}")
    return name


class CreateSample(Body):
    """Images to draw: `count` of every label, with the seeds `seed`, `seed` + 1, ..."""

    labels: Labels
    count: int = Field(
        1,
        ge=1,
        le=10_000,
        json_schema_extra={"maximum": MAX_IMAGES},
        description=f"The number of images of each label. Together the labels may have {MAX_IMAGES:,}; "
        f"the formats `png_grid` and `webp` hold at most {MAX_GRID_COLUMNS} of a label, and `png` one image "
        "in all.",
    )
    seed: Seed | None = Field(None, description="If it is left out, a random seed is chosen and recorded.")
    version: VersionReference | None = Field(
        None, description="Its number or an alias. The head if it is left out."
    )
    format: Annotated[
        Literal["png_grid", "png", "webp", "npz", "b64_json"], BeforeValidator(_check_format)
    ] = Field(
        "png_grid",
        description="`png_grid` is one PNG with a row for each label, and `webp` the same pixels as lossless "
        "WebP; `png` is one image; `npz` holds arrays for NumPy, and `b64_json` a PNG of each image.",
    )


class SampleObject(BaseModel):
    """The record of a sample: everything needed to draw exactly the same pixels again."""

    id: str | None = Field(description="Null if it was not recorded, because the disk has no space for it.")
    object: Literal["sample"] = "sample"
    model: str
    version: int
    labels: list[str]
    count: int
    seed: int
    format: str
    created_at: datetime | None
    links: dict[str, str]


class SampleImage(BaseModel):
    """An image of a sample in the format `b64_json`."""

    label: str
    seed: int
    b64_json: str = Field(description="The PNG, in base64.")


class SampleWithImages(SampleObject):
    """A sample with its images, in the format `b64_json`."""

    data: list[SampleImage]


IMAGES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The images, in the requested format.",
        "model": SampleWithImages,
        "content": {media: BINARY for media in MEDIA_TYPES.values() if media != "application/json"},
    }
}


@router.post(
    "/v1/models/{model}/samples",
    response_class=Response,
    responses=IMAGES,
)
@requires("sample")
@refuses(
    *DRAWING_ERRORS,
    RESOURCE_GONE,
    invalid_name=VERSION_RULE,
    unsupported_format="there is no such `format`",
    output_too_large="more images than `count` allows for the format",
)
async def create_sample(
    model: str, body: CreateSample, request: Request, context: Context, once: Idempotent
) -> Response:
    """Draw images of labels that the model holds.

    The sample is recorded, and its id is in the X-Sample-Id header of the answer. If the disk has no space
    for the record, the images are answered without that header, and with `X-Sample-Recorded: false`.
    """
    refuse_duplicates(body.labels)
    _refuse_too_many(body)
    source = await context.database_threads.read(_find_source, context, model, body, once)
    if isinstance(source, SampleObject):
        sample = str(source.id)
        with unless_gone("sample", sample):
            return await _answer_recorded(sample, request, context, _new_sample_headers(source))
    seed = secrets.randbelow(2**32) if body.seed is None else body.seed
    drawn = await draw(request, context, *source, range(seed, seed + body.count))
    record = await context.database_threads.change(_record, context, source, body, seed, once)
    answer = await context.drawing.run(_answer, record, drawn, _new_sample_headers(record))
    await refuse_revoked(context, *source)
    return answer


class SamplesPage(Page):
    """Which samples are listed."""

    model: ResourceName | None = Field(None, description="Only samples of the model of this name or id.")
    version: VersionReferenceText | None = Field(
        None, description="Only samples of this version of the model: its number, an alias, or `head`."
    )
    label: LabelName | None = Field(None, description="Only samples with images of this label.")


@router.get("/v1/samples")
@requires("read")
@refuses(
    *VERSION_ERRORS,
    invalid_cursor=CURSOR_RULE,
    invalid_name=VERSION_RULE,
    required="`version` needs `model`, whose version it is",
)
def list_samples(
    page: Annotated[SamplesPage, Query()], request: Request, response: Response, context: Context
) -> Listing[SampleObject]:
    """List the recorded samples, newest first. Those of deleted models are left out."""
    with context.database.reading() as session:
        found = find_filter(session, context.project, page.model, page.version)
        only = SampleFilter(*found, page.label)
        rows, has_more = samples.page(
            session, project=context.project, only=only, limit=page.limit, after=parse_id(page.after, "smp")
        )
        data = [_describe_sample(row) for row in rows]
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/v1/samples/{sample}")
@requires("read")
@refuses(UnknownSample)
def get_sample(sample: str, context: Context) -> SampleObject:
    """Read the record of a sample."""
    with context.database.reading() as session:
        return _describe_sample(_find_sample(session, context.project, sample))


@router.delete("/v1/samples/{sample}", status_code=204)
@requires("forget")
@refuses(UnknownSample)
def delete_sample(sample: str, context: Context) -> None:
    """Delete the record of a sample. Its images can be drawn again only by a new request."""
    with context.database.transaction() as session:
        row = _find_sample(session, context.project, sample)
        samples.remove(session, row)
        context.append_to_audit_log(session, "sample.delete", sample, model=row.model_id)


@router.get("/v1/samples/{sample}/images", response_class=Response, responses=IMAGES)
@requires("sample")
@refuses(
    UnknownSample,
    *DRAWING_ERRORS,
)
async def get_sample_images(sample: str, request: Request, context: Context) -> Response:
    """Draw the images of a sample again, with exactly the same pixels.

    If their version has been revoked, the answer is 410.
    """
    return await _answer_recorded(sample, request, context, {})


class _Source(NamedTuple):
    """What images are drawn with."""

    model: ModelRow
    version: VersionRow
    decoders: Mapping[str, LabelDecoder]


def _find_source(
    context: ApiContext, model: str, body: CreateSample, once: Idempotency
) -> _Source | SampleObject:
    """Return what to draw with; or, for a repeated request, the sample that was recorded for it."""
    with context.database.reading() as session:
        if answered := once.find(session):
            with unless_gone("sample", answered.resource_id):
                return _describe_sample(_find_sample(session, context.project, answered.resource_id))
        row, version = _find_version(session, context.project, model, body.version)
        return _Source(row, version, versions.find_decoders(session, row, version, body.labels))


def _record(
    context: ApiContext, source: _Source, body: CreateSample, seed: int, once: Idempotency
) -> SampleObject:
    """Record the sample. If there is no space for it, return it without an id.

    A request with an idempotency key is refused then, because it could not be answered again.
    """
    if once.key:
        return _record_in_database(context, source, body, seed, once)
    if find_lack(context) is None:  # the reserve is for forget requests
        with suppress(DatabaseFull):
            return _record_in_database(context, source, body, seed, once)
    with context.database.reading() as session:
        row, version = find_again(session, source.model, source.version, body.labels)
    return _describe_unrecorded(row, version, body, seed)


def _record_in_database(
    context: ApiContext, source: _Source, body: CreateSample, seed: int, once: Idempotency
) -> SampleObject:
    with context.database.transaction() as session:
        if once.begin(session):  # another process has answered the same request meanwhile
            raise IdempotencyInFlight(once.key)
        row, version = find_again(session, source.model, source.version, body.labels)
        sample = samples.record(
            session, row, version, labels=body.labels, count=body.count, seed=seed, format=body.format
        )
        once.record(session, 200, sample.id)
        return _describe_sample(sample)


async def _answer_recorded(
    sample: str, request: Request, context: ApiContext, headers: Mapping[str, str]
) -> Response:
    """Draw the images of a recorded sample again."""
    record, source = await context.database_threads.read(_find_recorded, context, sample)
    drawn = await draw(request, context, *source, range(record.seed, record.seed + record.count))
    answer = await context.drawing.run(_answer, record, drawn, headers)
    await refuse_revoked(context, *source)
    return answer


def _find_recorded(context: ApiContext, sample: str) -> tuple[SampleObject, _Source]:
    with context.database.reading() as session:
        record = _describe_sample(_find_sample(session, context.project, sample))
        row, version = _find_version(session, context.project, record.model, record.version)
        return record, _Source(row, version, versions.find_decoders(session, row, version, record.labels))


def _new_sample_headers(record: SampleObject) -> dict[str, str]:
    location = {"Location": record.links["self"]} if record.id else {}
    return {**location, "Cache-Control": "no-store"}


def _find_version(
    session: Session, project: str, model: str, named: int | str | None
) -> tuple[ModelRow, VersionRow]:
    row = find_model(session, project, model)
    return row, find_version(session, row, named or HEAD)


def _find_sample(session: Session, project: str, sample_id: str) -> SampleRow:
    if not SAMPLE_ID.fullmatch(sample_id):
        raise UnknownSample(sample_id)
    return samples.find(session, sample_id, project=project)


def _answer(record: SampleObject, drawn: Mapping[str, Pixels], headers: Mapping[str, str]) -> Response:
    return Response(
        _encode(record, drawn),
        headers={
            **headers,
            **({"X-Sample-Id": record.id} if record.id else {"X-Sample-Recorded": "false"}),
            VERSION_HEADER: str(record.version),
        },
        media_type=MEDIA_TYPES[record.format],
    )


def _encode(record: SampleObject, drawn: Mapping[str, Pixels]) -> bytes:
    images_with_seeds = [
        (label, record.seed + i, image) for label, images in drawn.items() for i, image in enumerate(images)
    ]
    if record.format in GRIDS:
        return GRIDS[record.format](labelled_grid(drawn))
    if record.format == "png":
        return png(images_with_seeds[0][2])
    if record.format == "npz":
        return npz(
            [image for *_, image in images_with_seeds],
            [label for label, *_ in images_with_seeds],
            [seed for _, seed, _ in images_with_seeds],
        )
    data = [
        {"label": label, "seed": seed, "b64_json": base64.b64encode(png(image)).decode("ascii")}
        for label, seed, image in images_with_seeds
    ]
    return json.dumps({**record.model_dump(mode="json"), "data": data}).encode()


def _describe_sample(row: SampleRow) -> SampleObject:
    address = f"/v1/samples/{row.id}"
    return SampleObject(
        id=row.id,
        model=row.model_id,
        version=row.version,
        labels=row.labels,
        count=row.count,
        seed=row.seed,
        format=row.format,
        created_at=row.created_at,
        links={"self": address, "images": f"{address}/images", "model": f"/v1/models/{row.model_id}"},
    )


def _describe_unrecorded(model: ModelRow, version: VersionRow, body: CreateSample, seed: int) -> SampleObject:
    return SampleObject(
        id=None,
        model=model.id,
        version=version.number,
        labels=body.labels,
        count=body.count,
        seed=seed,
        format=body.format,
        created_at=None,
        links={"model": f"/v1/models/{model.id}"},
    )


def _refuse_too_many(body: CreateSample) -> None:
    images = body.count * len(body.labels)
    if body.format == "png" and images != 1:
        detail = (
            f"the format png holds one image, not {images}; request one label and count 1, or use png_grid "
            "or webp"
        )
        raise InvalidRequest(Violation("/count", "output_too_large", detail))
    if body.format in GRIDS and body.count > MAX_GRID_COLUMNS:
        detail = (
            f"a grid has at most {MAX_GRID_COLUMNS} images of a label, not {body.count}; use npz for more"
        )
        raise InvalidRequest(Violation("/count", "output_too_large", detail))
    if images > MAX_IMAGES:
        detail = (
            f"{images} images are more than the {MAX_IMAGES} allowed in one answer; request fewer at a time, "
            "or an export (POST /v1/models/{model}/exports)"
        )
        raise InvalidRequest(Violation("/count", "output_too_large", detail))
