"""GET .../examples/{index}.png: images of a dataset, so that people see what a model can learn."""

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.access import requires
from service.api.clients import sharing_client
from service.api.context import ApiContext, Context
from service.api.error_kinds import (
    CONCURRENCY_LIMITED,
    DATASET_UNREADABLE,
    EXAMPLE_NOT_FOUND,
    IMAGES_GONE,
    kind_of,
)
from service.api.grids import TOO_LARGE, Arrangement
from service.api.problems import Problem
from service.api.refusals import READS_FILES, refuses
from service.api.responses import PNG, PngResponse
from service.api.route import FOR_ONE_CLIENT, Route, not_modified
from service.drawing import examples
from service.drawing.images import Pixels
from service.registry import datasets
from service.registry.datasets import IMAGE_BYTES
from service.registry.errors import ArtifactMissing, UnknownDataset, UnknownDatasetLabel
from service.requests.catalog import DatasetEntry
from service.requests.fields import LABEL_RULE, LabelName

router = APIRouter(
    prefix="/v1/datasets/{dataset}/labels/{label}/examples", tags=["catalog"], route_class=Route
)

MAX_INDEX = 2**31 - 1

Read = Callable[[int, int], tuple[Pixels, int]]
"""(first, how many) -> (images, how many the label has)."""


@router.get(
    "/{index}.png",
    response_class=PngResponse,
    responses=PNG,
)
@requires("sample")
@refuses(
    UnknownDataset,
    UnknownDatasetLabel,
    EXAMPLE_NOT_FOUND,
    IMAGES_GONE,
    CONCURRENCY_LIMITED,
    DATASET_UNREADABLE,
    *READS_FILES,
    invalid_name=LABEL_RULE,
    output_too_large=TOO_LARGE,
)
async def get_example(
    dataset: str,
    label: LabelName,
    index: Annotated[int, Path(ge=0, le=MAX_INDEX)],
    arrangement: Annotated[Arrangement, Query()],
    request: Request,
    context: Context,
) -> Response:
    """Show an image of a label in a dataset, or a grid of them that begins with it.

    Of an uploaded dataset these are all images of the label, in their order. A dataset that comes with the
    service shows a few of them, or, once the worker has downloaded it to the data folder, those to train
    with. A grid is filled up with black images. After the images of the label were deleted, the answer
    is 410, and every cache has to ask before it uses an image again.
    """
    arrangement.refuse_too_large()
    source, read = await context.database_threads.read(_find_source, context, dataset, label)
    identity = f"{source}/{label}/{index}/{arrangement.scale}/{arrangement.grid}"
    headers = {
        "Cache-Control": FOR_ONE_CLIENT,
        "ETag": f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"',
    }
    with context.drawing.admit(sharing_client(request, context)):
        try:
            images, total = await context.drawing.run(read, index, arrangement.count)
        except ArtifactMissing:  # images of another label were deleted just now, and the rest was moved
            _, read = await context.database_threads.read(_find_source, context, dataset, label)
            images, total = await context.drawing.run(read, index, arrangement.count)
        if index >= total:
            detail = f"There are {total:,} images of {label!r} here, numbered from 0."
            raise Problem(EXAMPLE_NOT_FOUND, detail)
        if unchanged := not_modified(request, headers):
            return unchanged
        content = await context.drawing.run(_encode, images, arrangement)
    return PngResponse(content, headers=headers)


def is_viewable(entry: DatasetEntry, context: ApiContext) -> bool:
    """Whether images of the dataset can be shown here."""
    if entry.images is not None or examples.has_sheet(entry.name):
        return True
    if entry.files is None:
        return False
    paths = [context.settings.data / name for name in (entry.files.images, entry.files.targets)]
    try:
        return context.disk.call(lambda: all(path.is_file() for path in paths))
    except OSError:
        return False


def _find_source(context: ApiContext, name: str, label: str) -> tuple[str, Read]:
    """Return what identifies the images of a label, and the function that reads some of them."""
    with context.database.reading() as session:
        entries = context.find_catalog(session).datasets
        entry = next((one for one in entries if one.name == name), None)
        if entry is None:
            raise UnknownDataset(name)
        if label in entry.deleted_labels:
            raise Problem(IMAGES_GONE, f"The images of {label!r} in {name} were deleted.")
        if label not in entry.labels:
            raise Problem(kind_of(UnknownDatasetLabel), f"The dataset {name} has no label {label!r}.")
        row = datasets.find(session, name, project=context.project) if entry.images is not None else None
        if row is not None:
            return f"{row.sha256}/{label}", _reader_of_upload(
                context, row.sha256, row.stored or row.images, label
            )
    if examples.has_sheet(name):
        row_number = entry.labels.index(label)
        return f"sheet/{name}", lambda first, count: examples.read_sheet(
            name, row_number, first=first, count=count
        )
    return f"files/{name}", _reader_of_files(context, entry, label)


def _reader_of_upload(context: ApiContext, sha256: str, stored: dict[str, int], label: str) -> Read:
    labels = list(stored)
    before = sum(stored[one] for one in labels[: labels.index(label)])

    def read(first: int, count: int) -> tuple[Pixels, int]:
        count = max(0, min(count, stored[label] - first))
        pixels = context.artifacts.read_part(sha256, (before + first) * IMAGE_BYTES, count * IMAGE_BYTES)
        return examples.split_bytes(pixels), stored[label]

    return read


def _reader_of_files(context: ApiContext, entry: DatasetEntry, label: str) -> Read:
    files = entry.files
    if entry.package is not None:
        detail = f"The images of {entry.name} come with the package {entry.package.name}, which workers have."
        raise Problem(EXAMPLE_NOT_FOUND, detail)
    if files is None or not is_viewable(entry, context):
        detail = (
            f"The images of {entry.name} are not in the data folder of this service. A worker downloads them "
            "when a model first learns from them."
        )
        raise Problem(EXAMPLE_NOT_FOUND, detail)
    folder = context.settings.data
    target = files.first_target + entry.labels.index(label)

    def read(first: int, count: int) -> tuple[Pixels, int]:
        try:
            return context.disk.call(
                lambda: examples.read_idx(
                    folder / files.images,
                    folder / files.targets,
                    target=target,
                    transposed=files.transposed,
                    first=first,
                    count=count,
                )
            )
        except (OSError, ValueError) as error:
            detail = (
                f"The files of {entry.name} in the data folder cannot be read; `palimpsest doctor` checks it."
            )
            raise Problem(DATASET_UNREADABLE, detail) from error

    return read


def _encode(images: Pixels, arrangement: Arrangement) -> bytes:
    return arrangement.encode(examples.fill(images, arrangement.count))
