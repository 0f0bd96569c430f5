"""What a claimed job starts from: its rows, its base version's checkpoint, its examples, and its archive."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from sqlalchemy.orm import Session
from torch import Tensor

from service.registry import datasets as uploads
from service.registry import jobs, labels, models, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.errors import StaleBase
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.versions import isolated_file
from worker.jobs.cost import Meter
from worker.jobs.version_files import CHECKPOINT
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Unavailable


@dataclass(frozen=True)
class WorkerContext:
    """What a worker executes jobs with."""

    database: Database
    artifacts: FolderArtifacts
    data: Path
    judges: Path
    """Where the judges trained here are kept, and the feature networks."""
    device: torch.device
    worker: str
    """How it signs its claims."""
    lease_seconds: float
    shutting_down: Callable[[], bool]
    precision: torch.dtype = torch.float32


@dataclass(frozen=True)
class Work:
    """A claimed job with everything it starts from."""

    job: JobRow
    model: ModelRow
    base: VersionRow | None
    """What it starts from, or measures; None before the first."""
    checkpoint: Checkpoint
    """The base version's, or the blank model."""

    @property
    def asked(self) -> int:
        """Keyed by what is asked for alone, of the main network where a forgetting is of both kinds."""
        names = set(self.job.labels)
        if self.job.operation == "forget":
            names -= set(self.checkpoint.temporary)  # dropping takes no chances
        return strategy.derive_seed(self.model.seed, self.job.seed, self.job.operation, sorted(names))

    @property
    def seed(self) -> int:
        """Keyed by the main network it starts from, too: a job that is run again has the same chances, and
        what was temporary in between changes none. A temporary label's are its own, whatever labels are asked
        for with it: the strategy keys them by its name."""
        if self.job.retention == "temporary":
            return strategy.derive_seed(self.model.seed, self.job.seed, self.job.operation, "temporary")
        return strategy.derive_seed(self.asked, sha256(self.checkpoint.to_bytes()).hexdigest())


def work_of(claim: Claim, worker_context: WorkerContext) -> Work:
    """Raises RegistryError where what was asked for no longer applies."""
    with worker_context.database.reading() as session:
        model, job = models.find(session, claim.model_id), jobs.find(session, claim.job_id)
        base = _base(session, model, job)
        status = {name: row.status for name, row in labels.statuses(session, model.id).items()}
    _check_still_applies(job, model, status)
    return Work(job, model, base, _checkpoint(model, base, worker_context))


@dataclass(frozen=True)
class ModelArchive:
    """What a strategy may ask for besides its checkpoint: the model's datasets and earlier versions."""

    worker_context: WorkerContext
    work: Work
    meter: Meter

    def images(self, label: Label) -> Tensor:
        images = self._dataset(label).train[label.source]
        self.meter.count(label.name, len(images))
        return images

    def held_out(self, label: Label) -> Tensor:
        return self._dataset(label).test[label.source]

    def _dataset(self, label: Label) -> datasets.Dataset:
        try:
            return dataset_of(label.dataset, self.worker_context)
        except datasets.DatasetUnavailable as error:
            raise Unavailable(str(error)) from error

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        with self.worker_context.database.reading() as session:
            number = versions.newest_without(session, self.work.model, names)
            ancestor = versions.find(session, self.work.model, number) if number else None
        return _checkpoint(self.work.model, ancestor, self.worker_context)


def examples_of(job: JobRow, worker_context: WorkerContext) -> Examples:
    """Read the real images of the labels to learn, if the job's strategy needs them."""
    if not strategy.find(job.operation, job.strategy).needs_examples:
        return Examples(tuple(job.labels), job.dataset)
    dataset = dataset_of(job.dataset, worker_context)
    return Examples(
        tuple(job.labels), job.dataset, {name: dataset.train[own] for name, own in job.sources.items()}
    )


@lru_cache(maxsize=2)
def dataset_of(name: str, worker_context: WorkerContext) -> datasets.Dataset:
    """An uploaded dataset, else one the learner knows. Neither ever changes."""
    with worker_context.database.reading() as session:
        row = uploads.find(session, name)
    if row is None:
        return datasets.load(name, worker_context.data)
    return datasets.uploaded(name, row.images, worker_context.artifacts.read(row.sha256))


def _base(session: Session, model: ModelRow, job: JobRow) -> VersionRow | None:
    """What the job measures, or starts from. Raises VersionRevoked."""
    if job.operation == "evaluate":
        return versions.measurable(session, model, job.evaluated_version)
    return None if model.head is None else versions.head(session, model)


def _check_still_applies(job: JobRow, model: ModelRow, status: Mapping[str, str]) -> None:
    """The rules once more: an earlier job the request counted on may have failed. Raises RegistryError."""
    if job.base_version is not None and job.base_version != model.head:
        raise StaleBase(job.base_version, model.head)
    if job.operation == "learn":
        labels.check_learn(model.name, job.labels, status, retention=job.retention)
    elif job.operation == "forget":
        labels.check_forget(model.name, job.labels, status)
        labels.check_held(model.name, job.labels, status)
    elif job.operation == "resize":
        labels.check_resize(model.name, status)


def _checkpoint(model: ModelRow, version: VersionRow | None, worker_context: WorkerContext) -> Checkpoint:
    """What the version is made of; the blank model before the first one."""
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
