"""Read the inputs of a claimed job: its rows, the checkpoint of its base version, and its images."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from service.queue_names import DEFAULT_QUEUE
from service.registry import datasets as uploads
from service.registry import jobs, labels, models, versions
from service.registry.artifacts import Artifacts
from service.registry.claims import Claim
from service.registry.classifier_files import ClassifierFiles
from service.registry.database import Database
from service.registry.errors import ArtifactMissing
from service.registry.job_specs import EvaluateSpec, JobSpec, LearnSpec, spec_of
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.version_files import CHECKPOINT, isolated_file
from worker.jobs import dataset_files
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
    artifacts: Artifacts
    data: Path
    judges: ClassifierFiles
    """The judges and feature networks that were trained by the workers of this deployment."""
    device: torch.device
    worker: str
    """The name under which this worker claims jobs."""
    lease_seconds: float
    shutting_down: Callable[[], bool]
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    """The queues whose jobs this worker takes."""
    precision: torch.dtype = torch.float32
    stall_seconds: float = 60.0
    """How long a job may make no progress before this process is replaced (stalling.py)."""
    store_wait_seconds: float = 30.0
    """How long a job waits for an artifact store that fails before it is released."""
    replace_worker: Callable[[], None] = lambda: None
    """Ends this process at once, so that another takes its place. By default nothing is ended."""
    scratch: Path | None = None
    """The folder of temporary files that become artifacts; None: the system's."""
    find_lack: Callable[[], str | None] = lambda: None
    """Says where less space is free than the reserve; None if there is enough."""


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
        images = self._split(label, "train")
        self.meter.count(label.name, len(images))
        return images

    def held_out(self, label: Label) -> Tensor:
        return self._split(label, "test")

    def _split(self, label: Label, split: Literal["train", "test"]) -> Tensor:
        try:
            dataset = self.with_retries(lambda: load_dataset(label.dataset, self.work, self.worker_context))
            return dataset.images(split, label.source)
        except datasets.DatasetUnavailable as error:
            raise Unavailable(str(error)) from error

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        return self.with_retries(lambda: self._newest_without(names))

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        model, ancestor = self.work.model, self.with_retries(lambda: self._find_without(names))
        return blank(model.network, seed=model.seed).widths if ancestor is None else dict(ancestor.widths)

    def _newest_without(self, names: Collection[str]) -> Checkpoint:
        return _read_checkpoint(self.work.model, self._find_without(names), self.worker_context)

    def _find_without(self, names: Collection[str]) -> VersionRow | None:
        with self.worker_context.database.reading() as session:
            number = versions.find_newest_without(session, self.work.model, names)
            return versions.find(session, self.work.model, number) if number else None


def read_examples(work: Work, worker_context: WorkerContext) -> Examples:
    """Return the labels of a learn job, with their real images if its strategy needs them."""
    job = work.job
    if not strategy.find(job.operation, job.strategy).needs_examples:
        return Examples(tuple(job.labels), job.dataset)
    dataset = load_dataset(job.dataset, work, worker_context)
    images = {name: dataset.images("train", source) for name, source in job.sources.items()}
    return Examples(tuple(job.labels), job.dataset, images)


def load_dataset(name: str, work: Work, worker_context: WorkerContext) -> datasets.Dataset:
    """Load the dataset of that name: the one that the job's project uploaded, or else the built-in one.

    Of an uploaded dataset it has the labels whose images the job may read. Raises DatasetUnavailable.
    """
    project, sequence = work.model.project_id, work.job.sequence
    while True:
        with worker_context.database.reading() as session:
            found = uploads.find_readable(session, name, project=project, sequence=sequence)
            is_deleted = found is None and uploads.was_deleted(session, name, project=project)
        if found is None and not is_deleted:
            return _load_built_in(name, worker_context.data, worker_context.artifacts)
        if found is None or not found.labels:
            raise datasets.DatasetUnavailable(f"the dataset {name!r} was deleted")
        try:
            return _load_uploaded(name, found, worker_context.artifacts)
        except ArtifactMissing:
            with worker_context.database.reading() as session:
                if found == uploads.find_readable(session, name, project=project, sequence=sequence):
                    raise
            # Otherwise images were deleted in between, and the dataset has another artifact.


def find_without_images(labels: Collection[Label], work: Work, worker_context: WorkerContext) -> set[str]:
    """Return the names of those of the labels whose images were deleted from an uploaded dataset."""
    project, sequence = work.model.project_id, work.job.sequence
    found = set()
    with worker_context.database.reading() as session:
        for label in labels:
            if uploads.find_deletion(session, label.dataset, label.source, project=project) is None:
                continue
            readable = uploads.find_readable(session, label.dataset, project=project, sequence=sequence)
            if readable is None or label.source not in readable.labels:
                found.add(label.name)
    return found


def forget_uploaded_images() -> None:
    """Remove uploaded images from this process's memory. Called when a job has ended: a later one may not
    read them any more.
    """
    _load_uploaded.cache_clear()


@lru_cache(maxsize=2)
def _load_built_in(name: str, folder: Path, artifacts: Artifacts) -> datasets.Dataset:
    info, _ = datasets.find(name)
    if artifacts.store.is_bucket and info.files is not None:
        dataset_files.fetch(artifacts.store, folder, info.files.images.partition("/")[0])
    return datasets.load(name, folder)


@lru_cache(maxsize=2)
def _load_uploaded(name: str, readable: uploads.ReadableImages, artifacts: Artifacts) -> datasets.Dataset:
    pixels = artifacts.read(readable.sha256)
    dataset = datasets.uploaded(name, dict(readable.stored), pixels, dict(readable.held_out))
    return dataset.only(readable.labels)


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
