"""The route class of every endpoint. It handles callers, bodies, the Accept header, ETags and 304."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

from service.api.access import NOBODY, PROJECT_HEADER, Access, required_scopes
from service.api.bodies import (
    MAX_BODY_BYTES,
    MAX_OPEN_BODY_BYTES,
    BoundedRequest,
    JsonRequest,
    parse_json,
    refuse_media_type_unless_json,
)
from service.api.error_kinds import (
    HEADER_NOT_SUPPORTED,
    HEADER_TOO_LONG,
    IDEMPOTENCY_KEY_NOT_SUPPORTED,
    NOT_ACCEPTABLE,
    PRECONDITION_FAILED,
)
from service.api.origins import SAFE_METHODS
from service.api.problems import Problem, build_validation_problem
from service.api.refusals import takes_header
from service.api.threads import in_database_thread
from service.registry.errors import UnknownProject
from service.requests.violations import Violation, escape

MAX_MEDIA_RANGES = 100
FOR_ONE_CLIENT = "private, no-cache"
"""Cache-Control: no shared cache may store the answer, and the client's own asks again before it uses it."""
FOR_ONE_MINUTE = "private, max-age=60"
"""For what can only be revoked: where no key is needed, the client's own cache may use it for that long."""
CONDITIONS = ("Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", PROJECT_HEADER)
"""Headers that a client relies on."""
UNLIMITED_PATHS = ("/livez", "/readyz", "/metrics")


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
        refuse_media_type_unless_json(request)


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
