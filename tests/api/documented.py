"""A check of every answer that a test of the API gets: an error has a status and a code that are documented.

tests/api/serving.py gives it to each client as a hook, so that each test also tests /openapi.json.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import httpx2

from service.api.app import create_app
from service.api.documented_errors import codes_of
from service.settings import Settings

UNROUTED = {"route_not_found", "method_not_allowed"}
"""Codes of requests that belong to no operation."""


def check_documented(response: httpx2.Response) -> None:
    """Fail if the answer is an error whose operation does not document its status and its code."""
    method, path = response.request.method, response.request.url.raw_path.partition(b"?")[0].decode()
    if response.headers.get("content-type") != "application/problem+json" or method == "HEAD":
        return
    response.read()
    problem = response.json()
    found = _find_codes(method, path)
    if found is None or problem["code"] in UNROUTED:
        return
    assert problem["code"] in found.get(problem["status"], ()), (
        f"{method} {path} answers {problem['status']} {problem['code']}, which its endpoint does not declare "
        "(service/api/refusals.py)"
    )


def find_operation(method: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the id of the operation of a request, and {name: value} of the parameters in its path."""
    for operation in _operations():
        if found := operation.pattern.fullmatch(f"{method} {path}"):
            return operation.id, found.groupdict()
    raise LookupError(f"{method} {path} is no operation of the document")


class _Operation(NamedTuple):
    id: str
    pattern: re.Pattern[str]
    codes: dict[int, set[str]]


def _find_codes(method: str, path: str) -> dict[int, set[str]] | None:
    for operation in _operations():
        if operation.pattern.fullmatch(f"{method} {path}"):
            return operation.codes
    return None


@cache
def _operations() -> list[_Operation]:
    """Return every operation of the document, those with the most specific paths first."""
    document = create_app(Settings(home=Path("/nonexistent"))).openapi()
    return [
        _Operation(
            operation["operationId"],
            re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(f"{method.upper()} {path}"))),
            codes_of(document, operation),
        )
        for path, methods in sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
        for method, operation in methods.items()
    ]
