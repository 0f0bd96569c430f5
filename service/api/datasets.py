"""/v1/datasets: list the datasets that a model can learn from, and upload new ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.clients import sharing_client
from service.api.context import ApiContext, Context
from service.api.dataset_uploads import Previews, UploadOptions, store
from service.api.error_kinds import (
    CONCURRENCY_LIMITED,
    DATASET_BUILT_IN,
    INVALID_DIGEST,
    UNSAFE_SERIALIZATION,
    UNSUPPORTED_MEDIA_TYPE,
)
from service.api.examples import is_viewable
from service.api.idempotency import Idempotency, Idempotent
from service.api.paging import CURSOR_RULE, Listing, LongPage, build_listing, parse_name
from service.api.problems import Problem
from service.api.refusals import refuses
from service.api.route import Route
from service.api.upload_body import received
from service.registry import dataset_deletions
from service.registry.errors import (
    DatasetExists,
    DatasetInUse,
    QuotaExceeded,
    UnknownDataset,
    UnknownDatasetLabel,
)
from service.requests.catalog import DatasetEntry, FromPackage, NoteEntry
from service.requests.fields import NAME, NAME_RULE
from service.requests.invalid_upload import UPLOAD_RULES
from service.requests.violations import InvalidRequest, Violation

router = APIRouter(prefix="/v1/datasets", tags=["catalog"], route_class=Route)

ARCHIVE_MEDIA_TYPES = ("application/zip", "application/x-zip-compressed", "application/octet-stream", "")

STORE_SECONDS = 300.0
"""How long an upload may take to unpack and store once it has been received, before its disk counts as hung.
Where it is stored after that, the same upload again is answered with 200."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Send an npz file of two arrays, `images` (uint8 [n, 28, 28] or [n, 784], bright ink "
        "on black) and `labels` (text or integers, [n]); or a zip file of 28x28 PNG or JPEG files named "
        "LABEL/NAME.png. Other usual forms are converted, and `conversions` of the answer say how: other "
        "names, types, ranges and axes of arrays, one-hot labels, folders around, colours. With `x_train`, "
        "`y_train`, `x_test` and `y_test`, or folders train/LABEL and test/LABEL, the test images are those "
        "of the file.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class DatasetObject(BaseModel):
    """A set of labelled images to learn from. `bundled` is true if it needs no download."""

    object: Literal["dataset"] = "dataset"
    name: str
    title: str
    labels: list[str]
    image_shape: tuple[int, int]
    bundled: bool
    images: dict[str, int] | None = Field(
        description="How many images each label has; null if the dataset comes with the service."
    )
    test_images: dict[str, int] | None = Field(
        description="How many images of each label are held out for testing, and never learned from: those "
        "of the uploaded file's own test part, or every fifth; null if the dataset comes with the service."
    )
    deleted_labels: list[str] = Field(description="Labels whose images were deleted.")
    conversions: list[NoteEntry] = Field(
        description="How the uploaded file was read, where it was not in the documented form."
    )
    warnings: list[NoteEntry] = Field(description="What looks wrong with the uploaded images.")
    sha256: str | None = Field(
        description="The sha256 of the pixels, as they are stored. Deleting images changes it."
    )
    sent_sha256: str | None = Field(description="The sha256 of the file that was uploaded.")
    previews: Previews
    viewable: bool = Field(description="Whether `/labels/{label}/examples/{index}.png` shows images of it.")
    package: FromPackage


@router.get("")
@requires("read")
@refuses(invalid_cursor=CURSOR_RULE)
def list_datasets(
    page: Annotated[LongPage, Query()], request: Request, response: Response, context: Context
) -> Listing[DatasetObject]:
    """List the datasets, uploaded ones last, in the order of their names."""
    after = parse_name(page.after, NAME)
    with context.database.reading() as session:
        following = _after(after, context.find_catalog(session).datasets)
        data = [_describe_dataset(entry, context) for entry in following[: page.limit]]
    has_more = len(following) > page.limit
    return build_listing(
        request, response.headers, data, has_more=has_more, last=data[-1].name if data else None
    )


@router.get("/{dataset}")
@requires("read")
@refuses(UnknownDataset)
def get_dataset(dataset: str, context: Context) -> DatasetObject:
    """Read one dataset."""
    return _find_dataset(dataset, context)


@router.put(
    "/{dataset}",
    status_code=201,
    openapi_extra=_BODY,
    responses={
        200: {
            "model": DatasetObject,
            "description": "The same images have been uploaded under this name before.",
        },
    },
)
@requires("learn")
@refuses(
    DatasetExists,
    QuotaExceeded,
    CONCURRENCY_LIMITED,
    INVALID_DIGEST,
    UNSAFE_SERIALIZATION,
    **UPLOAD_RULES,
)
async def put_dataset(
    dataset: str,
    options: Annotated[UploadOptions, Query()],
    request: Request,
    response: Response,
    context: Context,
) -> DatasetObject:
    """Upload images to learn from.

    The status is 201 for a new dataset, and 200 if the same images have been uploaded under this name
    before. Uploading other images under a name that is taken is refused with 409. `warnings` say what looks
    wrong with the images, and stay with the dataset.

    With `dry_run=true` status and answer are the same, nothing is kept, and `previews` shows the images.
    """
    if not NAME.fullmatch(dataset):
        raise InvalidRequest(Violation("/path/dataset", "invalid_name", f"the name of a dataset {NAME_RULE}"))
    if any(entry.name == dataset for entry in context.catalog.datasets):
        raise DatasetExists(dataset, "which comes with the service")
    await context.database_threads.read(_refuse_name_of_package, dataset, context)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ARCHIVE_MEDIA_TYPES:
        detail = f"The Content-Type of the body is {media_type}; send an npz or a zip as application/zip."
        raise Problem(UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept": "application/zip"})
    with context.uploads.admit(sharing_client(request, context)):
        async with received(
            request,
            context.settings.scratch,  # the disk of the artifacts, which may be another one
            max_bytes=context.settings.max_upload_bytes,
            disk=context.disk,
        ) as packed:
            answer = await context.uploads.run_within(STORE_SECONDS, store, dataset, packed, options, context)
    response.status_code = 201 if answer.is_new else 200
    if answer.preview is not None:
        entry, previews = answer.preview
        return _describe_dataset(entry, context, previews)
    response.headers["Location"] = f"/v1/datasets/{dataset}"
    return await context.database_threads.read(_find_dataset, dataset, context)


@router.delete("/{dataset}", status_code=204)
@requires("forget")
@refuses(UnknownDataset, DatasetInUse, DATASET_BUILT_IN)
def delete_dataset(dataset: str, context: Context, once: Idempotent) -> None:
    """Delete an uploaded dataset. Models keep what they have learned from it.

    A dataset that an unfinished job may need is not deleted (409 `dataset_in_use`). It cannot be learned from
    the answer on. Its file is deleted seconds later, or when the last job that reads it has ended.
    """
    with _deleting(dataset, context, once) as session:
        if session is not None:
            deletion = dataset_deletions.delete_dataset(session, dataset, project=context.project)
            once.record(session, 204, deletion.id)
            context.append_to_audit_log(session, "dataset.delete", dataset, labels=list(deletion.labels))


@router.delete("/{dataset}/labels/{label}", status_code=204)
@requires("forget")
@refuses(UnknownDataset, UnknownDatasetLabel, DatasetInUse, DATASET_BUILT_IN)
def delete_label(dataset: str, label: str, context: Context, once: Idempotent) -> None:
    """Delete the images of a label, those for testing included, from an uploaded dataset.

    Models keep what they have learned from them; with the last label, the dataset is deleted. The images
    cannot be learned from the answer on, and are deleted as those of a whole dataset are. An unfinished job
    that may need them is a reason to refuse (409 `dataset_in_use`), and so is a dataset that comes with the
    service (409 `dataset_built_in`).
    """
    with _deleting(dataset, context, once) as session:
        if session is not None:
            deletion = dataset_deletions.delete_label(session, dataset, label, project=context.project)
            once.record(session, 204, deletion.id)
            context.append_to_audit_log(
                session, "dataset.label.delete", dataset, label=label, images=deletion.labels[label]
            )


@contextmanager
def _deleting(dataset: str, context: ApiContext, once: Idempotency) -> Iterator[Session | None]:
    """Yield a transaction to delete images of an upload; None if the request was answered before."""
    if any(entry.name == dataset for entry in context.catalog.datasets):
        detail = f"The dataset {dataset} comes with the service. Its images cannot be deleted."
        raise Problem(DATASET_BUILT_IN, detail)
    if not NAME.fullmatch(dataset):
        raise UnknownDataset(dataset)
    with context.database.transaction() as session:
        yield None if once.begin(session) else session


def _refuse_name_of_package(name: str, context: ApiContext) -> None:
    with context.database.reading() as session:
        entries = context.find_catalog(session).datasets
    package = next((entry.package for entry in entries if entry.name == name), None)
    if package is not None:
        raise DatasetExists(name, f"which comes with the package {package.name}")


def _after(cursor: str | None, entries: Sequence[DatasetEntry]) -> Sequence[DatasetEntry]:
    """Return the entries that follow the one of that name; all of them if it is None.

    A name that is in the list no more was that of an uploaded dataset.
    """
    if cursor is None:
        return entries
    names = [entry.name for entry in entries]
    if cursor in names:
        return entries[names.index(cursor) + 1 :]
    return [entry for entry in entries if entry.images is not None and entry.name > cursor]


def _find_dataset(name: str, context: ApiContext) -> DatasetObject:
    with context.database.reading() as session:
        entries = context.find_catalog(session).datasets
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        raise UnknownDataset(name)
    return _describe_dataset(entry, context)


def _describe_dataset(
    entry: DatasetEntry, context: ApiContext, previews: dict[str, str] | None = None
) -> DatasetObject:
    known = {**entry.model_dump(), "viewable": is_viewable(entry, context), "previews": previews}
    return DatasetObject.model_validate(known)
