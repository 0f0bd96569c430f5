"""Answer every error with problem+json (RFC 9457)."""

import logging
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.api.error_kinds import (
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    ROUTE_NOT_FOUND,
    STATUS,
    STORAGE_UNAVAILABLE,
    ErrorKind,
    kind_of,
    rule_kind,
)
from service.durable import DISK_FAILED, DISK_FULL
from service.logs import without_secrets
from service.registry.errors import (
    IdempotencyKeyReused,
    LabelForgotten,
    LabelNotLearned,
    RegistryError,
    StorageFull,
)
from service.registry.store import StoreFailed
from service.requests.rules import RULES
from service.requests.violations import InvalidRequest, Violation, escape

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_SECONDS = {429: "2", 503: "2"}
"""The Retry-After header of answers with these statuses."""
RETRY_AFTER_SECONDS_OF = {"idempotency_in_flight": "1", "forget_unfinished": "2"}
"""The Retry-After header of answers with these codes."""
MAX_VIOLATIONS = 20
"""The most violations in one answer. Further ones are left out, so that the answer stays short."""


class Problem(Exception):
    """An error that the HTTP layer itself answers a request with."""

    def __init__(
        self,
        kind: ErrorKind,
        detail: str,
        *,
        violations: tuple[Violation, ...] = (),
        pointers: Sequence[str] = ("",),
        headers: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> None:
        """pointers: what a 422 without violations is about; by default the whole body."""
        super().__init__(detail)
        if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY and not violations:
            violations = tuple(Violation(pointer, kind.code, detail) for pointer in pointers)
        self.kind = kind
        self.detail = detail
        self.violations = violations
        self.job_id = job_id
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        return self.kind.status

    @property
    def code(self) -> str:
        return self.kind.code


class ProblemViolation(BaseModel):
    """A rule that a request breaks."""

    pointer: str = Field(
        description="A JSON pointer into the body; empty for the whole body. Parameters are at /query/NAME, "
        "/path/NAME and /header/NAME."
    )
    code: str = Field(description="The stable name of the rule.")
    detail: str = Field(description="What is wrong, and how to correct it.")


class ProblemDocument(BaseModel):
    """An error (RFC 9457), with the further fields `code`, `request_id`, `errors` and `job`."""

    type: str = Field(
        description="A path of this service: what it says about the code, with its cause and its cure."
    )
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="The stable name of the error. `type` and `title` are derived from it.")
    request_id: str = Field(description="The id under which the service's log has this request.")
    errors: list[ProblemViolation] | None = Field(None, description="Each rule that the request breaks.")
    job: str | None = Field(
        None,
        description="The job that the error is about, such as the one that learned or forgot the label.",
    )


def install_handlers(app: FastAPI) -> None:
    """Install error handlers in `app` that answer every error with problem+json."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RegistryError, _answer_registry_error)
    app.add_exception_handler(OSError, _answer_os_error)
    app.add_exception_handler(InvalidRequest, _answer_invalid_request)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)


def answer(request: Request, problem: Problem) -> JSONResponse:
    """Return the problem as a response."""
    content = document(problem, instance=request.url.path, request_id=request.state.request_id)
    return JSONResponse(content, problem.status, headers_of(problem), MEDIA_TYPE)


def headers_of(problem: Problem) -> dict[str, str]:
    """Return the headers of a problem's answer."""
    pause = RETRY_AFTER_SECONDS_OF.get(problem.code) or RETRY_AFTER_SECONDS.get(problem.status)
    waiting = {"Retry-After": pause} if pause else {}
    return {**waiting, **problem.headers, "Cache-Control": "no-store"}


def document(problem: Problem, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return the JSON document of a problem (ProblemDocument), without the secret of an API key.

    instance: the path of the request.
    """
    content: dict[str, Any] = {
        "type": problem.kind.type,
        "title": problem.kind.title,
        "status": problem.status,
        "detail": _make_sentence(without_secrets(problem.detail)),
        "instance": without_secrets(instance),
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.violations:
        content["errors"] = [
            {name: without_secrets(value) for name, value in vars(violation).items()}
            for violation in problem.violations
        ]
    if problem.job_id:
        content["job"] = problem.job_id
    return content


def internal_error(request: Request) -> JSONResponse:
    """Return the 500 for an unexpected error. Only the log has its traceback, under the request id."""
    detail = "An unexpected error happened in the server. Its log has the reason under this request id."
    return answer(request, Problem(INTERNAL_ERROR, detail))


def build_validation_problem(*violations: Violation) -> Problem:
    """Return the 422 for these violations. Its code is the one that all of them share, or validation_failed.

    Long texts are shortened, and violations beyond MAX_VIOLATIONS are left out.
    """
    shown = tuple(
        Violation(_shorten(each.pointer), each.code, _shorten(each.detail))
        for each in violations[:MAX_VIOLATIONS]
    )
    codes = {violation.code for violation in violations}
    whole_document = any(violation.pointer == "" for violation in violations)
    code = codes.pop() if len(codes) == 1 and not whole_document else "validation_failed"
    return Problem(rule_kind(code), "; ".join(each.detail for each in shown[:3]), violations=shown)


def _make_sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop, as the messages of the registry do not."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…")) else ".")


def _shorten(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


async def _answer_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return answer(request, error)


async def _answer_registry_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RegistryError)
    return answer_registry_error(request, error)


def answer_registry_error(request: Request, error: RegistryError) -> JSONResponse:
    """Return the error as a response."""
    if error.code not in STATUS:
        log.error(
            "request %s: the registry error %s has no HTTP status; add it to STATUS",
            request.state.request_id,
            error.code,
            exc_info=error,
        )
        return internal_error(request)
    kind = kind_of(type(error))
    if kind.status >= 500:
        log.error("request %s: %s %s", request.state.request_id, error, getattr(error, "reason", ""))
    job_id = getattr(error, "job_id", None)
    return answer(request, Problem(kind, str(error), pointers=_pointers(request, error), job_id=job_id))


def _pointers(request: Request, error: RegistryError) -> Sequence[str]:
    """Return what in the request an error is about: a header, the label in the path, or some in the body."""
    if isinstance(error, IdempotencyKeyReused):
        return ["/header/idempotency-key"]
    if not isinstance(error, LabelNotLearned | LabelForgotten):
        return [""]
    if "label" in request.path_params:
        return ["/path/label"]
    body = getattr(request.state, "json", None)
    names = body.get("labels") if isinstance(body, dict) else None
    found = [f"/labels/{i}" for i, name in enumerate(names or ()) if name in error.labels]
    return found[:MAX_VIOLATIONS] or [""]


async def _answer_os_error(request: Request, error: Exception) -> JSONResponse:
    """Answer 507 if there was no space for a file, 503 if the disk fails; other errors are unexpected."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        full = "The disk" if not isinstance(error, StoreFailed) else "The artifact store"
        detail = f"{full} is too full to store this; free some space there, then send the request again."
        return answer(request, Problem(kind_of(StorageFull), detail))
    if isinstance(error, OSError) and error.errno in DISK_FAILED:
        log.error("request %s: a disk of the service fails: %s", request.state.request_id, error)
        place, reason = "A disk of the service", os.strerror(error.errno)
        if isinstance(error, StoreFailed):
            place, reason = "The artifact store", error.strerror or reason
        detail = f"{place} cannot be used now ({reason}). Nothing was stored; try again later."
        return answer(request, Problem(STORAGE_UNAVAILABLE, detail))
    raise error


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidRequest)
    return answer(request, build_validation_problem(*error.violations))


async def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return answer(request, build_validation_problem(*(_violation(entry) for entry in error.errors())))


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this URL; /docs lists the URLs of the API."
        return answer(request, Problem(ROUTE_NOT_FOUND, detail))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed_methods(request))
        detail = f"This URL does not allow the method {request.method}; it allows: {allowed}."
        return answer(request, Problem(METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed}))
    phrase = HTTPStatus(error.status_code).phrase
    kind = ErrorKind(error.status_code, phrase.lower().replace(" ", "_"), phrase, "")
    return answer(request, Problem(kind, phrase))


def _allowed_methods(request: Request) -> list[str]:
    matching = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return ["HEAD", *matching] if "GET" in matching else matching


_CODES = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "too_long": "out_of_range",
    "too_short": "out_of_range",
    "string_too_long": "out_of_range",
    "string_too_short": "out_of_range",
    "finite_number": "out_of_range",
    "literal_error": "unknown_value",
    "enum": "unknown_value",
}
"""{error type of pydantic: code}. The validators of this service raise codes of
RULES themselves. Any other type is `wrong_type`."""

_MESSAGES = {
    "missing": "this field is required",
    "extra_forbidden": "there is no such field; /docs lists the fields",
    "model_attributes_type": "send a JSON object",
    "dict_type": "send a JSON object",
}


def _violation(entry: Mapping[str, Any]) -> Violation:
    kind = str(entry["type"])
    place, *steps = entry["loc"]
    prefix = [] if place == "body" else [str(place)]
    pointer = "".join("/" + escape(str(step)) for step in [*prefix, *steps])
    code = kind if kind in RULES else _CODES.get(kind, "wrong_type")
    return Violation(pointer, code, f"{pointer or 'the body'}: {_MESSAGES.get(kind, entry['msg'])}")
