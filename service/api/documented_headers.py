"""What /openapi.json tells about headers: those of answers, and those that every request may have.

Which answers have a header follows from rules, and not from the endpoints. A test compares every answer
that a test of the API gets with what the document tells (tests/api/documented.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi.routing import APIRoute

from service.api.documented_errors import Operation
from service.api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, RETRY_AFTER_SECONDS_OF
from service.api.refusals import takes_header
from service.api.responses import VERSION_HEADER


class _Header(NamedTuple):
    """A header of answers, and which have it."""

    description: str
    schema: Mapping[str, Any]
    is_in: Callable[["_Answer"], bool]


class _Answer(NamedTuple):
    """What an operation answers with one status."""

    route: APIRoute
    method: str
    status: str
    schema: str
    """The name of the schema of its JSON; empty if it has none."""
    codes: frozenset[str]
    """The codes of errors with this status."""
    statuses: frozenset[str]
    """All statuses of the operation."""

    @property
    def is_success(self) -> bool:
        return self.status < "300"

    @property
    def is_made_with_version(self) -> bool:
        """Whether it is an answer other than JSON that is made from a version that the path names."""
        return "/versions/{number}" in self.route.path and self.status in ("200", "206") and not self.schema

    def takes(self, header: str) -> bool:
        return takes_header(self.route.dependant, header)


TEXT = {"type": "string"}
PATH = {"type": "string", "format": "uri-reference"}
SESSION, SAMPLES = ("open_session", "end_session"), ("create_sample", "get_sample_images")
MADE_WITH_VERSION = (*SAMPLES, "get_shard", "get_manifest")
FOLLOWED = ("JobObject", "ExportObject")
"""The schemas of what clients poll until it is done."""

HEADERS: dict[str, _Header] = {
    "X-Request-Id": _Header(
        "The id under which the service's log has this request.", TEXT, lambda answer: True
    ),
    "Location": _Header(
        "Where the resource of the answer is.",
        PATH,
        lambda answer: (
            answer.status == "307"
            or (
                answer.is_success
                and answer.route.name not in SESSION
                and (answer.route.name == "create_sample" or not answer.statuses.isdisjoint(("201", "202")))
                and answer.status != "204"
            )
        ),
    ),
    "Retry-After": _Header(
        "How many seconds to wait before the next request. A job that is done has none.",
        {"type": "integer", "minimum": 0},
        lambda answer: (
            answer.status in ("202", *map(str, RETRY_AFTER_SECONDS))
            or not answer.codes.isdisjoint(RETRY_AFTER_SECONDS_OF)
            or (answer.method == "GET" and answer.status == "200" and answer.schema in FOLLOWED)
        ),
    ),
    "ETag": _Header(
        "Stands for the answer, or for the resource: send it in If-None-Match or If-Match.",
        TEXT,
        lambda answer: (
            (answer.method == "GET" and answer.status in ("200", "206", "307"))
            or (answer.is_success and answer.takes("If-Match") and bool(answer.schema))
        ),
    ),
    "Link": _Header(
        'The next page of the list (RFC 8288), with `rel="next"`. The last page has none.',
        TEXT,
        lambda answer: answer.schema.startswith("Listing"),
    ),
    "Idempotency-Replayed": _Header(
        "`true` if the request was answered before, and nothing was done again.",
        {"type": "string", "enum": ["true"]},
        lambda answer: answer.is_success and answer.takes("Idempotency-Key"),
    ),
    "Preference-Applied": _Header(
        "`wait=N`: the answer waited for the job, N seconds at most (RFC 7240).",
        TEXT,
        lambda answer: answer.is_success and answer.takes("Prefer"),
    ),
    "X-Sample-Id": _Header(
        "The id of the recorded sample.",
        TEXT,
        lambda answer: answer.is_success and answer.route.name in SAMPLES,
    ),
    "X-Sample-Recorded": _Header(
        "`false` if the disk had no space for the record of the sample.",
        {"type": "string", "enum": ["false"]},
        lambda answer: answer.is_success and answer.route.name == "create_sample",
    ),
    VERSION_HEADER: _Header(
        "The number of the version that the answer was made with.",
        {"type": "integer", "minimum": 1},
        lambda answer: (
            answer.is_made_with_version or (answer.is_success and answer.route.name in MADE_WITH_VERSION)
        ),
    ),
    "Content-Location": _Header(
        "The URL with the number of the version, where the request named it by an alias or as `head`.",
        PATH,
        lambda answer: answer.is_made_with_version,
    ),
    "Content-Range": _Header(
        "Which bytes of the file these are.", TEXT, lambda answer: answer.status in ("206", "416")
    ),
    "WWW-Authenticate": _Header(
        "How to send a key (RFC 6750).", TEXT, lambda answer: answer.status in ("401", "403")
    ),
}


def _request_header(name: str, description: str, **schema: str) -> dict[str, Any]:
    """Return what the document says of a header that a request may have."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "schema": {"type": "string", **schema},
        "description": description,
    }


REQUEST_ID_PARAMETER = _request_header(
    "X-Request-Id",
    "The client's own id of the request. The answer and the log have it. Another text than this is replaced "
    "by a new id.",
    pattern="^[A-Za-z0-9._:-]{1,128}$",
)
TRACE_PARAMETER = _request_header(
    "traceparent",
    "The trace that the request belongs to (W3C Trace Context). The log has its id. A malformed one is "
    "ignored.",
)
CONDITION_PARAMETER = _request_header(
    "If-None-Match",
    "The ETag of an earlier answer. If this one would be the same, it is 304 without a body.",
)
RANGE_PARAMETER = _request_header(
    "Range", "`bytes=FIRST-LAST`: one range of the file (RFC 9110, section 14)."
)


def describe_headers(document: dict[str, Any], operations: Sequence[Operation]) -> None:
    """Add the headers of its answers and requests to every operation, and the answer 304 where it is sent."""
    components = document["components"]
    components["headers"] = {
        name: {"description": header.description, "schema": dict(header.schema)}
        for name, header in HEADERS.items()
    }
    shared = components["responses"]
    for route, method, operation in operations:
        responses = operation["responses"]
        for status, response in responses.items():
            documented = shared.get(_last(response), response)
            content = documented.get("content", {})
            documented["headers"] = _headers_of(
                _Answer(
                    route,
                    method,
                    status,
                    _last(content.get("application/json", {}).get("schema", {})),
                    frozenset(content.get(MEDIA_TYPE, {}).get("examples", ())),
                    frozenset(responses),
                )
            )
        if method == "GET" and "200" in responses:
            unchanged = "Nothing has changed since the answer whose ETag is in If-None-Match."
            responses["304"] = {"description": unchanged, "headers": responses["200"]["headers"]}
            operation["responses"] = dict(sorted(responses.items()))
        operation.setdefault("parameters", []).extend(_parameters(responses))


def _headers_of(answer: _Answer) -> dict[str, dict[str, str]]:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name, header in HEADERS.items()
        if header.is_in(answer)
    }


def _last(described: Mapping[str, Any]) -> str:
    """Return the name that a reference ends with; empty if it is none."""
    return str(described.get("$ref", "")).rpartition("/")[2]


def _parameters(responses: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the headers that a request may have, besides those that its endpoint declares."""
    found = [REQUEST_ID_PARAMETER, TRACE_PARAMETER]
    if "304" in responses:
        found.append(CONDITION_PARAMETER)
    if "206" in responses:
        found.append(RANGE_PARAMETER)
    return found
