"""What endpoints share: the instance they serve, path names -> rows or 404, paging, keyset lists."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from service.api.problems import Problem
from service.drawing.decoders import Generator
from service.registry import datasets, labels, models, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import ArtifactMissing, UnknownModel
from service.registry.tables import DatasetRow, ModelRow, VersionRow
from service.requests.catalog import Catalog, DatasetEntry, InvalidRequest, Violation
from service.settings import Settings

Item = TypeVar("Item")

IMAGE_SHAPE = (28, 28)
"""Of every dataset that can be uploaded."""

MAX_SEED = 2**53 - 1
"""Seeds are integers every JSON reader keeps exact (RFC 7493)."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]


def _at_least_one(asked: object) -> object:
    if asked == []:
        raise PydanticCustomError("required", "name at least one label")
    return asked


def _label_name(name: str) -> str:
    if not re.fullmatch(labels.NAME, name):
        raise PydanticCustomError("invalid_name", "a label is 1 to 64 printable characters without a slash")
    return name


LabelName = Annotated[str, AfterValidator(_label_name)]

Labels = Annotated[
    list[LabelName],
    Field(max_length=100, json_schema_extra={"minItems": 1, "uniqueItems": True}),
    BeforeValidator(_at_least_one),
]


@dataclass(frozen=True)
class Instance:
    """Everything one API process serves from; built once by `create_app`."""

    settings: Settings
    database: Database
    artifacts: FolderArtifacts
    generator: Generator
    catalog: Catalog
    wake: Callable[[str], object]


async def _instance(request: Request) -> Instance:
    instance: Instance = request.app.state.instance
    return instance


Here = Annotated[Instance, Depends(_instance)]


class Body(BaseModel):
    """Base of every request body: a field it does not have is refused, and a frozen value is passed on."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Acceptance(Body):
    """What a candidate must reach to be published; frozen with its job. A share of 1,000 draws a label."""

    retained_accuracy_min: float | None = Field(None, ge=0, le=1, description="of all labels held together")
    worst_retained_accuracy_min: float | None = Field(None, ge=0, le=1, description="of each label held")
    forgotten_accuracy_max: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of each forgotten label, whenever it was forgotten. What a forget job is accepted with "
        "holds for its labels in every later job of the model",
    )


def _cursor(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,64}", text):
        raise PydanticCustomError("invalid_cursor", "pass the `next` of the last page")
    return text


class Page(BaseModel):
    """`?limit=&after=`: how many, and after which item of the last page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="how many items")
    after: Annotated[str, BeforeValidator(_cursor)] | None = Field(None, description="the last `next`")


PageQuery = Annotated[Page, Query()]


class Listing(BaseModel, Generic[Item]):
    """One page of a list; `next` is the cursor of the page after it."""

    object: Literal["list"] = "list"
    data: Sequence[Item]
    has_more: bool
    next: str | None


def listing(
    request: Request, response: Response, data: Sequence[Item], *, has_more: bool, last: str | None
) -> Listing[Item]:
    """The page as an answer, with the Link to the next one (RFC 8288). `last`: the last item's cursor."""
    following = last if has_more else None
    if following is not None:
        query = {**request.query_params, "after": following}
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return Listing(data=data, has_more=has_more, next=following)


def unknown_cursor() -> InvalidRequest:
    """For an `after` that could be a cursor, but of another list."""
    return InvalidRequest(Violation("/query/after", "invalid_cursor", "pass the `next` of the last page"))


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a model may be called: fits a path, a file name and a shell without quoting."""


def find_model(session: Session, name_or_id: str) -> ModelRow:
    """The model of that name or id; UnknownModel also for what could never be a name."""
    if not NAME.fullmatch(name_or_id):
        raise UnknownModel(name_or_id)
    return models.find(session, name_or_id)


def find_version(session: Session, model: ModelRow, path_part: str) -> VersionRow:
    """The version of that number, as written in a path; a 404 too for what could never be one."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", path_part):
        raise Problem(404, "version_not_found", "A version is named by its number, 1 or more.")
    return versions.find(session, model, int(path_part))


@contextmanager
def unless_purged(here: Instance, model: ModelRow, version: VersionRow) -> Iterator[None]:
    """For reading a version's files after its row: what was deleted in between is a 410, as from then on."""
    try:
        yield
    except ArtifactMissing:
        with here.database.reading() as session:
            versions.check_open(model, versions.find(session, model, version.number))
        raise


def refuse_duplicates(asked: Sequence[str]) -> None:
    """InvalidRequest pointing at every label named a second time."""
    repeated = [i for i, label in enumerate(asked) if label in asked[:i]]
    if repeated:
        raise InvalidRequest(
            *(Violation(f"/labels/{i}", "duplicate_item", f"{asked[i]!r} is named twice") for i in repeated)
        )


def offered(session: Session, here: Instance) -> Catalog:
    """What a request may name: the catalog, and the datasets that were uploaded."""
    return here.catalog.including([_entry(row) for row in datasets.every(session)])


def _entry(row: DatasetRow) -> DatasetEntry:
    return DatasetEntry(
        name=row.name,
        title=f"Uploaded: {sum(row.images.values()):,} images",
        labels=tuple(row.images),
        image_shape=IMAGE_SHAPE,
        bundled=True,
    )
