"""What every operation may refuse a request with: declared at endpoints, and collected for /openapi.json.

`@refuses(UnknownModel, invalid_text=TEXT_RULE)` at an endpoint names the errors of its own work, and those
rules of its fields that no schema can tell. Dependencies, such as the one that reads an idempotency key,
declare theirs in the same way. What every route checks (service/api/route.py, middleware, the HTTP protocol)
is added here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from service.api import error_kinds as kinds
from service.api.access import required_scopes
from service.api.error_kinds import ErrorKind, Refusal, kind_of, rule_kind
from service.api.origins import SAFE_METHODS
from service.registry.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactUnreadable,
    DatabaseUnavailable,
    StorageFull,
    UnknownProject,
    UnstorableText,
    VersionDeleted,
    VersionPurged,
    VersionRevoked,
)
from service.requests.rules import GENERAL

Declared = TypeVar("Declared", bound=Callable[..., object])

READS_FILES = (ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt)
"""What an endpoint declares that reads an artifact."""
NEEDS_USABLE_VERSION = (VersionRevoked, VersionPurged, VersionDeleted)
"""What an endpoint declares that draws from a version, or downloads its files."""


@dataclass(frozen=True)
class Refusals:
    """What an endpoint, or a dependency of endpoints, declares."""

    kinds: tuple[ErrorKind, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    """{code: when the endpoint refuses a request with it}, all with 422."""


def refuses(*refusals: Refusal, **rules: str) -> Callable[[Declared], Declared]:
    """Declare what an endpoint or a dependency may refuse a request with.

    refusals: error classes of the registry, and kinds of service/api/error_kinds.py.
    rules: {code of service/requests/rules.py: when it is broken}.
    """
    declared = Refusals((*(kind_of(one) for one in refusals), *(rule_kind(code) for code in rules)), rules)

    def declare(target: Declared) -> Declared:
        setattr(target, "refusals", declared)  # noqa: B010 (mypy knows no such attribute)
        return target

    return declare


EVERYWHERE: tuple[Refusal, ...] = (
    kinds.INVALID_HTTP,
    kinds.INCOMPLETE_BODY,
    kinds.UPGRADE_NOT_SUPPORTED,
    kinds.INVALID_HOST,
    kinds.TOO_MANY_PARAMETERS,
    kinds.HEADER_TOO_LONG,
    kinds.HEADER_NOT_SUPPORTED,
    kinds.NOT_ACCEPTABLE,
    kinds.REQUEST_TIMEOUT,
    kinds.PRECONDITION_FAILED,
    kinds.URI_TOO_LONG,
    kinds.UNSUPPORTED_CONTENT_ENCODING,
    kinds.HOST_NOT_ALLOWED,
    kinds.RATE_LIMITED,
    kinds.PIPELINE_TOO_LONG,
    kinds.HEADERS_TOO_LARGE,
    kinds.INTERNAL_ERROR,
    kinds.UNSUPPORTED_TRANSFER_ENCODING,
    kinds.STORAGE_UNAVAILABLE,
    kinds.TOO_MANY_CONNECTIONS,
    kinds.HTTP_VERSION_NOT_SUPPORTED,
    DatabaseUnavailable,
    StorageFull,
    UnstorableText,
    *(rule_kind(code) for code in GENERAL),
)
"""What any request may be refused with."""

WITH_SCOPES: tuple[Refusal, ...] = (
    kinds.AUTH_REQUIRED,
    kinds.INVALID_API_KEY,
    kinds.INSUFFICIENT_SCOPE,
    kinds.REPEATED_HEADER,
    UnknownProject,
)
WITH_JSON: tuple[Refusal, ...] = (
    kinds.INVALID_JSON,
    kinds.BODY_REQUIRED,
    kinds.JSON_TOO_DEEP,
    kinds.PAYLOAD_TOO_LARGE,
    kinds.UNSUPPORTED_MEDIA_TYPE,
)
"""What a request is refused with whose body is JSON, or should be empty."""


def refusals_of(route: APIRoute, method: str) -> Refusals:
    """Return everything that an operation may refuse a request with."""
    found: list[Refusal] = [*EVERYWHERE]
    if required_scopes(route.endpoint):
        found += WITH_SCOPES
    if method not in SAFE_METHODS:
        found += [kinds.CROSS_SITE_REQUEST, *WITH_JSON]
    if not takes_header(route.dependant, "Idempotency-Key"):
        found.append(kinds.IDEMPOTENCY_KEY_NOT_SUPPORTED)
    declared = list(_declared(route.dependant))
    rules = {code: rule for one in declared for code, rule in one.rules.items()}
    every = {*(kind_of(one) for one in found), *(kind for one in declared for kind in one.kinds)}
    return Refusals(tuple(sorted(every, key=lambda kind: (kind.status, kind.code))), rules)


def takes_header(dependant: Dependant, name: str) -> bool:
    """Whether the endpoint or one of its dependencies declares this header."""
    declared = any(one.alias.lower() == name.lower() for one in dependant.header_params)
    return declared or any(takes_header(one, name) for one in dependant.dependencies)


def _declared(dependant: Dependant) -> Iterator[Refusals]:
    """Yield what an endpoint and its dependencies declare."""
    call: Any = dependant.call
    declared = getattr(call, "refusals", None)
    if isinstance(declared, Refusals):
        yield declared
    for one in dependant.dependencies:
        yield from _declared(one)
