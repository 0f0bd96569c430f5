"""A check of every answer that a test of the API gets: its status, error code and headers are documented.

tests/api/serving.py gives it to each client as a hook, so that each test also tests /openapi.json.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from service.api.app import create_app
from service.api.documented_errors import codes_of
from service.api.documented_headers import HEADERS
from service.settings import Settings

UNROUTED = {"route_not_found", "method_not_allowed"}
"""Codes of requests that belong to no operation."""


def check_documented(response: httpx2.Response) -> None:
    """Fail if the operation does not document the status of the answer, its headers, or its error code."""
    method, path = response.request.method, response.request.url.raw_path.partition(b"?")[0].decode()
    if method == "HEAD":
        return
    operation = next((one for one in _operations() if one.pattern.fullmatch(f"{method} {path}")), None)
    if operation is None:
        return
    if response.headers.get("content-type") == "application/problem+json":
        response.read()
        problem = response.json()
        if problem["code"] in UNROUTED:
            return
        assert problem["code"] in operation.codes.get(problem["status"], ()), (
            f"{method} {path} answers {problem['status']} {problem['code']}, which its endpoint does not "
            "declare (service/api/refusals.py)"
        )
        where = f"{method} {path} answers 422 {problem['code']} without saying in `errors` where it is wrong"
        assert problem["status"] != 422 or problem.get("errors"), where
    documented = operation.headers.get(response.status_code)
    assert documented is not None, f"{method} {path} answers {response.status_code}, which is not documented"
    undocumented = {name for name in HEADERS if name in response.headers} - documented
    assert not undocumented, (
        f"{method} {path} answers {response.status_code} with the headers {undocumented}, of which "
        "service/api/documented_headers.py says nothing"
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
    headers: dict[int, set[str]]
    """{status: names of headers}."""


def find_reference(document: dict[str, Any], described: dict[str, Any]) -> dict[str, Any] | None:
    """Return the response that this one refers to, if it does."""
    name = described.get("$ref", "").removeprefix("#/components/responses/")
    found: dict[str, Any] | None = document["components"]["responses"].get(name)
    return found


@cache
def _operations() -> list[_Operation]:
    """Return every operation of the document, those with the most specific paths first."""
    document = create_app(Settings(home=Path("/nonexistent"))).openapi()
    return [
        _Operation(
            operation["operationId"],
            re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(f"{method.upper()} {path}"))),
            codes_of(document, operation),
            {
                int(status): set((find_reference(document, response) or response)["headers"])
                for status, response in operation["responses"].items()
            },
        )
        for path, methods in sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
        for method, operation in methods.items()
    ]
