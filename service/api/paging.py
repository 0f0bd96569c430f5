"""Paged lists: the query parameters `limit` and `after`, and a page with a link to the next one."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.datastructures import MutableHeaders

from service.requests.fields import MAX_METADATA_KEYS, schema_of
from service.requests.violations import InvalidRequest, Violation

Item = TypeVar("Item")

_CURSOR_ADVICE = "pass the `next` of the page before as `after`, or leave it out for the first page"


CURSOR = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _check_cursor(text: object) -> object:
    if not isinstance(text, str) or not CURSOR.fullmatch(text):
        raise PydanticCustomError("invalid_cursor", _CURSOR_ADVICE)
    return text


class Page(BaseModel):
    """Which page of a list is requested."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="The most items in a page.")
    after: (
        Annotated[str, Field(json_schema_extra=schema_of(CURSOR)), BeforeValidator(_check_cursor)] | None
    ) = Field(None, description="The `next` of the page before. Leave it out for the first page.")


PageQuery = Annotated[Page, Query()]


class LongPage(Page):
    """Which page of a list is requested that most deployments read in one page."""

    limit: int = Field(100, ge=1, le=100, description="The most items in a page.")


METADATA = "metadata."
"""The beginning of the query parameters that filter a list by metadata: `metadata.team=vision`."""


class FilteredPage(Page):
    """Which page of a list is requested that may be filtered by metadata, in which order."""

    order: Literal["asc", "desc"] = Field("desc", description="Whether the list ascends or descends.")

    @model_validator(mode="before")
    @classmethod
    def _leave_metadata_out(cls, sent: object) -> object:
        """Metadata has keys of the client's own, so it is read by MetadataFilter."""
        if not isinstance(sent, Mapping):
            return sent
        return {name: value for name, value in sent.items() if not name.startswith(METADATA)}


def _read_metadata(request: Request) -> dict[str, str]:
    wanted = {
        name.removeprefix(METADATA): value
        for name, value in request.query_params.items()
        if name.startswith(METADATA)
    }
    if len(wanted) > MAX_METADATA_KEYS or not all(wanted):
        detail = f"name 1 to {MAX_METADATA_KEYS} keys, each as `metadata.KEY=VALUE`"
        raise InvalidRequest(Violation("/query/metadata", "out_of_range", detail))
    return wanted


MetadataFilter = Annotated[dict[str, str], Depends(_read_metadata)]
"""The type of an endpoint's parameter through which FastAPI passes it the metadata to filter by."""
METADATA_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "form",
            "explode": True,
            "required": False,
            "schema": {
                "type": "object",
                "propertyNames": {"pattern": r"^metadata\.[A-Za-z0-9_-]{1,64}$"},
                "additionalProperties": {"type": "string"},
                "maxProperties": MAX_METADATA_KEYS,
            },
            "example": {"metadata.team": "vision"},
            "description": "`metadata.KEY=VALUE` for each entry that the items must have.",
        }
    ]
}
"""What the OpenAPI document tells about these parameters."""


class Listing(BaseModel, Generic[Item]):
    """One page of a list. Pass `next` as `after` to read the page that follows."""

    object: Literal["list"] = "list"
    data: Sequence[Item]
    has_more: bool
    next: str | None


def build_listing(
    request: Request,
    headers: MutableHeaders | dict[str, str],
    data: Sequence[Item],
    *,
    has_more: bool,
    last: str | None,
) -> Listing[Item]:
    """Return the page, and add the Link header of the next one (RFC 8288) to those of the response.

    last: the cursor of the last item.
    """
    following = last if has_more else None
    if following is not None:
        query = {**request.query_params, "after": following}
        headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return Listing(data=data, has_more=has_more, next=following)


def parse_number(cursor: str | None) -> int | None:
    """Return the number that the cursor of a numbered list is. Raises InvalidRequest."""
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", cursor):
        raise unknown_cursor()
    return int(cursor)


def parse_id(cursor: str | None, kind: str) -> str | None:
    """Return the id that the cursor of a list is. Raises InvalidRequest if no item could have it.

    kind: what the ids of the list begin with, such as `key`. An id of an item that has been deleted is a
    place in the list as before, so that a client may delete the items of a page and read on.
    """
    if cursor is not None and not re.fullmatch(rf"{kind}_[0-9A-Za-z]{{1,40}}", cursor):
        raise unknown_cursor()
    return cursor


def parse_name(cursor: str | None, names: re.Pattern[str]) -> str | None:
    """Return the name that the cursor of a list in the order of names is. Raises InvalidRequest."""
    if cursor is not None and not names.fullmatch(cursor):
        raise unknown_cursor()
    return cursor


CURSOR_RULE = "the list has no item with this `after`"


def unknown_cursor() -> InvalidRequest:
    """Return the error for a well-formed `after` that is not an item of the list."""
    return InvalidRequest(
        Violation("/query/after", "invalid_cursor", f"the list has no such item; {_CURSOR_ADVICE}")
    )
