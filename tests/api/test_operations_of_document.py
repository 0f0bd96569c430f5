"""What generated clients read in /openapi.json: names of operations, tags, servers, and typed params."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.api.app import create_app
from service.requests.catalog import read_catalog
from service.settings import Settings
from tests.api.documented import find_reference


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi())


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{METHOD path: operation}."""
    return {
        f"{method.upper()} {path}": operation
        for path, described in document["paths"].items()
        for method, operation in described.items()
    }


def test_every_operation_has_a_readable_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)] == []


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("POST /v1/models", "models.create"),
        ("GET /v1/models", "models.list"),
        ("POST /v1/models/{model}/learn", "models.learn"),
        ("GET /v1/models/{model}/versions", "versions.list"),
        ("GET /v1/models/{model}/versions/{number}", "versions.get"),
        ("GET /v1/models/{model}/versions/{number}/report", "versions.report"),
        ("GET /v1/jobs/{job}", "jobs.get"),
        ("POST /v1/jobs/{job}/retry", "jobs.retry"),
        ("GET /v1/jobs/{job}/events", "jobs.events"),
        ("POST /v1/models/{model}/samples", "samples.create"),
        ("GET /v1/samples/{sample}/images", "samples.images"),
        ("DELETE /v1/datasets/{dataset}/labels/{label}", "labels.delete"),
        ("GET /v1/audit", "audit.list"),
    ],
)
def test_names_follow_from_the_path_and_the_method(
    document: dict[str, Any], operation: str, name: str
) -> None:
    assert operations(document)[operation]["operationId"] == name


def test_every_link_names_an_operation(document: dict[str, Any]) -> None:
    names = {operation["operationId"] for operation in operations(document).values()}
    linked = {
        link["operationId"]
        for operation in operations(document).values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert linked
    assert linked <= names


def test_every_operation_has_examples_that_fit_their_schemas(document: dict[str, Any]) -> None:
    """`make pages` records them anew."""
    problems = []
    for name, operation in operations(document).items():
        answers = [one for status, one in operation["responses"].items() if status < "300"]
        for what in (operation.get("requestBody", {}), *answers):
            shown = {media: one for media, one in what.get("content", {}).items() if "json" in media}
            problems += [f"{name} {what['description']}" for one in shown.values() if not fits(document, one)]
        answered = [one for answer in answers for one in answer.get("content", {}).values()]
        if any("json" in media for answer in answers for media in answer.get("content", {})):
            problems += [] if any("example" in one for one in answered) else [f"{name} shows no answer"]
        parameters = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        problems += [f"{name} {one['name']}" for one in parameters if "example" not in one]
    assert problems == []


def fits(document: dict[str, Any], content: dict[str, Any]) -> bool:
    """Return whether the example of a body has the schema of the body. A body of an answer may have none."""
    schema = {**content["schema"], "components": document["components"]}
    return "example" not in content or Draft202012Validator(schema).is_valid(content["example"])


def test_every_body_to_send_is_shown(document: dict[str, Any]) -> None:
    sent = {
        f"{name} {media_type}": "example" in content
        for name, operation in operations(document).items()
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        if media_type.endswith("json")
    }
    assert len(sent) > 10
    assert [name for name, shown in sent.items() if not shown] == []


def test_every_example_of_an_error_is_a_problem_document(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/ProblemDocument", "components": document["components"]}
    check = Draft202012Validator(schema)
    examples = document["components"]["examples"]
    assert [name for name, one in examples.items() if not check.is_valid(one["value"])] == []


@pytest.mark.parametrize(
    ("operation", "status", "headers"),
    [
        ("POST /v1/models", "201", {"Location", "Idempotency-Replayed"}),
        ("POST /v1/models/{model}/learn", "202", {"Location", "Retry-After", "Preference-Applied"}),
        ("GET /v1/jobs/{job}", "200", {"ETag", "Retry-After"}),
        ("GET /v1/jobs/{job}", "304", {"ETag", "Retry-After"}),
        ("GET /v1/jobs", "200", {"ETag", "Link"}),
        ("POST /v1/models/{model}/samples", "200", {"Location", "X-Sample-Id", "X-Model-Version"}),
        ("GET /v1/models/{model}/versions/{number}/report", "200", {"Content-Location", "X-Model-Version"}),
        ("GET /v1/models/{model}/versions/{number}/files/{name}", "206", {"Content-Range", "ETag"}),
        ("PUT /v1/models/{model}/aliases/{alias}", "201", {"ETag", "Location"}),
        ("GET /v1/models", "503", {"Retry-After"}),
        ("GET /v1/models", "401", {"WWW-Authenticate"}),
        ("POST /v1/models", "409", {"Retry-After"}),
    ],
)
def test_answers_are_documented_with_their_headers(
    document: dict[str, Any], operation: str, status: str, headers: set[str]
) -> None:
    response = operations(document)[operation]["responses"][status]
    found = find_reference(document, response) or response
    assert headers | {"X-Request-Id"} <= set(found["headers"])
    assert all(one["$ref"].endswith(f"/{name}") for name, one in found["headers"].items())
    assert set(found["headers"]) <= set(document["components"]["headers"])


@pytest.mark.parametrize(
    ("operation", "headers"),
    [
        ("GET /livez", {"X-Request-Id", "traceparent", "If-None-Match"}),
        ("POST /v1/models", {"X-Request-Id", "traceparent", "Idempotency-Key", "Palimpsest-Project"}),
        ("POST /v1/models/{model}/learn", {"Prefer"}),
        ("GET /v1/models/{model}/versions/{number}/files/{name}", {"Range", "If-None-Match"}),
        ("GET /v1/jobs/{job}/events", {"Last-Event-ID", "If-None-Match"}),
    ],
)
def test_requests_are_documented_with_their_headers(
    document: dict[str, Any], operation: str, headers: set[str]
) -> None:
    parameters = operations(document)[operation]["parameters"]
    assert headers <= {one["name"] for one in parameters if one["in"] == "header"}
    assert len({(one["name"].lower(), one["in"]) for one in parameters}) == len(parameters)


def test_every_tag_is_described_and_used(document: dict[str, Any]) -> None:
    used = {tag for operation in operations(document).values() for tag in operation["tags"]}
    assert {tag["name"] for tag in document["tags"]} == used
    assert document["servers"]


def test_params_are_typed_by_strategy(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for strategy in read_catalog().strategies:
        name = "".join(
            word.capitalize() for word in f"{strategy.operation}_{strategy.name}_params".split("_")
        )
        offered = schemas[strategy.operation.capitalize()]["properties"]["params"]["anyOf"]
        assert {"$ref": f"#/components/schemas/{name}"} in offered
        check = Draft202012Validator({"$ref": offered[0]["$ref"], "components": document["components"]})
        assert check.is_valid({})
        own = Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        )
        defaults = strategy.complete({})
        assert own.is_valid(defaults), f"{name}: the defaults fit"
        assert not own.is_valid({"no_such_param": 1}), name


def test_the_document_says_how_strategies_of_packages_are_accepted(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for operation in ("Learn", "Forget", "Resize"):
        fields = schemas[operation]["properties"]
        assert any("/v1/catalog" in one.get("description", "") for one in fields["strategy"]["anyOf"])
        assert {"$ref": "#/components/schemas/ForeignParams"} in fields["params"]["anyOf"]


def test_networks_are_typed_by_architecture(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["CreateModel"]["properties"]["network"]
    check = Draft202012Validator({**schema, "components": document["components"]})
    catalog = read_catalog()
    for architecture in catalog.architectures:
        name = f"{architecture.name.capitalize()}Network"
        own = Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        )
        complete = catalog.complete_network({"architecture": architecture.name})
        assert check.is_valid(complete)
        assert own.is_valid(complete)
        assert not own.is_valid(complete | {"no_such_param": 1})
    assert check.is_valid({})
    assert check.is_valid({"architecture": "of-a-package", "depth": 3})
    assert not check.is_valid({"latent": 0})


@pytest.mark.parametrize(
    ("schema", "field", "good", "bad"),
    [
        ("CreateModel", "dataset", "mnist", "a/b"),
        ("Learn", "dataset", None, ""),
        ("Learn", "as", {"7": "seven"}, {"a/b": "seven"}),
        ("Learn", "as", {}, {str(i): f"l{i}" for i in range(101)}),
        ("CreateKey", "project", "prj_default", "a b"),
        ("OpenSession", "project", None, "x" * 65),
        ("OpenSession", "key", f"pal_{'0' * 26}_{'a' * 43}_{'b' * 6}", "secret"),
        ("CreateSample", "count", 2000, 2001),
    ],
)
def test_fields_have_their_bounds(
    document: dict[str, Any], schema: str, field: str, good: object, bad: object
) -> None:
    described = document["components"]["schemas"][schema]["properties"][field]
    check = Draft202012Validator({**described, "components": document["components"]})
    assert check.is_valid(good)
    assert not check.is_valid(bad)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/samples"])
def test_a_model_to_list_by_is_a_name(document: dict[str, Any], path: str) -> None:
    parameters = document["paths"][path]["get"]["parameters"]
    [schema] = [one["schema"] for one in parameters if one["name"] == "model"]
    assert Draft202012Validator(schema).is_valid("digits")
    assert not Draft202012Validator(schema).is_valid("a/b")


def test_values_with_names_are_enumerated(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    operation = schemas["JobObject"]["properties"]["operation"]
    assert set(operation["enum"]) == {"learn", "forget", "resize", "evaluate"}
    assert "worker_lost" in schemas["JobErrorObject"]["properties"]["type"]["enum"]


def test_no_reference_of_the_document_is_broken(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/([A-Za-z0-9_.\-]+)", str(document)))
    assert names <= set(document["components"]["schemas"])
    assert "#/$defs/" not in str(document["components"]["schemas"]["Learn"])
