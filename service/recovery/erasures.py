"""What the erasure log has lines of: forgets, and deletions of models, versions and images."""

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from service.recovery.withdrawals import Withdrawal


@dataclass(frozen=True)
class Erasure:
    """A forget that succeeded: all that is needed to do it again on an older state of the model."""

    job_id: str
    model_id: str
    model_name: str
    labels: list[str]
    strategy: str
    params: dict[str, Any]
    seed: int
    guarantee: str | None
    acceptance: dict[str, Any]
    purge: bool
    version: int
    """The version that the job published."""
    finished_at: str

    @property
    def id(self) -> str:
        return self.job_id

    @property
    def summary(self) -> str:
        return f"{', '.join(self.labels)} of model {self.model_name}"


@dataclass(frozen=True)
class ModelErasure:
    """The deletion of a whole model."""

    model_id: str
    model_name: str
    purge: bool
    finished_at: str

    @property
    def id(self) -> str:
        return self.model_id

    @property
    def summary(self) -> str:
        return f"the whole model {self.model_name}"


@dataclass(frozen=True)
class VersionErasure:
    """The deletion of one version of a model."""

    model_id: str
    model_name: str
    version: int
    finished_at: str

    @property
    def id(self) -> str:
        return f"{self.model_id}/{self.version}"

    @property
    def summary(self) -> str:
        return f"version {self.version} of model {self.model_name}"


@dataclass(frozen=True)
class ImageErasure:
    """The deletion of the images of labels from an uploaded dataset, or of a whole one."""

    deletion_id: str
    project_id: str
    dataset: str
    labels: list[str]
    finished_at: str

    @property
    def id(self) -> str:
        return self.deletion_id

    @property
    def summary(self) -> str:
        return f"the images of {', '.join(self.labels)} of dataset {self.dataset}"


AnyErasure: TypeAlias = Erasure | ModelErasure | VersionErasure | ImageErasure | Withdrawal
KINDS: dict[str, type[AnyErasure]] = {
    "forget": Erasure,
    "delete_model": ModelErasure,
    "delete_version": VersionErasure,
    "delete_images": ImageErasure,
    "withdraw": Withdrawal,
}


def to_line(erasure: AnyErasure) -> str:
    """Return the line of the log for the erasure."""
    kind = next(name for name, one in KINDS.items() if isinstance(erasure, one))
    return json.dumps({"kind": kind, **asdict(erasure)}, sort_keys=True) + "\n"
