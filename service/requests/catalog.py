"""The catalog: the strategies, datasets and architectures that a request may name.

`catalog.json` beside this file is generated from the declarations in worker/learning by
`python -m worker.catalog`, and committed, so that the API can check every param without importing torch.
What other packages bring to the running workers is added to it by offers.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from sqlalchemy.orm import Session

from service.registry import datasets as uploads
from service.registry.errors import DatasetNotOffered, NetworkNotOffered, StrategyNotOffered
from service.registry.job_specs import JobSpec, LabelsSpec, Retention
from service.registry.tables import DatasetRow, Guarantee, Operation
from service.requests.invalid_upload import SIDE
from service.requests.violations import InvalidRequest, Violation, escape

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

AnySpec = TypeVar("AnySpec", bound=JobSpec)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageEntry(_Entry):
    """An installed package that brings a strategy, a dataset or an architecture to the workers."""

    name: str
    version: str = Field(description="That of the worker which started last, if several have it.")


FromPackage = Annotated[
    PackageEntry | None,
    Field(description="The package that brings it to the running workers; null if it is built in."),
]


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
    architectures: tuple[str, ...] | None = Field(
        None, description="The architectures of the models that it works on; null if it works on all."
    )
    summary: str
    source: str = Field(description="The publication that the method is from.")
    params: dict[str, Any] = Field(description="The JSON Schema of its params.")
    package: FromPackage = None

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params with every default filled in. Raises InvalidRequest with every broken rule."""
        return complete(self.params, params, pointer="/params")


class DatasetFiles(_Entry):
    """Where a downloaded dataset lies in the data folder: a pair of files in LeCun's IDX format."""

    images: str
    targets: str
    first_target: int
    transposed: bool


class NoteEntry(_Entry):
    """Something to know about an upload. `code` is stable."""

    code: str
    detail: str
    labels: tuple[str, ...] = Field(description="The labels that it is about; none if it is about all of it.")


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
    test_images: Mapping[str, int] | None = Field(
        None,
        description="For an uploaded dataset: how many images of each label are held out for testing, and "
        "never learned from. These are the test images of the uploaded file, or every fifth image.",
    )
    deleted_labels: tuple[str, ...] = Field((), description="Labels whose images were deleted from it.")
    conversions: tuple[NoteEntry, ...] = Field(
        (), description="How the uploaded file was read, where it was not in the documented form."
    )
    warnings: tuple[NoteEntry, ...] = Field((), description="What looks wrong with the uploaded images.")
    sha256: str | None = Field(
        None,
        description="For an uploaded dataset: the sha256 of its pixels, as they are stored. "
        "Deleting images changes it.",
    )
    sent_sha256: str | None = Field(
        None, description="For an uploaded dataset: the sha256 of the file that was uploaded."
    )
    files: DatasetFiles | None = Field(None, exclude=True)
    package: FromPackage = None


class ArchitectureEntry(_Entry):
    """A kind of network; `params` is the JSON Schema of its widths and sizes."""

    name: str
    summary: str
    params: dict[str, Any]
    package: FromPackage = None


POLICIES_OF = {"expand": ("expand", "search")}
"""{policy that a request names: the policies of the strategies that it may name}. To search is to expand by
as much as is worth it, and `search` was a strategy of `expand` before it became a policy."""


class Catalog(_Entry):
    """What a request may name: strategies, datasets and architectures."""

    strategies: tuple[StrategyEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    architectures: tuple[ArchitectureEntry, ...]
    _not_offered: Mapping[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    """{(`strategy`, operation, name), (`dataset`, name) or (`network`, name): why it cannot be used now}."""

    def with_foreign(
        self,
        strategies: Iterable[StrategyEntry],
        datasets: Iterable[DatasetEntry],
        architectures: Iterable[ArchitectureEntry],
        not_offered: Mapping[tuple[str, ...], str],
    ) -> "Catalog":
        """Return the catalog with what other packages bring, after its own: the defaults stay the same.

        not_offered: what was offered, and why it is not now. See _not_offered.
        """
        copy = self.model_copy(
            update={
                "strategies": (*self.strategies, *strategies),
                "datasets": (*self.datasets, *datasets),
                "architectures": (*self.architectures, *architectures),
            }
        )
        copy._not_offered = not_offered
        return copy

    def dataset(self, name: str, *, pointer: str = "/dataset") -> DatasetEntry:
        """Return the dataset of that name. Raises InvalidRequest `dataset_not_found`."""
        found = next((entry for entry in self.datasets if entry.name == name), None)
        if found is None:
            if reason := self._not_offered.get(("dataset", name)):
                raise DatasetNotOffered(f"the dataset {name!r}", reason)
            known = [entry.name for entry in self.datasets]
            raise _unknown_name(pointer, "dataset_not_found", f"there is no dataset {name!r}", known)
        return found

    def with_uploads(self, session: Session, project: str) -> "Catalog":
        """Return the catalog with the uploaded datasets of the project of this id after its own.

        If a later release brings a dataset of the same name, the uploaded one takes its place, so that models
        which learned from it still find the same images.
        """
        rows = uploads.list_all(session, project=project)
        uploaded = [describe_upload(row) for row in rows if row.images]
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
            policies = POLICIES_OF.get(policy, (policy,))
            offered = [entry for entry in offered if entry.policy in policies]
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
            if reason := self._not_offered.get(("strategy", operation, name)):
                raise StrategyNotOffered(f"the {operation} strategy {name!r}", reason)
            known = [entry.name for entry in offered]
            what = f"the operation {operation} has no strategy {name!r} for {retention} labels"
            raise _unknown_name("/strategy", "strategy_not_found", what, known)
        return found

    def policy_of(self, strategy: str) -> str | None:
        """Return the policy of the resize strategy of that name; None if there is no such strategy."""
        resizing = (entry for entry in self.strategies if entry.operation == "resize")
        return next((entry.policy for entry in resizing if entry.name == strategy), None)

    def with_packages(self, spec: AnySpec, network: Mapping[str, Any], *, pointer: str = "") -> AnySpec:
        """Return the spec with the packages that its job needs, and so for the resize that follows it.

        network: that of the model. pointer: the JSON pointer of the spec in the body of the request.
        Raises NetworkNotOffered if no running worker offers its architecture, and InvalidRequest if the
        strategy does not work on it.
        """
        self._check_architecture(spec, network, pointer)
        if isinstance(spec, LabelsSpec) and spec.resize is not None:
            spec = replace(spec, resize=self.with_packages(spec.resize, network, pointer=f"{pointer}/resize"))
        return replace(spec, packages=self._packages_of(spec, network))

    def _check_architecture(self, spec: JobSpec, network: Mapping[str, Any], pointer: str) -> None:
        """Refuse a strategy that does not work on networks of the model's architecture."""
        chosen = next(
            (e for e in self.strategies if (e.operation, e.name) == (spec.operation, spec.strategy)), None
        )
        architecture = network.get("architecture", self.architectures[0].name)
        if chosen is None or chosen.architectures is None or architecture in chosen.architectures:
            return
        works_on = " or ".join(chosen.architectures)
        detail = (
            f"the strategy {chosen.name} works on models of the architecture {works_on}; "
            f"this model has {architecture}"
        )
        raise InvalidRequest(Violation(f"{pointer}/strategy", "strategy_not_for_architecture", detail))

    def _packages_of(self, spec: JobSpec, network: Mapping[str, Any]) -> dict[str, str]:
        """Return {`strategy`, `network` or `dataset`: its package} of what is not built in."""
        architecture = network.get("architecture")
        if architecture is not None and all(one.name != architecture for one in self.architectures):
            reason = self._not_offered.get(("network", architecture)) or (
                "the model was made with it, and no running worker has a package that brings it"
            )
            raise NetworkNotOffered(f"the architecture {architecture!r}", reason)
        found = {
            "strategy": next(
                (e for e in self.strategies if (e.operation, e.name) == (spec.operation, spec.strategy)), None
            ),
            "network": next((e for e in self.architectures if e.name == architecture), None),
            "dataset": next((e for e in self.datasets if e.name == spec.dataset), None),
        }
        return {kind: one.package.name for kind, one in found.items() if one and one.package}

    def complete_network(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's network with its architecture and every default filled in.

        Raises InvalidRequest if the architecture is unknown, or if a param breaks a rule of its schema.
        """
        name = network.get("architecture", self.architectures[0].name)
        entry = next((entry for entry in self.architectures if entry.name == name), None)
        if entry is None:
            if isinstance(name, str) and (reason := self._not_offered.get(("network", name))):
                raise NetworkNotOffered(f"the architecture {name!r}", reason)
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
    from jsonschema import Draft202012Validator  # 40 ms, which a start does not need
    from referencing import Registry

    # It finds no schema but the one that is checked against, so that nothing is ever fetched from elsewhere.
    no_other_schemas: Registry[Any] = Registry()
    violations = [
        violation
        for error in Draft202012Validator(schema, registry=no_other_schemas).iter_errors(value)
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


def _violations(error: "ValidationError", pointer: str) -> Iterator[Violation]:
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


def _cause(error: "ValidationError") -> "ValidationError":
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


def describe_upload(row: DatasetRow) -> DatasetEntry:
    """Return the entry of an uploaded dataset."""
    return DatasetEntry(
        name=row.name,
        title=f"Uploaded: {sum(row.images.values()):,} images",
        labels=tuple(row.images),
        image_shape=(SIDE, SIDE),
        bundled=True,
        images=row.images,
        test_images=uploads.count_test_images(row),
        deleted_labels=tuple(row.deleted_labels or ()),
        conversions=tuple(NoteEntry.model_validate(one) for one in row.conversions or ()),
        warnings=tuple(NoteEntry.model_validate(one) for one in row.warnings or ()),
        sha256=row.sha256,
        sent_sha256=row.sent_sha256,
    )
