"""What /openapi.json tells about errors: for every operation the statuses and codes it may answer with."""

from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any

from fastapi.routing import APIRoute

from service.api.error_kinds import ErrorKind, all_kinds
from service.api.problems import MEDIA_TYPE, ProblemDocument
from service.api.refusals import Refusals, refusals_of
from service.requests.rules import GENERAL

Operation = tuple[APIRoute, str, dict[str, Any]]
"""A route, one of its methods, and what the document tells about both."""


def describe_refusals(document: dict[str, Any], operations: Sequence[Operation]) -> None:
    """Add to every operation the responses with which it may refuse a request.

    The response that most operations have for a status is described once, in the components; those operations
    refer to it.
    """
    components = document["components"]
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= {**schema.pop("$defs"), "ProblemDocument": schema}
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422, which this service has not
        components["schemas"].pop(unused, None)
    components["examples"] = {_example_name(kind): _example(kind) for kind in all_kinds()}
    described = [
        (operation, _responses(refusals_of(route, method))) for route, method, operation in operations
    ]
    components["responses"] = shared = _most_frequent([responses for _, responses in described])
    names = {str(response): name for name, response in shared.items()}
    for operation, responses in described:
        operation["responses"].pop("422", None)  # FastAPI's own
        for status, response in responses.items():
            own = operation["responses"].get(
                status
            )  # such as the 503 of /readyz, which is no problem document
            if own is not None:
                own["content"] |= response["content"]
            elif str(response) in names:
                reference = {"$ref": f"#/components/responses/{names[str(response)]}"}
                operation["responses"][status] = reference
            else:
                operation["responses"][status] = response
        operation["responses"] = dict(sorted(operation["responses"].items()))


def codes_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[int, set[str]]:
    """Return {status: codes} of the errors that a finished document tells of an operation."""
    found = {}
    for status, response in operation["responses"].items():
        name = response.get("$ref", "").removeprefix("#/components/responses/")
        content = (document["components"]["responses"][name] if name else response).get("content", {})
        if MEDIA_TYPE in content:
            found[int(status)] = set(content[MEDIA_TYPE]["examples"])
    return found


def _responses(refusals: Refusals) -> dict[str, dict[str, Any]]:
    """Return {status: response}."""
    found = {}
    for status, group in groupby(refusals.kinds, key=lambda kind: kind.status):
        kinds = list({kind.code: kind for kind in group}.values())
        examples = {kind.code: {"$ref": f"#/components/examples/{_example_name(kind)}"} for kind in kinds}
        schema = {"$ref": "#/components/schemas/ProblemDocument"}
        found[str(status)] = {
            "description": _describe(status, [kind.code for kind in kinds], refusals),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
    return found


def _describe(status: int, codes: Sequence[str], refusals: Refusals) -> str:
    listed = ", ".join(f"`{code}`" for code in codes if code not in refusals.rules)
    if status != HTTPStatus.UNPROCESSABLE_ENTITY:
        return f"{HTTPStatus(status).phrase}: {listed}"
    text = f"A value breaks the rule of its field: {listed}"
    if not refusals.rules:
        return text
    rules = "\n".join(f"- `{code}`: {rule}" for code, rule in refusals.rules.items())
    return f"{text}. Or one of these:\n\n{rules}"


def _most_frequent(described: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return {name: the response that most operations have for one status}."""
    counts: Counter[tuple[str, str]] = Counter()
    responses = {}
    for one in described:
        for status, response in one.items():
            counts[status, str(response)] += 1
            responses[str(response)] = response
    found: dict[str, dict[str, Any]] = {}
    for (status, text), count in counts.most_common():
        name = HTTPStatus(int(status)).phrase.title().replace(" ", "").replace("-", "")
        if count > 1:
            found.setdefault(name, responses[text])
    return dict(sorted(found.items()))


def _example_name(kind: ErrorKind) -> str:
    return f"{kind.code}_{kind.status}"


def _example(kind: ErrorKind) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": f"{kind.cause} {kind.cure}",
        "instance": "/v1/models/digits",
        "code": kind.code,
        "request_id": "req_01JZ8QB1T3M8P0T4N6R9V1X3Y7",
    }
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        pointer = "/name" if kind.code in GENERAL else ""
        value["errors"] = [{"pointer": pointer, "code": kind.code, "detail": kind.cause}]
    return {"summary": kind.cause, "value": value}
