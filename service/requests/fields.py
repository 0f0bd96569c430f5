"""Types of fields that several request bodies share. A malformed value has a stable error code."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.registry import labels
from service.requests.violations import InvalidRequest, Violation

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON parser reads exactly (RFC 7493)."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]

VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of models and datasets. They need no quoting in a path, as a file name or in a shell."""

NAME_RULE = "has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or a digit"


def check_resource_name(name: str) -> str:
    """Return the name. Raises PydanticCustomError if NAME_RULE forbids it."""
    if not NAME.fullmatch(name):
        raise PydanticCustomError("invalid_name", f"a name {NAME_RULE}")
    return name


class Body(BaseModel):
    """The base class of every request body. It refuses unknown fields, and it is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _check_label_name(name: str) -> str:
    if not re.fullmatch(labels.NAME, name):
        raise PydanticCustomError("invalid_name", labels.RULE)
    return name


LabelName = Annotated[str, AfterValidator(_check_label_name)]


def _check_not_empty(value: object) -> object:
    if value == []:
        raise PydanticCustomError("required", "list at least one label")
    return value


Labels = Annotated[
    list[LabelName],
    Field(max_length=100, json_schema_extra={"minItems": 1, "uniqueItems": True}),
    BeforeValidator(_check_not_empty),
]


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise InvalidRequest if a label is listed more than once. It points at each repetition."""
    repeated = [i for i, name in enumerate(names) if name in names[:i]]
    if repeated:
        raise InvalidRequest(
            *(
                Violation(f"/labels/{i}", "duplicate_item", f"{names[i]!r} is listed more than once")
                for i in repeated
            )
        )


def _check_printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise PydanticCustomError(
            "invalid_text", "the text must be of printable characters, on one line, and not blank"
        )
    return text


Reference = Annotated[
    str,
    Field(
        max_length=200,
        description="Your own name for this request, such as the number of an erasure request: 1 to 200 "
        "printable characters. It is shown on the job, and signed with the receipt.",
        json_schema_extra={"minLength": 1},
    ),
    AfterValidator(_check_printable),
]


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > MAX_METADATA_KEYS:
        raise PydanticCustomError(
            "out_of_range", f"metadata has at most {MAX_METADATA_KEYS} keys, not {len(metadata)}"
        )
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            raise PydanticCustomError(
                "out_of_range",
                f"a key of metadata has 1 to {MAX_METADATA_KEY} characters, and a value at most "
                f"{MAX_METADATA_VALUE}",
            )
        if not key.isprintable() or not key.strip() or not (value.isprintable() or value == ""):
            raise PydanticCustomError(
                "invalid_text", "keys and values of metadata are of printable characters, on one line"
            )
    return metadata


MAX_METADATA_KEYS, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512

Metadata = Annotated[
    dict[str, str],
    Field(
        description=f"Your own data about this request: at most {MAX_METADATA_KEYS} keys of up to "
        f"{MAX_METADATA_KEY} characters, with values of up to {MAX_METADATA_VALUE}. It is shown on the job.",
        json_schema_extra={"maxProperties": MAX_METADATA_KEYS},
    ),
    AfterValidator(_check_metadata),
]


class Acceptance(Body):
    """The criteria that a candidate must meet to be published. They are frozen when the job is accepted.

    Each is a bound on an accuracy: the share of 1,000 images drawn for a label that the judge recognises.
    """

    retained_accuracy_min: float | None = Field(
        None, ge=0, le=1, description="The lowest accuracy of all retained labels together."
    )
    worst_retained_accuracy_min: float | None = Field(
        None, ge=0, le=1, description="The lowest accuracy of any one retained label."
    )
    forgotten_accuracy_max: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The highest accuracy of any one forgotten label, whichever job forgot it. The bound "
        "that a forget job is accepted with holds for its labels in every later job of the model.",
    )
