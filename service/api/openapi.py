"""GET /openapi.json: the document that FastAPI generates, the schema of problem documents, and the scopes."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.api.access import PROJECT_HEADER, required_scopes
from service.api.origins import SAFE_METHODS
from service.api.problems import ProblemDocument, refusals


def complete_document(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Add to the OpenAPI document of `app` the schema of problem documents, and who may call what.

    routers: those that `app` includes.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build_document(app, routers)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _build_document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs"), "ProblemDocument": schema}
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _add_access(document["paths"][route.path_format][method.lower()], route, method)
    return document


SECURITY_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `Authorization: Bearer KEY`. `palimpsest keys create` makes one, and "
        "so does POST /v1/keys. Each operation lists the scope that the key needs. A service that listens on "
        "a loopback address needs no key, unless its setting `auth` is `on`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "palimpsest_session",
        "description": "The cookie of a browser that was signed in by POST /v1/session.",
    },
}

PROJECT_PARAMETER = {
    "name": PROJECT_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The name or id of the project that the request is about. Left out: that of the key, or "
    "`default` for a key of the whole deployment.",
}


def _add_access(operation: dict[str, Any], route: APIRoute, method: str) -> None:
    """Add to an operation the scopes it needs, the project header, and the refusals of access."""
    scopes = required_scopes(route.endpoint)
    added = refusals(400, 421) if method in SAFE_METHODS else refusals(400, 403, 415, 421)
    if scopes:
        added |= refusals(401, 403, 404)
        operation["security"] = [{name: [scope]} for scope in scopes for name in SECURITY_SCHEMES]
        operation.setdefault("parameters", []).append(PROJECT_PARAMETER)
    else:
        operation["security"] = []
    for status, described in added.items():
        operation["responses"].setdefault(str(status), described)
