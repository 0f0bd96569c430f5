"""A schema from a package is used only if it is checked in a bounded time, and without a network."""

from typing import Any

import pytest

from service.requests.catalog import read_catalog
from service.requests.schema_rules import MAX_BYTES, MAX_DEPTH, find_fault


def of_param(schema: dict[str, Any], **definitions: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "$defs": definitions}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """Definitions of a few bytes each that unfold into 2 ** levels schemas."""
    names = [f"d{level}" for level in range(levels)]
    following = [{"$ref": f"#/$defs/{name}"} for name in names[1:]]
    definitions = {
        name: {"anyOf": [one, one]} for name, one in zip(names, [*following, {"type": "null"}], strict=True)
    }
    return of_param({"$ref": "#/$defs/d0"}, **definitions)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ([], "not one of an object"),
        ({"type": "string"}, "not one of an object"),
        (of_param({"type": "string", "pattern": "^(a+)+$"}), "keyword 'pattern'"),
        ({"type": "object", "patternProperties": {"(a+)+$": {}}}, "keyword 'patternProperties'"),
        (of_param({"type": "array", "uniqueItems": True}), "keyword 'uniqueItems'"),
        (of_param({"$dynamicRef": "#x"}), "keyword '$dynamicRef'"),
        ({"type": "object", "$id": "http://127.0.0.1/x"}, "keyword '$id'"),
        (
            of_param({"$ref": "http://127.0.0.1:1/schema.json"}),
            "the reference 'http://127.0.0.1:1/schema.json'",
        ),
        (of_param({"$ref": "file:///etc/passwd"}), "the reference 'file:///etc/passwd'"),
        (of_param({"$ref": "#"}), "the reference '#'"),
        (of_param({"$ref": 3}), "the reference 3"),
        (of_param({"$ref": "#/$defs/a"}, a={"$ref": "#/$defs/a"}), "refers to itself"),
        (of_param({"$ref": "#/$defs/a"}), "refers to itself"),
        (
            of_param({"$ref": "#/$defs/a"}, a={"items": {"$ref": "#/$defs/b"}}, b={"$ref": "#/$defs/a"}),
            "itself",
        ),
        (doubling(40), "parts once its references are replaced"),
        (of_param(nested(MAX_DEPTH)), "nested deeper"),
        (of_param(nested(200)), ""),
        (of_param({"title": "x" * MAX_BYTES}), "bytes"),
        (of_param({"default": float("nan")}), "not JSON"),
        (of_param({"default": "\0"}), "NUL"),
        (of_param({"default": "\ud800"}), "not JSON"),
        (of_param({"default": {1, 2}}), "not JSON"),
        (of_param({"minimum": "one"}), "not valid"),
        (of_param({"properties": 3}), ""),
        (of_param({"anyOf": 3}), ""),
        (of_param({"items": 3}), "neither an object nor"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_schema_that_could_take_long_or_reach_out_is_refused(schema: Any, fault: str) -> None:
    found = find_fault(schema)
    assert found is not None
    assert fault in found


def test_every_schema_that_is_built_in_would_be_accepted() -> None:
    catalog = read_catalog()
    schemas = {one.name: one.params for one in catalog.strategies}
    schemas |= {one.name: one.params for one in catalog.architectures}
    assert {name: fault for name, schema in schemas.items() if (fault := find_fault(schema))} == {}
