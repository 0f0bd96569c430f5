"""The fields that request bodies share. Each refuses a malformed value with a stable error code."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.registry import labels
from service.requests.violations import InvalidRequest, Violation

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps exact (RFC 7493)."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]

VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a model or a dataset may be called: it fits a path, a file name and a shell without quoting."""

NAME_RULE = "1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit"


class Body(BaseModel):
    """Base of every request body: it refuses unknown fields, and never changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _check_label_name(name: str) -> str:
    if not re.fullmatch(labels.NAME, name):
        raise PydanticCustomError("invalid_name", "a label is 1 to 64 printable characters without a slash")
    return name


LabelName = Annotated[str, AfterValidator(_check_label_name)]


def _check_not_empty(value: object) -> object:
    if value == []:
        raise PydanticCustomError("required", "name at least one label")
    return value


Labels = Annotated[
    list[LabelName],
    Field(max_length=100, json_schema_extra={"minItems": 1, "uniqueItems": True}),
    BeforeValidator(_check_not_empty),
]


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise InvalidRequest that points at every label which is named a second time."""
    repeated = [i for i, name in enumerate(names) if name in names[:i]]
    if repeated:
        raise InvalidRequest(
            *(Violation(f"/labels/{i}", "duplicate_item", f"{names[i]!r} is named twice") for i in repeated)
        )


class Acceptance(Body):
    """The criteria that a candidate must meet to be published. They are frozen with the job.

    Each is a share of 1,000 draws of a label that the judge recognises.
    """

    retained_accuracy_min: float | None = Field(
        None, ge=0, le=1, description="of all retained labels together"
    )
    worst_retained_accuracy_min: float | None = Field(None, ge=0, le=1, description="of each retained label")
    forgotten_accuracy_max: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of each forgotten label, whenever it was forgotten. The bound a forget job is accepted "
        "with holds for its labels in every later job of the model",
    )
