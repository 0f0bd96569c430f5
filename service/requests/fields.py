"""Types of fields that several request bodies share. A malformed value has a stable error code."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from service import queue_names
from service.registry import labels
from service.registry.job_requests import DEFAULT_PRIORITIES, MAX_PRIORITY, MIN_PRIORITY
from service.requests.violations import InvalidRequest, Violation

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON parser reads exactly (RFC 7493)."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]

MAX_VERSION = 2**31 - 1

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of models, datasets, projects and keys. They need no quoting in a path, a file name or a shell."""
MODEL_ID, PROJECT_ID = "mdl_", "prj_"
"""The beginnings of ids, which no name may have, because a path takes a name or an id."""
JOB_ID = re.compile(r"job_[0-9A-Za-z]{1,40}")
SAMPLE_ID = re.compile(r"smp_[0-9A-Za-z]{1,40}")
EXPORT_ID = re.compile(r"exp_[0-9A-Za-z]{1,40}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
"""The number of a version in a path."""

HEAD = "head"
"""What stands for the number of a model's newest version."""
ALIAS = re.compile(
    r"(?!(?:[hH][eE][aA][dD]|[vV]?[0-9]+(?:\.[0-9]+)*|[a-z]{3}_[0-9A-Za-z]{26})$)" + NAME.pattern
)
"""Names of aliases: no `head`, no number and no id, because these stand where an alias may stand."""
ALIAS_RULE = (
    "has 1 to 64 letters, digits, dots, dashes or underscores, begins with a letter or a digit, and is "
    "neither `head` nor a number such as 3, v3 or 1.0 nor an id"
)

NAME_RULE = "has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or a digit"


def schema_of(pattern: re.Pattern[str], *, reserved: str = "") -> dict[str, Any]:
    """Return the JSON Schema of texts that the whole pattern matches and that do not begin as `reserved`."""
    return {"pattern": f"^(?!{reserved}){pattern.pattern}$" if reserved else f"^{pattern.pattern}$"}


ResourceName = Annotated[str, Field(json_schema_extra=schema_of(NAME))]
"""The name or id of something that there should be. Other texts are answered as unknown names."""


def check_resource_name(name: str) -> str:
    """Return the name. Raises PydanticCustomError if NAME_RULE forbids it."""
    if not NAME.fullmatch(name):
        raise PydanticCustomError("invalid_name", f"a name {NAME_RULE}")
    return name


class Body(BaseModel):
    """The base class of every request body. It refuses unknown fields, and it is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _check_version(value: object) -> int | str:
    if isinstance(value, str):
        if value != HEAD and not ALIAS.fullmatch(value):
            raise PydanticCustomError("invalid_name", VERSION_RULE)
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise PydanticCustomError("wrong_type", VERSION_RULE)
    if not 1 <= value <= MAX_VERSION:
        raise PydanticCustomError("out_of_range", f"the number of a version is from 1 to {MAX_VERSION}")
    return value


def _check_version_text(text: object) -> int | str:
    return _check_version(int(text) if isinstance(text, str) and re.fullmatch(r"[0-9]{1,10}", text) else text)


VERSION_RULE = "a version is named by its number, by an alias, or by `head`"
_VERSION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_VERSION},
            {"type": "string", "pattern": f"^(?:{HEAD}|{ALIAS.pattern})$"},
        ],
        "description": "The number of a version, an alias of it, or `head` for the newest version.",
    }
)
VersionReference = Annotated[int | str, PlainValidator(_check_version), _VERSION_SCHEMA]
"""What names a version in a body: its number, an alias, or `head`."""
VersionReferenceText = Annotated[int | str, PlainValidator(_check_version_text), _VERSION_SCHEMA]
"""The same in a query."""


LABEL_RULE, LABEL_PATTERN = labels.RULE, labels.PATTERN
MAX_LABELS = 100


def _check_label_name(name: str) -> str:
    if not re.fullmatch(labels.NAME, name):
        raise PydanticCustomError("invalid_name", labels.RULE)
    return name


LabelName = Annotated[
    str, Field(json_schema_extra={"pattern": labels.PATTERN}), AfterValidator(_check_label_name)
]


def _check_not_empty(value: object) -> object:
    if value == []:
        raise PydanticCustomError("required", "list at least one label")
    return value


Labels = Annotated[
    list[LabelName],
    Field(max_length=MAX_LABELS, json_schema_extra={"minItems": 1, "uniqueItems": True}),
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


ONE_LINE = r"^[^\x00-\x1f\x7f-\xa0\xad\u2028\u2029]*$"
"""What /openapi.json shows of the rule that a text is printable. Unicode has further characters that are not,
and no pattern that every client can read names them all."""
NOT_BLANK = ONE_LINE.replace("^", r"^ *[^ \x00-\x1f\x7f-\xa0\xad\u2028\u2029]", 1)


TEXT_RULE = "a text has a character that Unicode does not count as printable"


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
        json_schema_extra={"minLength": 1, "pattern": NOT_BLANK},
    ),
    AfterValidator(_check_printable),
]


Reason = Annotated[
    str,
    Field(
        max_length=500,
        description="Why, for those who read the history: 1 to 500 printable characters.",
        json_schema_extra={"minLength": 1, "pattern": NOT_BLANK},
    ),
    AfterValidator(_check_printable),
]


def _check_lines(text: str) -> str:
    if not all(line.isprintable() for line in text.split("\n")) or not text.strip():
        raise PydanticCustomError(
            "invalid_text", "the text must be of printable characters and line breaks, and not blank"
        )
    return text


MAX_DESCRIPTION = 2_000
Description = Annotated[
    str,
    Field(
        max_length=MAX_DESCRIPTION,
        description=f"Your own words: 1 to {MAX_DESCRIPTION:,} printable characters and line breaks.",
        json_schema_extra={"minLength": 1, "pattern": NOT_BLANK.replace(r"\x00-\x1f", r"\x00-\x09\x0b-\x1f")},
    ),
    AfterValidator(_check_lines),
]


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > MAX_METADATA_KEYS:
        raise PydanticCustomError(
            "out_of_range", f"metadata has at most {MAX_METADATA_KEYS} keys, not {len(metadata)}"
        )
    _check_entries(metadata)
    return metadata


def _check_entries(metadata: Mapping[str, str | None]) -> None:
    for key, value in metadata.items():
        value = value or ""
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


def _check_metadata_patch(metadata: dict[str, str | None]) -> dict[str, str | None]:
    _check_entries(metadata)
    return metadata


MAX_METADATA_KEYS, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512

_METADATA_KEY = {"minLength": 1, "maxLength": MAX_METADATA_KEY, "pattern": NOT_BLANK}
_METADATA_VALUE = {"type": "string", "maxLength": MAX_METADATA_VALUE, "pattern": ONE_LINE}

Metadata = Annotated[
    dict[str, str],
    Field(
        description=f"Your own data about it: at most {MAX_METADATA_KEYS} keys of up to "
        f"{MAX_METADATA_KEY} characters, with values of up to {MAX_METADATA_VALUE}.",
        json_schema_extra={
            "maxProperties": MAX_METADATA_KEYS,
            "propertyNames": _METADATA_KEY,
            "additionalProperties": _METADATA_VALUE,
        },
    ),
    AfterValidator(_check_metadata),
]
"""Metadata of a job, a model or a version."""
MetadataPatch = Annotated[
    dict[str, str | None],
    Field(
        description="The keys to set, and with null the keys to remove. Others stay. Null in place of the "
        f"object removes all. Afterwards there are at most {MAX_METADATA_KEYS} keys.",
        json_schema_extra={
            "propertyNames": _METADATA_KEY,
            "additionalProperties": {"anyOf": [_METADATA_VALUE, {"type": "null"}]},
        },
    ),
    AfterValidator(_check_metadata_patch),
]


def _check_queue(name: str) -> str:
    if not queue_names.NAME.fullmatch(name):
        raise PydanticCustomError("invalid_name", QUEUE_RULE)
    return name


QUEUE_RULE = f"the name of a queue {queue_names.RULE}"
QueueName = Annotated[str, Field(json_schema_extra=schema_of(queue_names.NAME)), AfterValidator(_check_queue)]
"""The name of a queue. Workers decide which queues there are, so every name is accepted."""
Priority = Annotated[
    int,
    Field(
        strict=True,
        ge=MIN_PRIORITY,
        le=MAX_PRIORITY,
        description="Of the jobs that could run, workers take one with the largest priority first, but for "
        "one in four, for which priorities do not count. The changes of one model always run in their order; "
        "one that others wait for has the largest of their priorities. If it is left out, a forget has "
        f"{DEFAULT_PRIORITIES['forget']}, and every other job 0.",
    ),
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
