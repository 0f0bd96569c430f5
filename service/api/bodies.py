"""The body of a request: bounded, read once, and one strict JSON document."""

import json
from collections import Counter
from itertools import islice
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive, Scope

from service.api.error_kinds import (
    BODY_REQUIRED,
    INVALID_JSON,
    JSON_TOO_DEEP,
    PAYLOAD_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    rule_kind,
)
from service.api.problems import Problem, build_validation_problem
from service.requests.fields import MAX_SEED
from service.requests.violations import Violation, escape

MAX_BODY_BYTES = 1 << 20
MAX_OPEN_BODY_BYTES = 4 << 10
"""The same where no key is needed, or where the URL takes no body."""
SMALL_BODY_BYTES = 64 << 10
"""A larger body is parsed in a thread, so that the event loop goes on."""
MAX_JSON_DEPTH = 32
MAX_JSON_VALUES = 100_000
MAX_JSON_ITEMS = 256
"""More items of an array, and more members of an object, than any request has (a test compares it with the
schemas). The rules of the fields see no more of them: they cost up to 15 us for each, so that 80,000 unknown
fields kept the event loop busy for 1.2 s."""
MERGE_PATCH = "application/merge-patch+json"
"""The media type of the body of a PATCH (RFC 7396). application/json is accepted, too."""
MAX_JSON_INTEGER_DIGITS = 20  # no field takes more than 64 bits


class BoundedRequest(Request):
    """A request whose body is read once, and refused if it is too large."""

    def __init__(self, scope: Scope, receive: Receive, *, max_bytes: int) -> None:
        super().__init__(scope, receive)
        self._max_bytes = max_bytes

    async def body(self) -> bytes:
        """Return the bytes of the body. Raises Problem 413 if there are more than `max_bytes`."""
        if not hasattr(self, "_body"):
            self._body = await read_body(self, self._max_bytes)
        return self._body


class JsonRequest(BoundedRequest):
    """A request whose body is one JSON document, checked before FastAPI parses it.

    is_required: whether it must have one. If not, an empty body without a Content-Type counts as `{}`.
    """

    def __init__(self, scope: Scope, receive: Receive, *, max_bytes: int, is_required: bool) -> None:
        super().__init__(scope, receive, max_bytes=max_bytes)
        self._is_required = is_required

    async def json(self) -> Any:
        """Return the parsed body. Raises Problem 415, 413 or 400 if it is not JSON, too large or too deep."""
        if not hasattr(self, "_json"):
            self._json = await self._read()
            self.state.json = self._json  # for the pointers of errors (problems.py)
        return self._json

    async def _read(self) -> Any:
        if self._is_required or self.headers.get("content-type"):
            refuse_media_type_unless_json(self)  # before the body is read
        body = await self.body()
        if not body and not self._is_required:
            return {}
        refuse_media_type_unless_json(self)
        if len(body) <= SMALL_BODY_BYTES:
            return parse_json(body)
        return await run_in_threadpool(parse_json, body)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of the body. Raises Problem 413 as soon as it is longer than `max_bytes`."""
    refuse_announced(request, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return bytes(body)


def too_large(max_bytes: int) -> Problem:
    """Return the 413 for a body of more than `max_bytes`. It closes the connection."""
    detail = f"The body is larger than the {max_bytes:,} bytes allowed."
    return Problem(PAYLOAD_TOO_LARGE, detail, headers={"Connection": "close"})


def refuse_announced(request: Request, max_bytes: int) -> None:
    """Raise Problem 413 if the Content-Length is too large, before a client has sent anything of the body."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large(max_bytes)


def parse_json(body: bytes) -> Any:
    """Parse one JSON document (RFC 8259). Raises Problem 400, also for NaN, Infinity and repeated keys.

    Raises Problem 422 if it has more values, or an array of more items, than any request needs.
    """
    if not body.strip():
        raise Problem(BODY_REQUIRED, "The body is empty; send a JSON object.")
    if body.count(b",") > MAX_JSON_VALUES:
        detail = (
            f"The body has more than {MAX_JSON_VALUES:,} commas; no request of this API needs as many values."
        )
        raise Problem(rule_kind("out_of_range"), detail)
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
            object_pairs_hook=_parse_object,
        )
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False).encode("utf-8")  # fails for a lone surrogate
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Problem(INVALID_JSON, f"The body is not valid JSON: {error}") from None
    return _bounded(document) if isinstance(document, dict | list) else document


def refuse_media_type_unless_json(request: Request) -> None:
    """Raise Problem 415 if the body of the request is not JSON by its Content-Type."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "PATCH" and media_type == MERGE_PATCH:
        return
    if media_type != "application/json":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Type of the body is {media_type or 'missing'}; send application/json.",
            headers={"Accept": "application/json"},
        )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _parse_float(digits: str) -> float | int:
    """Return the number: as an integer if it is one, because 7.0 is an integer in JSON Schema."""
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is a number too large to read")
    return int(number) if number.is_integer() and abs(number) <= MAX_SEED else number


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_JSON_INTEGER_DIGITS:
        raise ValueError(f"{digits[:40]}... is a number too large to read")
    return int(digits)


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated[:40]!r} appears twice in one object")
    return found


def _bounded(document: Any) -> Any:
    """Return the document, with MAX_JSON_ITEMS members of every object that has more.

    Some of these are unknown fields, whichever they are, so that the rules refuse the object as they would
    refuse the whole. Raises Problem 422 for an array that is too long, 400 for too many levels.
    """
    whole = [document]
    level: list[tuple[str, Any, Any]] = [("", whole, 0)]
    """[(pointer, the container it is in, its key there)] of the arrays and objects of one level."""
    for _ in range(MAX_JSON_DEPTH + 1):
        below: list[tuple[str, Any, Any]] = []
        for pointer, parent, key in level:
            value = parent[key]
            if isinstance(value, list) and len(value) > MAX_JSON_ITEMS:
                detail = f"{pointer or 'the body'}: send at most {MAX_JSON_ITEMS} items, not {len(value):,}"
                raise build_validation_problem(Violation(pointer, "out_of_range", detail))
            if isinstance(value, dict) and len(value) > MAX_JSON_ITEMS:
                value = parent[key] = dict(islice(value.items(), MAX_JSON_ITEMS))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            below += [
                (f"{pointer}/{escape(str(name))}", value, name)
                for name, child in items
                if isinstance(child, dict | list)
            ]
        level = below
        if not level:
            return whole[0]
    raise _too_deep()


def _too_deep() -> Problem:
    return Problem(
        JSON_TOO_DEEP, f"The body has more than {MAX_JSON_DEPTH} levels of nested objects and arrays."
    )
