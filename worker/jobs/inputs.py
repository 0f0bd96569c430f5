"""Read the inputs of a claimed job: its rows, the checkpoint of its base version, and its images."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from service.registry import datasets as uploads
from service.registry import jobs, labels, models, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.job_specs import EvaluateSpec, JobSpec, LearnSpec, spec_of
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.version_files import CHECKPOINT, isolated_file
from worker.jobs.cost import CostMeter
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerContext:
    """The resources and settings with which a worker process executes its jobs."""

    database: Database
    artifacts: FolderArtifacts
    data: Path
    judges: Path
    """The folder of the judges and feature networks that were trained on this machine."""
    device: torch.device
    worker: str
    """The name under which this worker claims jobs."""
    lease_seconds: float
    shutting_down: Callable[[], bool]
    precision: torch.dtype = torch.float32
    stall_seconds: float = 60.0
    """How long a job may make no progress before this process is replaced (stalling.py)."""
    store_wait_seconds: float = 30.0
    """How long a job waits for an artifact store that fails before it is released."""
    replace_worker: Callable[[], None] = lambda: None
    """Ends this process at once, so that another takes its place. By default nothing is ended."""


@dataclass(frozen=True)
class Work:
    """A claimed job with everything it starts from."""

    job: JobRow
    spec: JobSpec
    """The spec that was read from the job's row."""
    model: ModelRow
    base: VersionRow | None
    """The version that the job changes or measures; None before the model has a version."""
    checkpoint: Checkpoint
    """The checkpoint of the base version, or that of the blank model."""

    @property
    def request_seed(self) -> int:
        """A seed derived from the request and the seed of the model. It does not depend on any network.

        For a forget of permanent and temporary labels together, only the permanent ones count.
        """
        names = sorted(self.spec.seed_labels(self.checkpoint.temporary))
        return strategy.derive_seed(self.model.seed, self.spec.seed, self.spec.operation, names)

    @property
    def seed(self) -> int:
        """A seed derived from `request_seed` and the main network that the job starts from.

        A job that is run again draws the same random numbers, even if temporary labels have been learned or
        forgotten in between. If the job itself learns temporary labels, the seed depends neither on the main
        network nor on which labels they are: the strategy derives a seed for each label from its name.
        """
        if isinstance(self.spec, LearnSpec) and self.spec.retention == "temporary":
            return strategy.derive_seed(self.model.seed, self.spec.seed, self.spec.operation, "temporary")
        return strategy.derive_seed(self.request_seed, sha256(self.checkpoint.to_bytes()).hexdigest())


def read_work(claim: Claim, worker_context: WorkerContext) -> Work:
    """Read the inputs of a claimed job. Raises RegistryError if the job is no longer possible."""
    with worker_context.database.reading() as session:
        model, job = models.get(session, claim.model_id), jobs.find(session, claim.job_id)
        spec = spec_of(job)
        if isinstance(spec, EvaluateSpec):
            base: VersionRow | None = versions.find_measurable(session, model, spec.evaluated_version)
        else:
            base = None if model.head is None else versions.find_head(session, model)
            spec.check(model, labels.published_statuses(session, model))
    return Work(job, spec, model, base, _read_checkpoint(model, base, worker_context))


class WithRetries(Protocol):
    """Calls a function again while the database or the artifact store fails (`Attempt.with_retries`)."""

    def __call__(self, action: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class ModelArchive:
    """Give a strategy the real images of labels and the earlier versions of the model (an `Archive`).

    Training images are counted in the cost of the job. Test images, which only judge it, are not.
    """

    worker_context: WorkerContext
    work: Work
    meter: CostMeter
    with_retries: WithRetries

    def images(self, label: Label) -> Tensor:
        images = self._dataset(label).train[label.source]
        self.meter.count(label.name, len(images))
        return images

    def held_out(self, label: Label) -> Tensor:
        return self._dataset(label).test[label.source]

    def _dataset(self, label: Label) -> datasets.Dataset:
        try:
            project = self.work.model.project_id
            return self.with_retries(
                lambda: load_dataset(label.dataset, self.worker_context, project=project)
            )
        except datasets.DatasetUnavailable as error:
            raise Unavailable(str(error)) from error

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        return self.with_retries(lambda: self._newest_without(names))

    def _newest_without(self, names: Collection[str]) -> Checkpoint:
        with self.worker_context.database.reading() as session:
            number = versions.find_newest_without(session, self.work.model, names)
            ancestor = versions.find(session, self.work.model, number) if number else None
        return _read_checkpoint(self.work.model, ancestor, self.worker_context)


def read_examples(work: Work, worker_context: WorkerContext) -> Examples:
    """Return the labels of a learn job, with their real images if its strategy needs them."""
    job = work.job
    if not strategy.find(job.operation, job.strategy).needs_examples:
        return Examples(tuple(job.labels), job.dataset)
    dataset = load_dataset(job.dataset, worker_context, project=work.model.project_id)
    return Examples(
        tuple(job.labels), job.dataset, {name: dataset.train[source] for name, source in job.sources.items()}
    )


@lru_cache(maxsize=2)
def load_dataset(name: str, worker_context: WorkerContext, *, project: str) -> datasets.Dataset:
    """Load the dataset of that name that the project uploaded, or else the built-in one. Neither changes."""
    with worker_context.database.reading() as session:
        row = uploads.find(session, name, project=project)
    if row is None:
        return datasets.load(name, worker_context.data)
    return datasets.uploaded(name, row.images, worker_context.artifacts.read(row.sha256))


def _read_checkpoint(
    model: ModelRow, version: VersionRow | None, worker_context: WorkerContext
) -> Checkpoint:
    """Read a version's checkpoint with its isolated networks. Without a version, return the blank model."""
    if version is None:
        return blank(model.network, seed=model.seed)
    files = [
        CHECKPOINT,
        *(isolated_file(name, CHECKPOINT) for name, slot in version.labels.items() if slot is None),
    ]
    main, *isolated = (
        Checkpoint.from_bytes(worker_context.artifacts.read(version.files[name]["sha256"])) for name in files
    )
    return replace(main, isolated=tuple(isolated))
