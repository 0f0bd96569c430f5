"""What a job is to do: one frozen value for each operation, which holds the rules of the operation.

A spec is complete: it names its strategy and every param. A request resolves to one (service/requests), it is
recorded in the job's row when the job is submitted (`columns`), and the worker reads it back from there
(`spec_of`) and asks it once more whether the model still allows it (`check`).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

from service.registry.errors import (
    LabelAlreadyLearned,
    LabelForgotten,
    ModelHasNoVersion,
    NoPermanentLabel,
    StaleBase,
    UnknownLabel,
    WouldEmptyModel,
)
from service.registry.tables import JobRow, LabelStatus, ModelRow, Operation

Retention = Literal["permanent", "temporary"]

Statuses = Mapping[str, LabelStatus]
"""{label: status} of a model. A label that it never learned is absent."""


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """What every job has: a strategy, its params, and a seed."""

    operation: ClassVar[Operation]

    strategy: str
    params: Mapping[str, Any]
    dataset: str
    """What labels are learned from. Where none are learned: the dataset of the model."""
    seed: int = 0

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        """Return the labels that the job's random numbers depend on, when these ones are temporary."""
        return ()

    def columns(self) -> dict[str, Any]:
        """Return the spec as columns of the job's row."""
        return {
            "operation": self.operation,
            "strategy": self.strategy,
            "params": dict(self.params),
            "dataset": self.dataset,
            "seed": self.seed,
            "labels": [],
            "acceptance": {},
        }


@dataclass(frozen=True, kw_only=True)
class EvaluateSpec(_Spec):
    """Measure a version in full. The model stays as it is, so that there is no rule about its labels."""

    operation: ClassVar[Operation] = "evaluate"

    evaluated_version: int | None = None
    """None: the head at the time of submission. In a job's row it is always a number."""

    def columns(self) -> dict[str, Any]:
        return super().columns() | {"evaluated_version": self.evaluated_version}


@dataclass(frozen=True, kw_only=True)
class ChangeSpec(_Spec, ABC):
    """Make a new version of the model."""

    base_version: int | None = None
    """The version that has to be the head, if the client named one."""
    acceptance: Mapping[str, Any] = field(default_factory=dict)
    """The criteria of the request. Read from a job's row: the criteria that were frozen with the job."""

    @property
    def forgets(self) -> tuple[str, ...]:
        """The labels that are forgotten when the job has succeeded."""
        return ()

    def left_to_do(self, statuses: Statuses) -> "ChangeSpec | None":
        """Return the spec without what is done already, and None if nothing is left of it."""
        return self

    def check_base(self, model: ModelRow) -> None:
        """Raise StaleBase if the client named another version than the head."""
        if self.base_version is not None and self.base_version != model.head:
            raise StaleBase(self.base_version, model.head)

    @abstractmethod
    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raise a RegistryError if a model whose labels have these statuses does not allow the job.

        Called with the statuses projected to the end of the queue when the job is submitted, and with the
        published ones when it starts: an earlier job that the request counted on may have failed since.
        """

    def statuses_after(self, statuses: Statuses) -> Statuses:
        """Return the statuses as they are once the job has succeeded."""
        return statuses

    def columns(self) -> dict[str, Any]:
        return super().columns() | {
            "base_version": self.base_version,
            "acceptance": dict(self.acceptance),
        }


@dataclass(frozen=True, kw_only=True)
class LearnSpec(ChangeSpec):
    """Learn labels that are absent or forgotten; or make temporary labels permanent."""

    operation: ClassVar[Operation] = "learn"

    labels: tuple[str, ...]
    """By the names the model will have for them."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """{label: the name it has in the dataset}, of the labels that have another name there."""
    retention: Retention = "permanent"

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, LabelAlreadyLearned."""
        self.check_base(model)
        learnable = {"forgotten"} if self.retention == "temporary" else {"forgotten", "temporary"}
        held = [name for name in self.labels if statuses.get(name, "forgotten") not in learnable]
        if held:
            raise LabelAlreadyLearned(model.name, held)

    def statuses_after(self, statuses: Statuses) -> Statuses:
        return {**statuses, **dict.fromkeys(self.labels, self.retention)}

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        return self.labels

    def columns(self) -> dict[str, Any]:
        return super().columns() | {
            "labels": list(self.labels),
            "renamed": dict(self.renamed) or None,
            "retention": self.retention,
        }


@dataclass(frozen=True, kw_only=True)
class ForgetSpec(ChangeSpec):
    """Forget labels that are learned, but never all of them."""

    operation: ClassVar[Operation] = "forget"

    labels: tuple[str, ...]
    purge: bool = field(default=False, compare=False)
    """Whether the files of older versions that hold the labels are deleted afterwards.

    A purge is recorded in a row of its own (purging.py), not with the spec.
    """

    @property
    def forgets(self) -> tuple[str, ...]:
        return self.labels

    def left_to_do(self, statuses: Statuses) -> "ForgetSpec | None":
        left = tuple(name for name in self.labels if statuses.get(name) != "forgotten")
        return replace(self, labels=left) if left else None

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, UnknownLabel, WouldEmptyModel, LabelForgotten."""
        self.check_base(model)
        unknown = [name for name in self.labels if name not in statuses]
        if unknown:
            raise UnknownLabel(model.name, unknown)
        if all(status == "forgotten" for name, status in statuses.items() if name not in self.labels):
            raise WouldEmptyModel(model.name)
        for name in self.labels:
            if statuses[name] == "forgotten":
                raise LabelForgotten(model.name, name, None)

    def statuses_after(self, statuses: Statuses) -> Statuses:
        return {**statuses, **dict.fromkeys(self.labels, "forgotten")}

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        """Dropping a temporary label's network uses no random numbers, so such a label changes none."""
        return set(self.labels) - set(temporary)

    def columns(self) -> dict[str, Any]:
        return super().columns() | {"labels": list(self.labels)}


@dataclass(frozen=True, kw_only=True)
class ResizeSpec(ChangeSpec):
    """Give the main network another size. The networks of temporary labels keep theirs."""

    operation: ClassVar[Operation] = "resize"

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, ModelHasNoVersion, NoPermanentLabel."""
        self.check_base(model)
        held = {status for status in statuses.values() if status != "forgotten"}
        if not held:
            raise ModelHasNoVersion(model.name)
        if "permanent" not in held:
            raise NoPermanentLabel(model.name)


JobSpec: TypeAlias = ChangeSpec | EvaluateSpec


def spec_of(job: JobRow) -> JobSpec:
    """Read the spec back from the row of a submitted job."""
    common: dict[str, Any] = {
        "strategy": job.strategy,
        "params": job.params,
        "dataset": job.dataset,
        "seed": job.seed,
    }
    change = common | {"base_version": job.base_version, "acceptance": job.acceptance}
    labels = tuple(job.labels)
    match job.operation:
        case "learn":
            retention: Retention = "temporary" if job.retention == "temporary" else "permanent"
            return LearnSpec(labels=labels, renamed=job.renamed or {}, retention=retention, **change)
        case "forget":
            return ForgetSpec(labels=labels, **change)
        case "resize":
            return ResizeSpec(**change)
        case "evaluate":
            return EvaluateSpec(evaluated_version=job.evaluated_version, **common)
