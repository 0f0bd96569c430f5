"""What a request may name: the strategies, datasets and architectures this house was built with.

`catalog.json` beside this file is generated from what the learner declares (`python -m worker.catalog`) and
committed, so the API can check a request to the last parameter without importing the learner.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import BaseModel, ConfigDict

from service.registry.tables import Operation

Retention = Literal["permanent", "temporary"]


@dataclass(frozen=True)
class Violation:
    """One rule a request breaks: where (JSON pointer into the body), which (stable code), and what to do."""

    pointer: str
    code: str
    detail: str


class InvalidRequest(Exception):
    """The request was understood but breaks the rules listed in `violations` (never empty)."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(violation.detail for violation in violations))
        self.violations = violations


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StrategyEntry(_Entry):
    """A named way to do an operation; `params` is the JSON Schema of what it can be told."""

    operation: Operation
    name: str
    policy: str | None
    retention: Retention
    default: bool
    needs_examples: bool
    merges_temporary: bool
    summary: str
    source: str
    params: dict[str, Any]


class DatasetEntry(_Entry):
    """A set of labelled images that can be learnt from."""

    name: str
    title: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    bundled: bool


class ArchitectureEntry(_Entry):
    """A kind of network; `params` is the JSON Schema of its widths and sizes."""

    name: str
    summary: str
    params: dict[str, Any]


class Catalog(_Entry):
    """The catalog as a value: ask it by name, or have it check what a client sent."""

    strategies: tuple[StrategyEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    architectures: tuple[ArchitectureEntry, ...]

    def dataset(self, name: str, *, pointer: str = "/dataset") -> DatasetEntry:
        """The dataset of that name; InvalidRequest `dataset_not_found` lists those there are."""
        found = next((entry for entry in self.datasets if entry.name == name), None)
        if found is None:
            known = [entry.name for entry in self.datasets]
            raise _unknown(pointer, "dataset_not_found", f"there is no dataset {name!r}", known)
        return found

    def including(self, datasets: Iterable[DatasetEntry]) -> "Catalog":
        """With further datasets behind its own; one of the same name takes the place of its own."""
        named = {entry.name: entry for entry in (*self.datasets, *datasets)}
        return self.model_copy(update={"datasets": tuple(named.values())})

    def strategy(
        self,
        operation: Operation,
        name: str | None = None,
        *,
        policy: str | None = None,
        retention: Retention = "permanent",
        merges_temporary: bool = False,
    ) -> StrategyEntry:
        """Return the strategy of that name, or the default one when no name is given.

        policy: of a resize. retention: of the labels, which each strategy learns or forgets in its own way.
        merges_temporary: whether the labels to learn are temporary ones, which are to become permanent; the
            default is then the strategy that merges their networks.
        Raises InvalidRequest `strategy_not_found` or `policy_not_found`, with the names there are.
        """
        offered = [
            entry
            for entry in self.strategies
            if entry.operation == operation and entry.retention == retention
        ]
        if policy is not None:
            offered = [entry for entry in offered if entry.policy == policy]
            if not offered:
                known = sorted({e.policy for e in self.strategies if e.operation == operation and e.policy})
                raise _unknown("/policy", "policy_not_found", f"there is no policy {policy!r}", known)
        if name is None:
            suited = [entry for entry in offered if entry.merges_temporary == merges_temporary] or offered
            return next((entry for entry in suited if entry.default), suited[0])
        found = next((entry for entry in offered if entry.name == name), None)
        if found is None:
            known = [entry.name for entry in offered]
            what = f"{operation} has no strategy {name!r} for {retention} labels"
            raise _unknown("/strategy", "strategy_not_found", what, known)
        return found

    def check(self, operation: Operation, strategy: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` with every default filled in, as the schema of that strategy says; else InvalidRequest."""
        of_operation = {entry.name: entry for entry in self.strategies if entry.operation == operation}
        return complete(of_operation[strategy].params, params, pointer="/params")

    def check_network(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """A model's network with its architecture named and every default filled in."""
        name = network.get("architecture", self.architectures[0].name)
        entry = next((entry for entry in self.architectures if entry.name == name), None)
        if entry is None:
            known = [entry.name for entry in self.architectures]
            raise _unknown(
                "/network/architecture", "architecture_not_found", f"there is no architecture {name!r}", known
            )
        params = {key: value for key, value in network.items() if key != "architecture"}
        return {"architecture": name, **complete(entry.params, params, pointer="/network")}


def read_catalog() -> Catalog:
    """The committed catalog."""
    return Catalog.model_validate_json(
        resources.files("service.requests").joinpath("catalog.json").read_text("utf-8")
    )


def complete(schema: Mapping[str, Any], value: Mapping[str, Any], *, pointer: str) -> dict[str, Any]:
    """`value` checked against a JSON Schema, its defaults filled in at every depth; else InvalidRequest.

    Every broken rule is reported, each with the pointer `pointer` + its place in `value`.
    """
    violations = [
        violation
        for error in Draft202012Validator(schema).iter_errors(value)
        for violation in _violations(error, pointer)
    ]
    if violations:
        raise InvalidRequest(*violations)
    return _with_defaults(schema, value, schema)


_CODES = {
    "type": "wrong_type",
    "required": "required",
    "additionalProperties": "unknown_field",
    "enum": "unknown_value",
    "const": "unknown_value",
    "uniqueItems": "duplicate_item",
}


def _violations(error: ValidationError, pointer: str) -> Iterator[Violation]:
    cause = _cause(error)
    here = pointer + "".join(f"/{escape(str(step))}" for step in cause.absolute_path)
    code = _CODES.get(str(cause.validator), "out_of_range")
    instance: Any = cause.instance
    if code == "unknown_field":
        schema: Any = cause.schema
        allowed = schema.get("properties", {})
        for name in sorted(set(instance) - set(allowed)):
            detail = f"{name!r} is not a field here; fields are: {', '.join(sorted(allowed)) or 'none'}"
            yield Violation(f"{here}/{escape(name)}", code, detail)
    elif code == "required":
        required: Any = cause.validator_value
        for name in sorted(set(required) - set(instance)):
            yield Violation(f"{here}/{escape(name)}", code, f"{name!r} is required")
    else:
        yield Violation(here, code, cause.message)


def _cause(error: ValidationError) -> ValidationError:
    """What broke: of alternatives (a number or null), the rule of the one whose type was meant."""
    alternatives = list(error.context or [])
    if not alternatives:
        return error
    return _cause(next((each for each in alternatives if each.validator != "type"), alternatives[0]))


def _with_defaults(
    schema: Mapping[str, Any], value: Mapping[str, Any], root: Mapping[str, Any]
) -> dict[str, Any]:
    filled = dict(value)
    for name, declared in schema.get("properties", {}).items():
        inner = _resolved(declared, root)
        default = deepcopy(inner.get("default"))
        if name not in filled and "default" in inner:
            filled[name] = default
        elif isinstance(filled.get(name), Mapping) and isinstance(default, Mapping):
            filled[name] = {**default, **filled[name]}  # what the strategy means by default, part by part
        if isinstance(filled.get(name), Mapping):
            filled[name] = _with_defaults(inner, filled[name], root)
    return filled


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Mapping[str, Any] = root["$defs"][reference.removeprefix("#/$defs/")]
    return {**target, **schema}


def _unknown(pointer: str, code: str, what: str, known: list[str]) -> InvalidRequest:
    return InvalidRequest(Violation(pointer, code, f"{what}; there is: {', '.join(known) or 'nothing'}"))


def escape(step: str) -> str:
    """A JSON pointer's reference token (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")
