"""Job specs: frozen values that say what a job is to do, with one class for each operation and its rules.

A spec is complete: it names its strategy and every param. A request resolves to a spec
(service/requests), which is checked (`check`) and recorded in the job's row (`columns`) when the job is
submitted. The worker reads it back from there (`spec_of`) and checks it again when the job starts.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from service.registry.errors import (
    LabelAlreadyLearned,
    LabelForgotten,
    ModelHasNoVersion,
    NoPermanentLabel,
    StaleBase,
    UnknownLabel,
)
from service.registry.tables import Guarantee, JobOperation, JobRow, LabelStatus, ModelRow, Operation

Retention = Literal["permanent", "temporary"]

Statuses = Mapping[str, LabelStatus]
"""{label: status} of a model. A label that the model never learned is not in it."""


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """What every job has: a strategy, its params, and a seed."""

    operation: ClassVar[Operation]

    strategy: str
    params: Mapping[str, Any]
    dataset: str
    """The dataset that labels are learned from. If none are learned, the default dataset of the model."""
    seed: int = 0
    packages: Mapping[str, str] = field(default_factory=dict)
    """{`strategy`, `network` or `dataset`: the package that brings it} of those that are not built in."""

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        """Return the labels that the job's seed depends on. temporary: the temporary labels of the model."""
        return ()

    def columns(self) -> dict[str, Any]:
        """Return the spec as columns of the job's row."""
        return {
            "operation": self.operation,
            "strategy": self.strategy,
            "params": dict(self.params),
            "dataset": self.dataset,
            "seed": self.seed,
            "packages": dict(self.packages) or None,
            "labels": [],
            "acceptance": {},
        }


@dataclass(frozen=True, kw_only=True)
class EvaluateSpec(_Spec):
    """Measure a version in full. It does not change the model, so it has no rule about labels."""

    operation: ClassVar[Operation] = "evaluate"

    evaluated_version: int | None = None
    """None: the head at the time of submission. In a job's row it is always a number."""

    def columns(self) -> dict[str, Any]:
        return super().columns() | {"evaluated_version": self.evaluated_version}


@dataclass(frozen=True, kw_only=True)
class ChangeSpec(_Spec, ABC):
    """Make a new version of the model."""

    base_version: int | None = None
    """The version that the client expects to be the head; None if it expects none in particular."""
    acceptance: Mapping[str, Any] = field(default_factory=dict)
    """The criteria that the request sets. In a spec read from a job's row: the frozen criteria."""

    @property
    def forgets(self) -> tuple[str, ...]:
        """The labels that are forgotten when the job has succeeded."""
        return ()

    def check_base(self, model: ModelRow) -> None:
        """Raise StaleBase if the client expects another head than the model has."""
        if self.base_version is not None and self.base_version != model.head:
            raise StaleBase(self.base_version, model.head)

    @abstractmethod
    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raise a RegistryError if the job is not possible on a model whose labels have these statuses.

        When the job is submitted, `statuses` are those after all queued jobs. When it starts, they are the
        published ones, because an earlier job that the request relied on may have failed.
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
class LabelsSpec(ChangeSpec, ABC):
    """Learn or forget labels."""

    labels: tuple[str, ...]
    """The names that the labels have in the model, or will have."""
    resize: "ResizeSpec | None" = field(default=None, compare=False)
    """The resize that follows once the labels are learned or forgotten.

    It becomes a job of its own (JobRow.follows), and is not recorded with the spec.
    """

    def check_resize(self, model: ModelRow, statuses: Statuses) -> None:
        """Raise NoPermanentLabel if the resize has nothing to resize after this job."""
        if self.resize is not None and "permanent" not in self.statuses_after(statuses).values():
            raise NoPermanentLabel(model.name, follows=True)


@dataclass(frozen=True, kw_only=True)
class LearnSpec(LabelsSpec):
    """Learn labels that are absent or forgotten; or make temporary labels permanent."""

    operation: ClassVar[Operation] = "learn"

    renamed: Mapping[str, str] = field(default_factory=dict)
    """{label: its name in the dataset}, for the labels that have another name there."""
    retention: Retention = "permanent"
    expires_in: int | None = None
    """How many seconds after they are learned temporary labels are forgotten; None: they stay."""

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, LabelAlreadyLearned."""
        self.check_base(model)
        learnable = {"forgotten"} if self.retention == "temporary" else {"forgotten", "temporary"}
        held = [name for name in self.labels if statuses.get(name, "forgotten") not in learnable]
        if held:
            raise LabelAlreadyLearned(model.name, held)

    def statuses_after(self, statuses: Statuses) -> Statuses:
        return {**statuses, **dict.fromkeys(self.labels, status_after("learn", self.retention))}

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        return self.labels

    def columns(self) -> dict[str, Any]:
        return super().columns() | {
            "labels": list(self.labels),
            "renamed": dict(self.renamed) or None,
            "retention": self.retention,
            "expires_in": self.expires_in,
        }


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a request to forget asks for in so many words. What it leaves to the service is None or False."""

    guarantee: Guarantee | None = None
    strategy: str | None = None
    has_params: bool = False
    resize: bool = False


@dataclass(frozen=True, kw_only=True)
class ForgetSpec(LabelsSpec):
    """Forget labels that the model holds; an exact strategy also forgets labels again that were forgotten."""

    operation: ClassVar[Operation] = "forget"

    guarantee: Guarantee = "approximate"
    """What the strategy guarantees."""
    drops_only: bool = field(default=False, compare=False)
    """Whether it only drops the networks of temporary labels, and leaves the main network as it is."""
    demands: Demands = field(default=Demands(), compare=False)
    purge: bool = field(default=False, compare=False)
    """Whether the files of older versions that hold the labels are deleted after the job has succeeded.

    A purge is recorded in a row of its own (purging.py), not with the spec.
    """
    erase_images: bool = field(default=False, compare=False)
    """Whether the images of the labels are deleted from uploads, too; in a row of its own, too."""

    @property
    def forgets(self) -> tuple[str, ...]:
        return self.labels

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, UnknownLabel, LabelForgotten."""
        self.check_base(model)
        unknown = [name for name in self.labels if name not in statuses]
        if unknown:
            raise UnknownLabel(model.name, unknown)
        for name in self.labels:
            if statuses[name] == "forgotten" and self.guarantee != "exact":
                raise LabelForgotten(model.name, name, None)

    def statuses_after(self, statuses: Statuses) -> Statuses:
        return {**statuses, **dict.fromkeys(self.labels, status_after("forget", None))}

    def seed_labels(self, temporary: Collection[str]) -> Collection[str]:
        """Return the permanent labels only, because dropping a temporary one's network is not random."""
        return set(self.labels) - set(temporary)

    def columns(self) -> dict[str, Any]:
        return super().columns() | {"labels": list(self.labels), "guarantee": self.guarantee}


@dataclass(frozen=True, kw_only=True)
class ResizeSpec(ChangeSpec):
    """Change the size of the main network. The networks of temporary labels are not changed."""

    operation: ClassVar[Operation] = "resize"

    def check(self, model: ModelRow, statuses: Statuses) -> None:
        """Raises StaleBase, ModelHasNoVersion, NoPermanentLabel."""
        self.check_base(model)
        if not statuses:
            raise ModelHasNoVersion(model.name)
        if "permanent" not in statuses.values():
            raise NoPermanentLabel(model.name)


JobSpec: TypeAlias = ChangeSpec | EvaluateSpec


def status_after(operation: JobOperation, retention: str | None) -> LabelStatus:
    """Return the status that a label of a learn or forget job has once the job has succeeded."""
    if operation == "forget":
        return "forgotten"
    return "temporary" if retention == "temporary" else "permanent"


def spec_of(job: JobRow) -> JobSpec:
    """Read the spec back from the row of a submitted job."""
    common: dict[str, Any] = {
        "strategy": job.strategy,
        "params": job.params,
        "dataset": job.dataset,
        "seed": job.seed,
        "packages": job.packages or {},
    }
    change = common | {"base_version": job.base_version, "acceptance": job.acceptance}
    labels = tuple(job.labels)
    match job.operation:
        case "learn":
            retention: Retention = "temporary" if job.retention == "temporary" else "permanent"
            change["expires_in"] = job.expires_in
            return LearnSpec(labels=labels, renamed=job.renamed or {}, retention=retention, **change)
        case "forget":
            return ForgetSpec(labels=labels, guarantee=job.guarantee or "approximate", **change)
        case "resize":
            return ResizeSpec(**change)
        case "evaluate":
            return EvaluateSpec(evaluated_version=job.evaluated_version, **common)
        case "export":
            raise ValueError(f"job {job.id} draws a part of an export, and has no spec")
