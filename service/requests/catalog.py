"""The catalog: the strategies, datasets and architectures that a request may name.

`catalog.json` beside this file is generated from the declarations in worker/learning by
`python -m worker.catalog`, and committed, so that the API can check every param without importing torch.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from service.registry import datasets
from service.registry.job_specs import Retention
from service.registry.tables import DatasetRow, Guarantee, Operation
from service.requests.invalid_upload import SIDE
from service.requests.violations import InvalidRequest, Violation, escape


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StrategyEntry(_Entry):
    """A method to carry out an operation."""

    operation: Operation
    name: str
    policy: str | None = Field(description="For a resize strategy: the `policy` that it serves.")
    retention: Retention = Field(description="The retention of the labels that it learns or forgets.")
    default: bool = Field(description="Whether it is used if a request names no strategy.")
    needs_examples: bool = Field(description="Whether it needs real images of the labels to learn.")
    merges_temporary: bool = Field(
        description="Whether it makes temporary labels permanent. It then accepts no other labels."
    )
    guarantee: Guarantee | None = Field(
        None, description="For a forget strategy: what it guarantees. `exact` needs an exact strategy."
    )
    summary: str
    source: str = Field(description="The publication that the method is from.")
    params: dict[str, Any] = Field(description="The JSON Schema of its params.")

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params with every default filled in. Raises InvalidRequest with every broken rule."""
        return complete(self.params, params, pointer="/params")


class DatasetFiles(_Entry):
    """Where a downloaded dataset lies in the data folder: a pair of files in LeCun's IDX format."""

    images: str
    targets: str
    first_target: int
    transposed: bool


class DatasetEntry(_Entry):
    """A set of labelled images that can be learned from."""

    name: str
    title: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    bundled: bool = Field(description="Whether it can be used without a download.")
    images: Mapping[str, int] | None = Field(
        None, description="For an uploaded dataset: how many images each label has."
    )
    deleted_labels: tuple[str, ...] = Field((), description="Labels whose images were deleted from it.")
    files: DatasetFiles | None = Field(None, exclude=True)


class ArchitectureEntry(_Entry):
    """A kind of network; `params` is the JSON Schema of its widths and sizes."""

    name: str
    summary: str
    params: dict[str, Any]


class Catalog(_Entry):
    """What a request may name: strategies, datasets and architectures."""

    strategies: tuple[StrategyEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    architectures: tuple[ArchitectureEntry, ...]

    def dataset(self, name: str, *, pointer: str = "/dataset") -> DatasetEntry:
        """Return the dataset of that name. Raises InvalidRequest `dataset_not_found`."""
        found = next((entry for entry in self.datasets if entry.name == name), None)
        if found is None:
            known = [entry.name for entry in self.datasets]
            raise _unknown_name(pointer, "dataset_not_found", f"there is no dataset {name!r}", known)
        return found

    def with_uploads(self, session: Session, project: str) -> "Catalog":
        """Return the catalog with the uploaded datasets of the project of this id after its own.

        If a later release brings a dataset of the same name, the uploaded one takes its place, so that models
        which learned from it still find the same images.
        """
        rows = datasets.list_all(session, project=project)
        uploaded = [_uploaded(row) for row in rows if row.images]
        by_name = {entry.name: entry for entry in (*self.datasets, *uploaded)}
        return self.model_copy(update={"datasets": tuple(by_name.values())})

    def strategy(
        self,
        operation: Operation,
        name: str | None = None,
        *,
        policy: str | None = None,
        retention: Retention = "permanent",
        merges_temporary: bool = False,
        guarantee: Guarantee | None = None,
    ) -> StrategyEntry:
        """Return the strategy of that name, or the default one when no name is given.

        policy: the policy of a resize; None for the other operations.
        retention: the retention of the labels to learn or forget.
        merges_temporary: whether temporary labels are to be made permanent. The default is then the strategy
            that merges their networks.
        guarantee: what a forget is requested to guarantee. The default is then a strategy that guarantees it.
        Raises InvalidRequest `strategy_not_found` or `policy_not_found`, which lists the possible names.
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
                raise _unknown_name("/policy", "policy_not_found", f"there is no policy {policy!r}", known)
        if name is None:
            if guarantee == "exact":
                offered = [entry for entry in offered if entry.guarantee == "exact"]
            candidates = [entry for entry in offered if entry.merges_temporary == merges_temporary] or offered
            return next((entry for entry in candidates if entry.default), candidates[0])
        found = next((entry for entry in offered if entry.name == name), None)
        if found is None:
            known = [entry.name for entry in offered]
            what = f"the operation {operation} has no strategy {name!r} for {retention} labels"
            raise _unknown_name("/strategy", "strategy_not_found", what, known)
        return found

    def policy_of(self, strategy: str) -> str | None:
        """Return the policy of the resize strategy of that name; None if there is no such strategy."""
        resizing = (entry for entry in self.strategies if entry.operation == "resize")
        return next((entry.policy for entry in resizing if entry.name == strategy), None)

    def complete_network(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's network with its architecture and every default filled in.

        Raises InvalidRequest if the architecture is unknown, or if a param breaks a rule of its schema.
        """
        name = network.get("architecture", self.architectures[0].name)
        entry = next((entry for entry in self.architectures if entry.name == name), None)
        if entry is None:
            known = [entry.name for entry in self.architectures]
            raise _unknown_name(
                "/network/architecture", "architecture_not_found", f"there is no architecture {name!r}", known
            )
        params = {key: value for key, value in network.items() if key != "architecture"}
        return {"architecture": name, **complete(entry.params, params, pointer="/network")}


def read_catalog() -> Catalog:
    """Read the committed catalog."""
    return Catalog.model_validate_json(
        resources.files("service.requests").joinpath("catalog.json").read_text("utf-8")
    )


def complete(schema: Mapping[str, Any], value: Mapping[str, Any], *, pointer: str) -> dict[str, Any]:
    """Check `value` against a JSON Schema, and return it with the defaults filled in at every depth.

    pointer: the JSON pointer of `value` in the request.
    Raises InvalidRequest with every broken rule.
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
    place = pointer + "".join(f"/{escape(str(step))}" for step in cause.absolute_path)
    code = _CODES.get(str(cause.validator), "out_of_range")
    instance: Any = cause.instance
    if code == "unknown_field":
        schema: Any = cause.schema
        allowed = schema.get("properties", {})
        for name in sorted(set(instance) - set(allowed)):
            detail = f"there is no field {name!r}; choose from: {', '.join(sorted(allowed)) or 'none'}"
            yield Violation(f"{place}/{escape(name)}", code, detail)
    elif code == "required":
        required: Any = cause.validator_value
        for name in sorted(set(required) - set(instance)):
            yield Violation(f"{place}/{escape(name)}", code, f"{name!r} is required")
    else:
        yield Violation(place, code, cause.message)


def _cause(error: ValidationError) -> ValidationError:
    """Return the broken rule itself. If there are alternatives, such as a number or null, take the one whose
    type fits.
    """
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
            # The default of the whole object comes before those of its fields, which may differ from it.
            filled[name] = {**default, **filled[name]}
        if isinstance(filled.get(name), Mapping):
            filled[name] = _with_defaults(inner, filled[name], root)
    return filled


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Mapping[str, Any] = root["$defs"][reference.removeprefix("#/$defs/")]
    return {**target, **schema}


def _unknown_name(pointer: str, code: str, what: str, known: list[str]) -> InvalidRequest:
    return InvalidRequest(Violation(pointer, code, f"{what}; choose from: {', '.join(known) or 'none'}"))


def _uploaded(row: DatasetRow) -> DatasetEntry:
    return DatasetEntry(
        name=row.name,
        title=f"Uploaded: {sum(row.images.values()):,} images",
        labels=tuple(row.images),
        image_shape=(SIDE, SIDE),
        bundled=True,
        images=row.images,
        deleted_labels=tuple(row.deleted_labels or ()),
    )
