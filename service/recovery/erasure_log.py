"""The erasure log: a file with all forgotten labels, deleted models, versions and images, apart from backups.

A backup holds what was forgotten after it was made. Whoever restores it needs to know of these erasures, and
the database that knew them is lost. So the sweeper writes every forget that succeeded as a line of JSON to
this file before its receipt is signed, and likewise deletions of models and of uploaded images, and what
withdrawals.py names. Put the file on another disk than the home folder (PALIMPSEST_ERASURE_LOG), or copy it
elsewhere regularly. It contains names and ids, and no image or weight.

If the file is lost, it is written again from the database.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlalchemy import String, cast, select, update
from sqlalchemy.orm import Session

from service import durable
from service.recovery import withdrawals
from service.recovery.erasures import (
    KINDS,
    AnyErasure,
    Erasure,
    ImageErasure,
    ModelErasure,
    VersionErasure,
    to_line,
)
from service.recovery.withdrawals import Withdrawal
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


log = logging.getLogger(__name__)


class UnreadableLog(Exception):
    """A line of the erasure log is not an erasure; the message says which line."""


def write_due(session: Session, path: Path) -> int:
    """Append every erasure that is not in the log yet. Returns how many.

    The lines are durable before the transaction commits. If it does not commit, they are written again, which
    does no harm. A purge that was requested later gets a line of its own. Raises OSError.
    """
    if is_lost(path) and (lost := _find_logged(session)):
        log.error(
            "the erasure log %s was lost: its %d lines are written again from the database; what was "
            "forgotten before a restore may be missing, so bring back a copy of the file if there is one",
            *(path, len(lost)),
        )
        write_again(session)
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
    _append(path, due)
    written = update(ReceiptRow).where(ReceiptRow.job_id.in_([job.id for job, _, _ in forgets]))
    session.execute(written.values(logged_at=now()).execution_options(synchronize_session=False))
    gone = update(ModelRow).where(ModelRow.id.in_([model.id for model in deleted]))
    session.execute(gone.values(deletion_logged_at=now()).execution_options(synchronize_session=False))
    unlearned = update(DatasetDeletionRow).where(DatasetDeletionRow.id.in_([one.id for one in images]))
    session.execute(unlearned.values(logged_at=now()).execution_options(synchronize_session=False))
    for deletion, _ in versions:
        deletion.logged_at = now()
    return len(due)


def sweep(session: Session, path: Path) -> None:
    """Write all that is not in the log yet. For the sweeper alone. Raises OSError."""
    lost = is_lost(path)
    write_due(session, path)  # it may find that all is to be written again
    if withdrawn := withdrawals.take_due(session):
        _append(path, withdrawn)
    elif lost and is_lost(path):
        _append(path, [])  # an empty line: from now on the file is there, and one that is not was lost


def is_lost(path: Path) -> bool:
    """Whether the log is missing or empty, as it is before the first sweep. Raises OSError."""
    return not path.exists() or (path.is_file() and not path.stat().st_size)


def find_missing(session: Session, erasures: Sequence[AnyErasure]) -> set[str]:
    """Return the ids of what the database recorded as written to the log and the log does not have."""
    return _find_logged(session) - {erasure.id for erasure in erasures}


def write_again(session: Session) -> None:
    """Have the sweeper write everything again that the database knows of."""
    for _, logged_at in LOGGED:
        query = update(logged_at.class_).where(logged_at.is_not(None)).values({logged_at.key: None})
        session.execute(query.execution_options(synchronize_session=False))
    withdrawals.copy_again(session)


def merge(path: Path, erasures: Sequence[AnyErasure]) -> None:
    """Append to the log, durably, the erasures that it does not have. Raises OSError, UnreadableLog."""
    own = {to_line(erasure) for erasure in (read(path) if path.exists() else [])}
    if missing := [erasure for erasure in erasures if to_line(erasure) not in own]:
        _append(path, missing)


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

    withdrawn = withdrawals.find_unknown(session, [one for one in erasures if isinstance(one, Withdrawal)])

    def is_unknown(erasure: AnyErasure) -> bool:
        if isinstance(erasure, Withdrawal):
            return erasure.id in withdrawn and erasure.id not in replayed
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


LOGGED = (
    (ReceiptRow.job_id, ReceiptRow.logged_at),
    (ModelRow.id, ModelRow.deletion_logged_at),
    (DatasetDeletionRow.id, DatasetDeletionRow.logged_at),
    (
        VersionDeletionRow.model_id + "/" + cast(VersionDeletionRow.number, String),
        VersionDeletionRow.logged_at,
    ),
)
"""The ids of erasures, with the column that says when each was written to the log."""


def _find_logged(session: Session) -> set[str]:
    """Return the ids of all that the database recorded as written to the log."""
    found = withdrawals.find_copied(session)
    for erasure_id, logged_at in LOGGED:
        found |= set(session.scalars(select(erasure_id).where(logged_at.is_not(None))))
    return found


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


def _append(path: Path, erasures: Sequence[AnyErasure]) -> None:
    """Append to the log and return once it is durable. An incomplete last line is ended first.

    Without erasures it gets an empty line, which `read` leaves out.
    """
    lines = "".join(to_line(erasure) for erasure in erasures) or "\n"
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
