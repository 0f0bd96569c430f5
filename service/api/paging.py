"""Paged lists: the query parameters `limit` and `after`, and a page with a link to the next one."""

import re
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.api.problems import rules
from service.requests.fields import schema_of
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


class Listing(BaseModel, Generic[Item]):
    """One page of a list. Pass `next` as `after` to read the page that follows."""

    object: Literal["list"] = "list"
    data: Sequence[Item]
    has_more: bool
    next: str | None


def build_listing(
    request: Request, response: Response, data: Sequence[Item], *, has_more: bool, last: str | None
) -> Listing[Item]:
    """Return the page, and add the Link header of the next one (RFC 8288) to the response.

    last: the cursor of the last item.
    """
    following = last if has_more else None
    if following is not None:
        query = {**request.query_params, "after": following}
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return Listing(data=data, has_more=has_more, next=following)


def parse_number(cursor: str | None) -> int | None:
    """Return the number that the cursor of a numbered list is. Raises InvalidRequest."""
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", cursor):
        raise unknown_cursor()
    return int(cursor)


CURSOR_RULE = rules(invalid_cursor="the list has no item with this `after`")
"""The OpenAPI response of a list whose `after` must be an item of it."""


def unknown_cursor() -> InvalidRequest:
    """Return the error for a well-formed `after` that is not an item of the list."""
    return InvalidRequest(
        Violation("/query/after", "invalid_cursor", f"the list has no such item; {_CURSOR_ADVICE}")
    )
