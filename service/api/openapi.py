"""GET /openapi.json: the document that FastAPI generates, the schema of problem documents, and the scopes."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.api.access import PROJECT_HEADER, required_scopes
from service.api.bodies import MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_JSON_ITEMS, MAX_OPEN_BODY_BYTES
from service.api.documented_errors import describe_refusals
from service.api.documented_examples import add_examples
from service.api.documented_headers import describe_headers
from service.api.webhook_messages import describe_webhooks
from service.requests.catalog import Catalog
from service.requests.fields import ALIAS, HEAD, JOB_ID, MAX_SEED, NAME, NUMBER, SAMPLE_ID, schema_of


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
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    described = list(_operations(document, routers))
    for route, _, operation in described:
        _add_access(operation, route)
        operation["summary"] = _first_sentence(operation["description"])
        _describe_path_parameters(operation)
        _describe_body(operation, route)
    describe_refusals(document, described)
    describe_headers(document, described)
    operations = {route.name: operation for route, _, operation in described}
    _name_operations(document["paths"])
    add_examples(document["paths"])
    document["servers"] = [{"url": "/", "description": "The service that serves this document."}]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    describe_webhooks(document)
    _name_the_catalog(document["components"]["schemas"], app.state.context.catalog)
    _add_links(operations)
    return document


def _operations(
    document: dict[str, Any], routers: Sequence[APIRouter]
) -> Iterator[tuple[APIRoute, str, dict[str, Any]]]:
    """Yield every route that the document describes, with its method and its part of the document."""
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                yield route, method, document["paths"][route.path_format][method.lower()]


TAGS = {
    "models": "Models, and their deletion.",
    "operations": "Learn, forget, resize and evaluate: each makes a job.",
    "reports": "What was measured: reports, relapses and comparisons.",
    "versions": "Published versions, their ancestry and their files.",
    "aliases": "Names of versions, with their history.",
    "images": "Images as a pure function of their address.",
    "samples": "Recorded requests for images.",
    "exports": "Many images in files, drawn by workers.",
    "jobs": "Jobs, their events and their receipts.",
    "catalog": "What a request may name: datasets, strategies, networks.",
    "projects": "What models, datasets, samples and keys belong to.",
    "keys": "API keys, sessions, and the keys that sign receipts.",
    "webhooks": "Signed messages about what happens in a project.",
    "audit": "Who requested what, and what became of it.",
    "health": "Whether the service runs, and how it does.",
}
"""{tag: what its operations are about}, in the order of the document."""

VERBS = {"get": "get", "post": "create", "put": "put", "patch": "update", "delete": "delete"}


def _name_operations(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Give every operation a name: `RESOURCE.VERB`, by one rule.

    The resource is the last segment of the path that a parameter follows, or the last segment of all if it
    is a collection that is listed or added to. The verb is the segment after the resource's parameter, such
    as `learn`; else it follows from the method. The GET of a collection is `list`, and any other is `get`.
    """
    split = {path: path.removeprefix("/v1").strip("/").split("/") for path in paths}
    collections = {
        segment
        for segments in split.values()
        for segment, following in pairwise(segments)
        if following.startswith("{") and not segment.startswith("{")
    }
    for path, operations in paths.items():
        for method, operation in operations.items():
            operation["operationId"] = _name(split[path], collections, method, operation)


def _name(segments: Sequence[str], collections: Collection[str], method: str, operation: Any) -> str:
    """Return the name of one operation. See _name_operations."""
    content = operation["responses"].get("200", {}).get("content", {})
    is_list = method == "get" and "Listing" in str(content.get("application/json", {}))
    if segments[-1] in collections and (is_list or method != "get"):
        resource, rest = segments[-1], []
    else:
        followed = [i for i, one in enumerate(segments[1:]) if one.startswith("{") and segments[i][0] != "{"]
        place = followed[-1] if followed else 0
        resource = segments[place]
        rest = [one for one in segments[place + 1 :] if not one.startswith("{")]
    verb = "_".join(rest) or ("list" if is_list else VERBS[method])
    return f"{resource}.{verb}".replace("-", "_")


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
    "schema": {"type": "string", **schema_of(NAME)},
    "description": "The name or id of the project that the request is about. Left out: that of the key, or "
    "`default` for a key of the whole deployment.",
}


PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "model": {"description": "The name or id of a model.", "schema": schema_of(NAME)},
    "project": {"description": "The name or id of a project.", "schema": schema_of(NAME)},
    "dataset": {"description": "The name of a dataset.", "schema": schema_of(NAME)},
    "number": {
        "description": "The number of a version, an alias of it, or `head` for the newest version.",
        "schema": {"pattern": f"^(?:{NUMBER.pattern}|{HEAD}|{ALIAS.pattern})$"},
    },
    "alias": {"description": "The name of an alias.", "schema": schema_of(ALIAS)},
    "job": {"description": "The id of a job.", "schema": schema_of(JOB_ID)},
    "sample": {"description": "The id of a sample.", "schema": schema_of(SAMPLE_ID)},
    "key": {"description": "The id of a key."},
    "webhook": {"description": "The id of a webhook."},
    "delivery": {"description": "The id of a message of the webhook."},
    "name": {"description": "The name of a file, as the version lists it."},
    "label": {"description": "The name of a label."},
    "seed": {"description": "The seed of the first image.", "schema": {"minimum": 0, "maximum": MAX_SEED}},
}
"""What the document tells about a parameter of a path, by its name. Other texts are answered with 404."""


def _describe_body(operation: dict[str, Any], route: APIRoute) -> None:
    """Tell how large the body of a request may be."""
    body = operation.get("requestBody")
    if body is None or "application/json" not in body["content"]:
        return
    most = MAX_BODY_BYTES if required_scopes(route.endpoint) else MAX_OPEN_BODY_BYTES
    body["description"] = (
        f"At most {most:,} bytes of JSON, {MAX_JSON_DEPTH} levels of nested objects and arrays, and "
        f"{MAX_JSON_ITEMS} items in each."
    )
    if not body.get("required"):
        body["description"] += " An empty body stands for `{}`."
    body["content"]["application/json"]["schema"].pop("default", None)  # generators refuse it beside a $ref


def _first_sentence(text: str) -> str:
    """Return the first sentence on one line, without its full stop."""
    return re.split(r"(?<=\w)\.(?:\s|$)|\n\n", text, maxsplit=1)[0].replace("\n", " ").rstrip(".:")


def _describe_path_parameters(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        described = PATH_PARAMETERS.get(parameter["name"]) if parameter["in"] == "path" else None
        if described:
            parameter["schema"] |= described.get("schema", {})
            parameter.setdefault("description", described["description"])


def _name_the_catalog(schemas: dict[str, Any], catalog: Catalog) -> None:
    """Add to the schemas of requests the names that the catalog offers."""
    policies = sorted({one.policy for one in catalog.strategies if one.policy is not None})
    for operation, bodies in BODIES.items():
        names = sorted({one.name for one in catalog.strategies if one.operation == operation})
        params = _params_of(schemas, operation, catalog)
        for body in bodies:
            properties = schemas[body]["properties"]
            if "policy" in properties:
                properties["policy"]["enum"] = policies
            if "strategy" in properties:
                text, _ = properties["strategy"]["anyOf"]
                text["enum"] = names
                properties["strategy"]["anyOf"].insert(1, FOREIGN_STRATEGY)
            for key in ("type", "additionalProperties", "default"):  # no default: generators refuse it here
                properties["params"].pop(key, None)
            properties["params"]["anyOf"] = params
    _type_network(schemas, catalog)


BODIES = {
    "learn": ("Learn",),
    "forget": ("Forget",),
    "resize": ("Resize", "FollowingResize"),
    "evaluate": ("Evaluate",),
}
"""The schemas of requests that name a strategy or its params, by operation."""


FOREIGN_STRATEGY = {
    "type": "string",
    **schema_of(NAME),
    "description": "A strategy of another package, which `/v1/catalog` lists with its `package` while a "
    "running worker offers it.",
}
FOREIGN_PARAMS = "ForeignParams"
"""The schema of the params of strategies that other packages bring."""


def _params_of(schemas: dict[str, Any], operation: str, catalog: Catalog) -> list[dict[str, str]]:
    """Add a schema for the params of each strategy of an operation, and return references to them.

    A body may fit several of them, for many strategies have the same params; which one counts follows from
    `strategy`, or from the labels where it is left out. So it is any-of, and not one-of. The last one stands
    for the strategies of other packages.
    """
    named: dict[str, None] = {}
    for strategy in (one for one in catalog.strategies if one.operation == operation):
        words = f"{operation}_{strategy.name}_params".split("_")
        name = "".join(word.capitalize() for word in words)
        schema = deepcopy(strategy.params)
        for inner, definition in schema.pop("$defs", {}).items():
            moved = _moved(definition, name)
            schemas[f"{name}{inner}"] = moved | {"title": f"{name}{inner}"}  # generators use titles as names
        schemas[name] = _moved(schema, name) | {"title": name, "description": strategy.summary}
        named[name] = None
    if operation != "evaluate":
        schemas[FOREIGN_PARAMS] = {
            "title": FOREIGN_PARAMS,
            "type": "object",
            "description": "The params of a strategy of another package. Their schema is in `/v1/catalog`; "
            "this document cannot have it, because what is offered depends on the running workers.",
        }
        named[FOREIGN_PARAMS] = None
    return [{"$ref": f"#/components/schemas/{name}"} for name in named]


FOREIGN_NETWORK = {
    "title": "ForeignNetwork",
    "type": "object",
    "properties": {"architecture": {"type": "string", **schema_of(NAME)}},
    "required": ["architecture"],
    "maxProperties": MAX_JSON_ITEMS,
    "description": "A network that another package brings, with its params. `/v1/catalog` lists it with its "
    "`package` while a running worker offers it, and has the schema of its params.",
}


def _type_network(schemas: dict[str, Any], catalog: Catalog) -> None:
    """Type the network of a model to create by its architecture. The first one is the default."""
    network = schemas["CreateModel"]["properties"]["network"]
    for key in ("type", "additionalProperties", "default"):  # generators refuse a default beside any-of
        network.pop(key, None)
    network["anyOf"] = []
    for place, entry in enumerate(catalog.architectures):
        name = f"{entry.name.capitalize()}Network"
        schema = deepcopy(entry.params)
        for inner, definition in schema.pop("$defs", {}).items():
            schemas[f"{name}{inner}"] = _moved(definition, name) | {"title": f"{name}{inner}"}
        typed = _moved(schema, name) | {"title": name, "description": entry.summary}
        typed["properties"] = {
            "architecture": {"type": "string", "enum": [entry.name]},
            **typed["properties"],
        }
        if place > 0:
            typed["required"] = ["architecture", *typed.get("required", ())]
        schemas[name] = typed
        network["anyOf"].append({"$ref": f"#/components/schemas/{name}"})
    schemas["ForeignNetwork"] = FOREIGN_NETWORK
    network["anyOf"].append({"$ref": "#/components/schemas/ForeignNetwork"})


def _moved(schema: Any, name: str) -> Any:
    """Return the schema with references to its own definitions replaced by those of the document."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, name) for key, value in schema.items()}
        reference = moved.get("$ref", "")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            moved["$ref"] = f"#/components/schemas/{name}{reference.removeprefix('#/$defs/')}"
        return moved
    return [_moved(value, name) for value in schema] if isinstance(schema, list) else schema


LINKS = (
    ("create_model", 201, "model", "$response.body#/id", "get_model", "learn", "forget", "create_sample"),
    ("create_model", 201, "model", "$response.body#/id", "resize", "evaluate", "list_versions"),
    ("learn", 202, "job", "$response.body#/id", "get_job", "cancel_job", "get_report_of_job"),
    ("forget", 202, "job", "$response.body#/id", "get_job", "cancel_job", "get_receipt"),
    ("create_sample", 200, "sample", "$response.header.X-Sample-Id", "get_sample", "get_sample_images"),
    ("create_export", 202, "export", "$response.body#/id", "get_export", "list_shards", "cancel_export"),
    ("create_project", 201, "project", "$response.body#/id", "get_project", "delete_project"),
    ("create_key", 201, "key", "$response.body#/id", "get_key", "revoke_key"),
)
"""(function of an endpoint, status, parameter, where the answer has its value, functions that take it)."""


def _add_links(operations: dict[str, dict[str, Any]]) -> None:
    """Tell which operations take the id of what an operation makes. operations: by their functions."""
    for source, status, parameter, value, *targets in LINKS:
        links = operations[source]["responses"][str(status)].setdefault("links", {})
        for target in targets:
            links[target] = {
                "operationId": operations[target]["operationId"],
                "parameters": {f"path.{parameter}": value},
            }


def _add_access(operation: dict[str, Any], route: APIRoute) -> None:
    """Add to an operation the scopes it needs, and the project header."""
    scopes = required_scopes(route.endpoint)
    operation["security"] = [{name: [scope]} for scope in scopes for name in SECURITY_SCHEMES]
    if scopes:
        operation.setdefault("parameters", []).append(PROJECT_PARAMETER)
