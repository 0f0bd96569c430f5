"""What a request to the server is, before any transport sends it: a value that also reads its answer."""

import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx2
from pydantic import BaseModel, ValidationError

from palimpsest.errors import Problem, RequestRefused, UnexpectedAnswer, read_problem, refusal
from palimpsest.values import Json, Value

T = TypeVar("T")
V = TypeVar("V", bound=BaseModel)
Read = Callable[[httpx2.Response], T]

PROJECT_HEADER = "Palimpsest-Project"
"""The header that names the project that a request is about."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request, and how its answer is read.

    body: sent as JSON. content: sent as it is. read: makes the result of an answer without an error.
    is_in_project: whether it is about what belongs to a project, so that it names the client's.
    """

    method: str
    path: str
    read: Read[T]
    query: Json = field(default_factory=dict)
    body: Json | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_in_project: bool = True

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does, so that a lost answer does no harm."""
        if "If-Match" in self.headers or "If-None-Match" in self.headers:
            return False  # the first has changed what the second expects
        return self.method in ("GET", "HEAD", "PUT", "PATCH") or "Idempotency-Key" in self.headers

    def with_query(self, **query: Any) -> Self:
        """Return the same request with these query parameters too."""
        return replace(self, query={**self.query, **without_none(**query)})

    def outside_projects(self) -> Self:
        """Return the same request without the name of a project, which the server would refuse."""
        return replace(self, is_in_project=False)


class Page(Value, Generic[T]):
    """One page of a list. next: the cursor of the page that follows."""

    data: tuple[T, ...]
    has_more: bool
    next: str | None


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A stream of server-sent events, and how the data of one is read.

    after: the id of the last event that is known already. is_last: whether nothing follows an item.
    """

    path: str
    read: Callable[[str], T]
    is_last: Callable[[T], bool]
    after: str | None = None

    def headers(self, after: str | None) -> dict[str, str]:
        """Return the headers of a request for what comes after this event."""
        return {"Accept": "text/event-stream", **without_none(**{"Last-Event-ID": after})}


def get(path: str, read: Read[T], **query: Any) -> Request[T]:
    """Describe a GET; query parameters that are None are left out."""
    return Request("GET", path, read, query=without_none(**query))


def post(path: str, body: Json | None, read: Read[T], key: str | None = None) -> Request[T]:
    """Describe a POST that may be sent again, because it has an idempotency key: `key`, or a new one."""
    return Request("POST", path, read, body=body, headers={"Idempotency-Key": key or uuid4().hex})


def delete(path: str, read: Read[T], *, takes_key: bool = False, **query: Any) -> Request[T]:
    """Describe a DELETE; query parameters that are None are left out.

    takes_key: it has an idempotency key, so that it may be sent again. Other DELETEs may not: the second
    would be answered with 404 after the first did its work.
    """
    headers = {"Idempotency-Key": uuid4().hex} if takes_key else {}
    return Request("DELETE", path, read, query=without_none(**query), headers=headers)


def value(kind: type[V]) -> Read[V]:
    """Read an answer as a value of this kind. Unknown fields are kept, in its parts too."""

    def read(response: httpx2.Response) -> V:
        try:
            return kind.model_validate_json(response.content, extra="allow")
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole body"
            raise UnexpectedAnswer(
                f"{response.request.method} {response.request.url}: the answer is no {kind.__name__} that "
                f"this release of the client knows ({place}: {first['msg']}). Use client and server of one "
                "release."
            ) from error

    return read


def page(kind: type[V] | UnionType) -> Read[Page[V]]:
    """Read an answer as a page of values of this kind."""
    return value(Page[kind])  # type: ignore[valid-type]


def content(response: httpx2.Response) -> bytes:
    """Read an answer as bytes."""
    return response.content


def nothing(response: httpx2.Response) -> None:
    """Read an answer without a body."""


def refusal_of(response: httpx2.Response) -> RequestRefused:
    """Return the exception for an answer with an error."""
    where = f"{response.request.method} {response.request.url}"
    retry_after = read_retry_after(response)
    if response.headers.get("Content-Type", "").split(";")[0] == "application/problem+json":
        try:
            return refusal(read_problem(response.status_code, response.json(), retry_after))
        except (KeyError, ValueError, TypeError):
            pass
    detail = (
        f"{where} was answered with status {response.status_code} without a problem document (RFC 9457). Is "
        "this the address of a Palimpsest server, or of a proxy?"
    )
    return refusal(Problem(response.status_code, "not_a_problem", detail, retry_after=retry_after))


def read_retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds that the header Retry-After says, as a number or as a date (RFC 9110)."""
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo else None


def patch(path: str, changes: Json, read: Read[T]) -> Request[T]:
    """Describe a PATCH by a JSON merge patch (RFC 7396): twice is once, and None removes."""
    return Request(
        "PATCH", path, read, body=changes, headers={"Content-Type": "application/merge-patch+json"}
    )


def metadata_query(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return the query parameters that list only what has this metadata."""
    return {f"metadata.{key}": text for key, text in (metadata or {}).items()}


class Unchanged:
    """The default of an argument that leaves something as it is, where None removes it."""


UNCHANGED = Unchanged()


def changes(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not UNCHANGED."""
    return {name: given for name, given in fields.items() if given is not UNCHANGED}


def without_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None: the server has a default for each of the others."""
    return {name: given for name, given in fields.items() if given is not None}


def segment(name: object) -> str:
    """Quote a name as one segment of a path: a slash in it becomes %2F."""
    return quote(str(name), safe="")
