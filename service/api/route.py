"""The route class of every endpoint. It handles JSON bodies, the Accept header, ETags and 304."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from itertools import islice
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.api.access import NOBODY, PROJECT_HEADER, Access, required_scopes
from service.api.error_kinds import (
    BODY_REQUIRED,
    HEADER_NOT_SUPPORTED,
    HEADER_TOO_LONG,
    IDEMPOTENCY_KEY_NOT_SUPPORTED,
    INVALID_JSON,
    JSON_TOO_DEEP,
    NOT_ACCEPTABLE,
    PAYLOAD_TOO_LARGE,
    PRECONDITION_FAILED,
    UNSUPPORTED_MEDIA_TYPE,
    rule_kind,
)
from service.api.origins import SAFE_METHODS
from service.api.problems import Problem, build_validation_problem
from service.api.refusals import takes_header
from service.api.threads import in_database_thread
from service.registry.errors import UnknownProject
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
MAX_MEDIA_RANGES = 100
FOR_ONE_CLIENT = "private, no-cache"
"""Cache-Control: no shared cache may store the answer, and the client's own asks again before it uses it."""
FOR_ONE_MINUTE = "private, max-age=60"
"""For what can only be revoked: where no key is needed, the client's own cache may use it for that long."""
CONDITIONS = ("Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", PROJECT_HEADER)
"""Headers that a client relies on."""
MERGE_PATCH = "application/merge-patch+json"
"""The media type of the body of a PATCH (RFC 7396). application/json is accepted, too."""
UNLIMITED_PATHS = ("/livez", "/readyz", "/metrics")
MAX_JSON_INTEGER_DIGITS = 20  # no field takes more than 64 bits


class Route(APIRoute):
    """An APIRoute that admits callers, reads strict JSON, adds ETags, and runs what uses the database."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        changes = not set(options.get("methods") or ("GET",)) <= SAFE_METHODS
        super().__init__(path, in_database_thread(endpoint, changes=changes), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        taken = {name for name in CONDITIONS if takes_header(self.dependant, name)}
        takes_no_query = self.path.startswith("/v1/") and not _takes_query(self.dependant)
        scopes = required_scopes(self.endpoint)
        if scopes:
            taken.add(PROJECT_HEADER)
        body_is_required = self.body_field is not None and self.body_field.field_info.is_required()
        takes_no_body = self.body_field is None and set(self.methods or ()) <= {"POST", "PATCH", "DELETE"}

        async def handle_strictly(request: Request) -> Response:
            request.state.caller = NOBODY
            if scopes:
                access: Access = request.app.state.access
                try:
                    request.state.caller = await access.admit(request, scopes)
                except (Problem, UnknownProject):  # a client that tries keys out has the limit of its address
                    _refuse_too_frequent(request)
                    raise
            _refuse_too_frequent(request)
            if takes_no_body:
                _refuse_other_media_types(request)
            _refuse_unacceptable(request, self.response_class)
            _refuse_conditions(request, taken)
            if takes_no_query:
                _refuse_query(request)
            _refuse_repeated_parameters(request)
            if takes_no_body:
                request = BoundedRequest(request.scope, request.receive, max_bytes=MAX_OPEN_BODY_BYTES)
                await _refuse_body(request)
            elif self.body_field is not None:
                max_bytes = MAX_BODY_BYTES if scopes else MAX_OPEN_BODY_BYTES
                request = JsonRequest(
                    request.scope, request.receive, max_bytes=max_bytes, is_required=body_is_required
                )
                await request.json()
            response = await handle(request)
            if getattr(request.state, "is_replayed", False):
                response.headers["Idempotency-Replayed"] = "true"
            return _for_one_client(request, with_etag(request, response))

        return handle_strictly


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
            _refuse_media_type_unless_json(self)  # before the body is read
        body = await self.body()
        if not body and not self._is_required:
            return {}
        _refuse_media_type_unless_json(self)
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


def with_etag(request: Request, response: Response) -> Response:
    """Return the response with an ETag of its bytes, or 304 if the client already has these bytes."""
    if request.method != "GET" or response.status_code != 200:
        return response
    if not isinstance(getattr(response, "body", None), bytes):  # a stream has none
        return response
    add_etag(response)
    return not_modified(request, response.headers) or response


def add_etag(response: Response) -> None:
    """Add an ETag of the response's bytes, unless it has one."""
    if "etag" not in response.headers:
        response.headers["ETag"] = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
        response.headers.setdefault("Cache-Control", FOR_ONE_CLIENT)


def not_modified(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return 304 if If-None-Match names the ETag in `headers` (weak comparison, RFC 9110 13.1.2)."""
    sent = request.headers.get("if-none-match")
    if sent is None:
        return None
    if not names_etag(sent.encode("latin-1"), Headers(headers).get("etag", "").encode("latin-1")):
        return None
    remaining = {k: v for k, v in headers.items() if k.lower() not in ("content-length", "content-type")}
    return Response(status_code=304, headers=remaining)


def names_etag(condition: bytes, etag: bytes) -> bool:
    """Whether the If-None-Match `condition` names this ETag (weak comparison, RFC 9110 13.1.2)."""
    known = [tag.strip().removeprefix(b"W/") for tag in condition.split(b",")]
    return etag in known or b"*" in known


def _for_one_client(request: Request, response: Response) -> Response:
    """Return the response with a Cache-Control that lets nobody see what a key or a session gave another.

    Without a key the endpoint may allow the client's own cache more.
    """
    allowed = response.headers.get("cache-control", "")
    if "no-store" not in allowed and (request.state.caller.key_id is not None or not allowed):
        response.headers["Cache-Control"] = FOR_ONE_CLIENT
    return response


def _takes_query(dependant: Dependant) -> bool:
    """Whether the endpoint or one of its dependencies has a query parameter. Then pydantic refuses others."""
    return bool(dependant.query_params) or any(_takes_query(one) for one in dependant.dependencies)


def _refuse_query(request: Request) -> None:
    """Raise Problem 422 if the URL has a query: a client that sends `?dry_run=true` relies on it."""
    pointers = [f"/query/{escape(name)}" for name in request.query_params]
    if pointers:
        detail = "there is no such field; this URL takes no query"
        raise build_validation_problem(
            *(Violation(pointer, "unknown_field", f"{pointer}: {detail}") for pointer in pointers)
        )


def _refuse_repeated_parameters(request: Request) -> None:
    """Raise Problem 422 if a query parameter is repeated: each has one value, and nobody can tell which."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    pointers = [f"/query/{escape(name)}" for name, count in counts.items() if count > 1]
    if pointers:
        raise build_validation_problem(
            *(Violation(each, "duplicate_item", f"{each}: send this parameter once") for each in pointers)
        )


async def _refuse_body(request: BoundedRequest) -> None:
    """Raise Problem 422 if the body has a field: a client that sends `{"purge": true}` relies on it."""
    body = await request.body()
    document = parse_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise build_validation_problem(Violation("", "wrong_type", "the body: this URL takes none"))
    pointers = [f"/{escape(name)}" for name in document]
    if pointers:
        detail = "there is no such field; this URL takes no body"
        raise build_validation_problem(
            *(Violation(each, "unknown_field", f"{each}: {detail}") for each in pointers)
        )


def _refuse_conditions(request: Request, taken: Collection[str]) -> None:
    """Raise a Problem if the request depends on a header that this endpoint cannot honour.

    To ignore it would be worse: the client relies on it. taken: those of CONDITIONS that it honours.
    """
    sent = {name for name in CONDITIONS if name.lower() in request.headers} - set(taken)
    if "Idempotency-Key" in sent:
        detail = f"A {request.method} of this URL takes no Idempotency-Key; send it without this header."
        raise Problem(IDEMPOTENCY_KEY_NOT_SUPPORTED, detail)
    if "Last-Event-ID" in sent:
        detail = "This URL sends no events, so it cannot go on after one; leave the header Last-Event-ID out."
        raise Problem(HEADER_NOT_SUPPORTED, detail)
    if PROJECT_HEADER in sent:
        detail = f"This URL is about no project; send the request without the header {PROJECT_HEADER}."
        raise Problem(HEADER_NOT_SUPPORTED, detail)
    if "If-None-Match" in sent and request.method not in SAFE_METHODS:
        detail = (
            "This URL compares no ETag, so the condition in If-None-Match cannot be checked; leave it out."
        )
        raise Problem(PRECONDITION_FAILED, detail)
    if "If-Match" in sent:
        detail = (
            "This URL compares no ETag, so the condition in If-Match cannot be checked; send the request "
            "without it. Requests that change a model take `base_version` instead."
        )
        raise Problem(PRECONDITION_FAILED, detail)


def _refuse_too_frequent(request: Request) -> None:
    """Raise Problem 429 if the client sends too many requests. Health and metrics have no limit."""
    if request.url.path in UNLIMITED_PATHS:
        return
    if refusal := request.app.state.context.rates.take(client_address(request), request.state.caller.key_id):
        raise refusal


def client_address(request: Request) -> str:
    """Return the address that the request came from; empty if it is unknown."""
    return request.client.host if request.client else ""


def _refuse_other_media_types(request: Request) -> None:
    """Raise Problem 415 if the request has a body that is not JSON, such as a form.

    Browsers send forms and plain text to other sites without asking them first.
    """
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        _refuse_media_type_unless_json(request)


def _refuse_media_type_unless_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "PATCH" and media_type == MERGE_PATCH:
        return
    if media_type != "application/json":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Type of the body is {media_type or 'missing'}; send application/json.",
            headers={"Accept": "application/json"},
        )


def _refuse_unacceptable(request: Request, response_class: Any) -> None:
    """Raise Problem 406 if the client does not accept the media type of this endpoint."""
    media_type = getattr(getattr(response_class, "value", response_class), "media_type", None)
    if media_type:
        preferred(request, media_type)


def preferred(request: Request, *offered: str) -> str:
    """Return the offered media type that the client prefers, or the first if it prefers none (RFC 9110).

    Raises Problem 406 if the client accepts none of them.
    """
    accepted = request.headers.get("accept", "").lower()
    if accepted.count(",") >= MAX_MEDIA_RANGES:
        raise Problem(HEADER_TOO_LONG, f"The header Accept has more than {MAX_MEDIA_RANGES} ranges.")
    if not accepted.strip():
        return offered[0]
    qualities = {media_type: quality(media_type, accepted) for media_type in offered}
    best = max(offered, key=lambda media_type: qualities[media_type])
    if qualities[best] == 0:
        detail = f"The answer is available as {' or '.join(offered)} only; accept that, or */*."
        raise Problem(NOT_ACCEPTABLE, detail)
    return best


def quality(media_type: str, accepted: str) -> float:
    """Return the quality, 0 to 1, that the most specific matching range of an Accept header gives."""
    ranges = ["*/*", f"{media_type.partition('/')[0]}/*", media_type]
    found = {-1: 0.0}
    for entry in accepted.split(","):
        media_range, _, parameters = entry.partition(";")
        if media_range.strip() in ranges:
            quality = re.search(r"\bq=([01](?:\.[0-9]{0,3})?)\s*$", parameters)
            found[ranges.index(media_range.strip())] = float(quality[1]) if quality else 1.0
    return found[max(found)]


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
