"""The erasure log: a file with every label that was forgotten, kept apart from database and backups.

A backup holds what was forgotten after it was made. Whoever restores it needs to know of these erasures, and
the database that knew them is lost. So the sweeper writes every forget that succeeded as a line of JSON to
this file before its receipt is signed. Put the file on another disk than the home folder
(PALIMPSEST_ERASURE_LOG), or copy it elsewhere regularly. It contains names and ids, and no image or weight.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import durable
from service.registry.database import now
from service.registry.tables import FactRow, JobRow, ModelRow, PurgeRow, ReceiptRow

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


def write_due(session: Session, path: Path) -> int:
    """Append every erasure that is not in the log yet. Returns how many. For the sweeper alone.

    The lines are durable before the transaction commits. If it does not commit, they are written again, which
    does no harm. A purge that was requested later gets a line of its own. Raises OSError.
    """
    due = session.execute(_due()).all()
    if not due:
        return 0
    lines = [json.dumps(asdict(_erasure(job, model, purge)), sort_keys=True) for job, model, purge in due]
    _append(path, "".join(line + "\n" for line in lines))
    written = update(ReceiptRow).where(ReceiptRow.job_id.in_([job.id for job, _, _ in due]))
    session.execute(written.values(logged_at=now()).execution_options(synchronize_session=False))
    return len(due)


def read(path: Path) -> list[Erasure]:
    """Return the erasures in the log, the oldest first; of several of one job the last. Raises UnreadableLog.

    A last line that is incomplete was being written when the process died; its transaction did not commit,
    so the line is there again or the erasure was never confirmed.
    """
    erasures: dict[str, Erasure] = {}
    for number, line, complete in _lines(path):
        try:
            values = json.loads(line)
            erasure = Erasure(**{field.name: values[field.name] for field in fields(Erasure)})
        except (ValueError, TypeError, KeyError) as error:
            if complete:
                raise UnreadableLog(f"line {number} of {path} is not an erasure ({error})") from error
            continue
        erasures.pop(erasure.job_id, None)
        erasures[erasure.job_id] = erasure
    return list(erasures.values())


def find_unknown(session: Session, erasures: Sequence[Erasure]) -> list[Erasure]:
    """Return the erasures that the database does not know: it is older than they are.

    Erasures of models that the database does not know either are left out, because nothing is left to forget.
    """
    forgets = (
        select(JobRow.id, PurgeRow.job_id)
        .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
        .where(JobRow.state == "succeeded", JobRow.operation == "forget")
    )
    known: dict[str, str | None] = dict(session.execute(forgets).all())
    replayed = set(read_replayed(session))
    models = set(session.scalars(select(ModelRow.id)))
    return [
        erasure
        for erasure in erasures
        if erasure.model_id in models
        and erasure.job_id not in replayed
        and (erasure.job_id not in known or (erasure.purge and known[erasure.job_id] is None))
    ]


def read_replayed(session: Session) -> list[str]:
    """Return the ids of the forgets that were replayed in this database after it was restored."""
    fact = session.get(FactRow, REPLAYED)
    return list(fact.value["jobs"]) if fact else []


def record_replayed(session: Session, erasures: Sequence[Erasure]) -> None:
    """Record that these erasures were replayed, so that the database counts as knowing them."""
    jobs = [*read_replayed(session), *(erasure.job_id for erasure in erasures)]
    session.merge(FactRow(name=REPLAYED, value={"jobs": jobs}))


def _due() -> Any:
    return (
        select(JobRow, ModelRow, PurgeRow)
        .join(ReceiptRow, ReceiptRow.job_id == JobRow.id)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
        .where(ReceiptRow.logged_at.is_(None), JobRow.operation == "forget", JobRow.state == "succeeded")
        .order_by(JobRow.sequence)
        .limit(BATCH)
    )


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
