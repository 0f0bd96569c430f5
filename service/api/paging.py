"""Lists over HTTP: `?limit=&after=` in the query, and one page of the list with a link to the next one."""

import re
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.requests.violations import InvalidRequest, Violation

Item = TypeVar("Item")


def _check_cursor(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,64}", text):
        raise PydanticCustomError("invalid_cursor", "pass the `next` of the last page")
    return text


class Page(BaseModel):
    """Which page of a list is requested: how many items, and after which item of the page before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="how many items")
    after: Annotated[str, BeforeValidator(_check_cursor)] | None = Field(None, description="the last `next`")


PageQuery = Annotated[Page, Query()]


class Listing(BaseModel, Generic[Item]):
    """One page of a list; `next` is the cursor of the page after it."""

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


def unknown_cursor() -> InvalidRequest:
    """Return the refusal of an `after` that is well formed and no item of this list."""
    return InvalidRequest(Violation("/query/after", "invalid_cursor", "pass the `next` of the last page"))
