"""Which JSON Schemas of other packages the API checks params against.

A schema comes from a package that is installed where workers run, and the API evaluates it in its own
process, against what any client sends. So it may contain only what is checked in a time that grows with its
size and the size of the params: no regular expression, no reference but to its own definitions, and no
definitions that refer to each other so that they unfold without end.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_UNFOLDED = 5_000
"""How many schemas there may be once every reference is replaced by what it refers to."""

_NAMED = ("properties", "$defs")
"""Keywords whose value is {name: schema}."""
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not")
_PLAIN = (
    *("title", "description", "default", "examples", "deprecated", "format", "type", "enum", "const"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "required", "$ref"),
)
ALLOWED = frozenset((*_NAMED, *_LISTED, *_SINGLE, *_PLAIN))
"""The keywords that a schema may have. `format` is not checked."""
PREFIX = "#/$defs/"


def find_fault(schema: object) -> str | None:
    """Return what forbids the schema, as the end of a sentence; None if params may be checked against it."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return "its schema is not one of an object"
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"its schema is not JSON ({error})"
    if len(text) > MAX_BYTES:
        return f"its schema has {len(text):,} bytes, and may have {MAX_BYTES:,}"
    if b"\\u0000" in text:
        return "its schema contains the character NUL"
    if fault := next(_faults(schema, 0), None):
        return fault
    from jsonschema import Draft202012Validator  # 40 ms, which a start does not need
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"its schema is not valid: {error.message[:200]}"
    definitions = schema.get("$defs", {})
    try:
        unfolded = _unfolded(schema, definitions, {}, ())
    except _Endless as error:
        return f"its schema refers to itself, through {error}"
    if unfolded > MAX_UNFOLDED:
        return f"its schema has more than {MAX_UNFOLDED:,} parts once its references are replaced"
    return None


class _Endless(Exception):
    pass


def _faults(schema: object, depth: int) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield "a part of its schema is neither an object nor true nor false"
        return
    if depth > MAX_DEPTH:
        yield f"its schema is nested deeper than {MAX_DEPTH} levels"
        return
    if unknown := sorted(map(str, set(schema) - ALLOWED)):
        yield f"its schema has the keyword {unknown[0]!r}, which is not allowed"
    reference = schema.get("$ref")
    if reference is not None and not (isinstance(reference, str) and reference.startswith(PREFIX)):
        yield f"its schema has the reference {reference!r}; only {PREFIX}NAME is allowed"
    for part in _parts(schema):
        yield from _faults(part, depth + 1)


def _parts(schema: Mapping[str, Any]) -> Iterator[object]:
    """Yield the schemas that the schema contains, its definitions included."""
    for keyword in _NAMED:
        named = schema.get(keyword, {})
        yield from named.values() if isinstance(named, Mapping) else (named,)
    for keyword in _LISTED:
        listed = schema.get(keyword, [])
        yield from listed if isinstance(listed, list | tuple) else (listed,)
    for keyword in _SINGLE:
        if keyword in schema:
            yield schema[keyword]


def _unfolded(
    schema: object, definitions: Mapping[str, Any], known: dict[str, int], within: tuple[str, ...]
) -> int:
    """Count the schemas that are checked at most, with every reference replaced.

    known: the counts of the definitions. within: the definitions that refer to this schema.
    """
    if not isinstance(schema, Mapping):
        return 1
    count = 1
    reference = schema.get("$ref")
    if reference is not None:
        name = reference.removeprefix(PREFIX)
        if name in within or name not in definitions:
            raise _Endless(reference)
        if name not in known:
            known[name] = _unfolded(definitions[name], definitions, known, (*within, name))
        count += known[name]
    own = {keyword: value for keyword, value in schema.items() if keyword != "$defs"}
    return count + sum(_unfolded(part, definitions, known, within) for part in _parts(own))
