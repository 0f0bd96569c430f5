"""The erasure log: a file with all forgotten labels, deleted models, versions and images, apart from backups.

A backup holds what was forgotten after it was made. Whoever restores it needs to know of these erasures, and
the database that knew them is lost. So the sweeper writes every forget that succeeded as a line of JSON to
this file before its receipt is signed, and likewise deletions of models and of uploaded images. Put the file
on another disk than the home folder (PALIMPSEST_ERASURE_LOG), or copy it elsewhere regularly. It contains
names and ids, and no image or weight.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import durable
from service.registry import datasets
from service.registry.database import now
from service.registry.tables import (
    DatasetDeletionRow,
    FactRow,
    JobRow,
    ModelDeletionRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    VersionDeletionRow,
    VersionRow,
)

BATCH = 200
"""How many erasures one transaction writes at most."""


REPLAYED = "replayed_erasures"
"""The fact that lists the forgets which were replayed."""


class UnreadableLog(Exception):
    """A line of the erasure log is not an erasure; the message says which line."""


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


AnyErasure: TypeAlias = Erasure | ModelErasure | VersionErasure | ImageErasure
KINDS: dict[str, type[Erasure] | type[ModelErasure] | type[VersionErasure] | type[ImageErasure]] = {
    "forget": Erasure,
    "delete_model": ModelErasure,
    "delete_version": VersionErasure,
    "delete_images": ImageErasure,
}


def write_due(session: Session, path: Path) -> int:
    """Append every erasure that is not in the log yet. Returns how many. For the sweeper alone.

    The lines are durable before the transaction commits. If it does not commit, they are written again, which
    does no harm. A purge that was requested later gets a line of its own. Raises OSError.
    """
    forgets = session.execute(_due_forgets()).all()
    deleted = session.scalars(_due_deletions()).all()
    images = session.scalars(_due_image_deletions()).all()
    versions = session.execute(_due_version_deletions()).all()
    purged = set(session.scalars(select(ModelDeletionRow.model_id)))
    due: list[AnyErasure] = [_erasure(job, model, purge) for job, model, purge in forgets]
    due += [_model_erasure(model, purge=model.id in purged) for model in deleted]
    due += [_image_erasure(deletion) for deletion in images]
    due += [_version_erasure(deletion, model) for deletion, model in versions]
    if not due:
        return 0
    _append(path, "".join(_line(erasure) for erasure in due))
    written = update(ReceiptRow).where(ReceiptRow.job_id.in_([job.id for job, _, _ in forgets]))
    session.execute(written.values(logged_at=now()).execution_options(synchronize_session=False))
    gone = update(ModelRow).where(ModelRow.id.in_([model.id for model in deleted]))
    session.execute(gone.values(deletion_logged_at=now()).execution_options(synchronize_session=False))
    unlearned = update(DatasetDeletionRow).where(DatasetDeletionRow.id.in_([one.id for one in images]))
    session.execute(unlearned.values(logged_at=now()).execution_options(synchronize_session=False))
    for deletion, _ in versions:
        deletion.logged_at = now()
    return len(due)


def read(path: Path) -> list[AnyErasure]:
    """Return the erasures in the log, the oldest first; of those with one id the last. Raises UnreadableLog.

    A last line that is incomplete was being written when the process died; its transaction did not commit,
    so the line is there again or the erasure was never confirmed.
    """
    erasures: dict[str, AnyErasure] = {}
    for number, line, complete in _lines(path):
        try:
            values = json.loads(line)
            kind = KINDS[values["kind"]]
            erasure = kind(**{field.name: values[field.name] for field in fields(kind)})
        except (ValueError, TypeError, KeyError) as error:
            if complete:
                raise UnreadableLog(f"line {number} of {path} is not an erasure ({error})") from error
            continue
        erasures.pop(erasure.id, None)
        erasures[erasure.id] = erasure
    return list(erasures.values())


def find_unknown(session: Session, erasures: Sequence[AnyErasure]) -> list[AnyErasure]:
    """Return the erasures that the database does not know: it is older than they are.

    Erasures of models, or of images, that the database does not have either are left out, because nothing is
    left to forget.
    """
    forgets = (
        select(JobRow.id, PurgeRow.job_id)
        .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
        .where(JobRow.state == "succeeded", JobRow.operation == "forget")
    )
    known: dict[str, str | None] = dict(session.execute(forgets).all())
    replayed = set(read_replayed(session))
    present = set(session.scalars(select(ModelRow.id).where(ModelRow.deleted_at.is_(None))))

    deletions = set(session.scalars(select(DatasetDeletionRow.id)))

    def is_unknown(erasure: AnyErasure) -> bool:
        if isinstance(erasure, ImageErasure):
            is_known = erasure.id in deletions or erasure.id in replayed
            return not is_known and bool(find_images(session, erasure))
        if erasure.model_id not in present or erasure.id in replayed:
            return False
        if isinstance(erasure, VersionErasure):
            return _is_there(session, erasure)
        if isinstance(erasure, ModelErasure):
            return True
        return erasure.id not in known or (erasure.purge and known[erasure.id] is None)

    return [erasure for erasure in erasures if is_unknown(erasure)]


def _is_there(session: Session, erasure: VersionErasure) -> bool:
    """Whether the database has the version, and does not know that it was deleted."""
    same = (VersionRow.model_id == erasure.model_id, VersionRow.number == erasure.version)
    return session.scalar(select(VersionRow.id).where(*same, VersionRow.deleted_at.is_(None))) is not None


def find_images(session: Session, erasure: ImageErasure) -> list[str]:
    """Return the labels of the erasure whose images the dataset still has."""
    row = datasets.find(session, erasure.dataset, project=erasure.project_id)
    return [] if row is None else [label for label in row.images if label in erasure.labels]


def read_replayed(session: Session) -> list[str]:
    """Return the ids of the forgets that were replayed in this database after it was restored."""
    fact = session.get(FactRow, REPLAYED)
    return list(fact.value["jobs"]) if fact else []


def record_replayed(session: Session, erasures: Sequence[AnyErasure]) -> None:
    """Record that these erasures were replayed, so that the database counts as knowing them."""
    jobs = [*read_replayed(session), *(erasure.id for erasure in erasures)]
    session.merge(FactRow(name=REPLAYED, value={"jobs": jobs}))


def _due_forgets() -> Any:
    return (
        select(JobRow, ModelRow, PurgeRow)
        .join(ReceiptRow, ReceiptRow.job_id == JobRow.id)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
        .where(ReceiptRow.logged_at.is_(None), JobRow.operation == "forget", JobRow.state == "succeeded")
        .order_by(JobRow.sequence)
        .limit(BATCH)
    )


def _due_deletions() -> Any:
    due = select(ModelRow).where(ModelRow.deleted_at.is_not(None), ModelRow.deletion_logged_at.is_(None))
    return due.order_by(ModelRow.deleted_at).limit(BATCH)


def _due_image_deletions() -> Any:
    due = select(DatasetDeletionRow).where(DatasetDeletionRow.logged_at.is_(None))
    return due.order_by(DatasetDeletionRow.id).limit(BATCH)


def _due_version_deletions() -> Any:
    due = select(VersionDeletionRow, ModelRow).join(ModelRow, ModelRow.id == VersionDeletionRow.model_id)
    due = due.where(VersionDeletionRow.logged_at.is_(None))
    return due.order_by(VersionDeletionRow.created_at).limit(BATCH)


def _line(erasure: AnyErasure) -> str:
    kind = next(name for name, one in KINDS.items() if isinstance(erasure, one))
    return json.dumps({"kind": kind, **asdict(erasure)}, sort_keys=True) + "\n"


def _image_erasure(deletion: DatasetDeletionRow) -> ImageErasure:
    return ImageErasure(
        deletion.id,
        deletion.project_id,
        deletion.dataset,
        list(deletion.labels),
        deletion.created_at.isoformat(),
    )


def _version_erasure(deletion: VersionDeletionRow, model: ModelRow) -> VersionErasure:
    return VersionErasure(model.id, model.name, deletion.number, deletion.created_at.isoformat())


def _model_erasure(model: ModelRow, *, purge: bool) -> ModelErasure:
    assert model.deleted_at is not None, "it is deleted"
    return ModelErasure(model.id, model.name, purge, model.deleted_at.isoformat())


def _erasure(job: JobRow, model: ModelRow, purge: PurgeRow | None) -> Erasure:
    assert job.output_version is not None, "a forget that succeeded has published a version"
    assert job.finished_at is not None, "it has ended"
    return Erasure(
        job_id=job.id,
        model_id=model.id,
        model_name=model.name,
        labels=job.labels,
        strategy=job.strategy,
        params=job.params,
        seed=job.seed,
        guarantee=job.guarantee,
        acceptance=job.acceptance,
        purge=purge is not None,
        version=job.output_version,
        finished_at=job.finished_at.isoformat(),
    )


def _append(path: Path, lines: str) -> None:
    """Append to the file and return once it is durable. An incomplete last line is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = "\n" + lines
        data = lines.encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(f"cannot write all of the erasures to {path}: the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    durable.sync_name(path)


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Iterate over (number, line, whether it was written completely). Empty lines are left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line, line.endswith("}\n")
