"""Check the artifacts by their hashes: all that rows refer to, the heads' files first.

What is wrong with an artifact is recorded as a fault, until a later check finds it repaired.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.registry.artifact_references import find_referenced
from service.registry.artifacts import Artifacts
from service.registry.database import Database, from_now
from service.registry.store import StoreFailed
from service.registry.tables import ArtifactFaultRow, FactRow, ModelRow, VersionRow

Fault = Literal["missing", "corrupt", "unreadable"]

FACT = "scrub"
OWNER_SECONDS = 120.0
"""After how long without news another process takes over the scrub of one that has ended."""


@dataclass(frozen=True)
class ScrubState:
    """How far the scrub is. It is stored as a fact, so that every process can tell."""

    owner: str
    """The process that scrubs, as host:pid."""
    total: int
    checked: int
    bytes: int
    finished: bool

    @property
    def fraction(self) -> float:
        return self.checked / self.total if self.total else 1.0


@dataclass(frozen=True)
class StoreStatistics:
    """The result of the scrub, for health checks and metrics."""

    faults: dict[Fault, int]
    state: ScrubState | None
    updated_at: datetime | None


def list_artifacts(session: Session) -> list[str]:
    """Return the sha256 of every artifact that a row refers to: those of heads first, then in order."""
    first, referenced = set(list_head_artifacts(session)), find_referenced(session)
    return [*sorted(first & referenced), *sorted(referenced - first)]


def list_head_artifacts(session: Session) -> list[str]:
    """Return the sha256 of the files of every model's newest version."""
    heads = select(VersionRow.files).join(
        ModelRow, (ModelRow.id == VersionRow.model_id) & (ModelRow.head == VersionRow.number)
    )
    return sorted({file["sha256"] for files in session.scalars(heads) for file in files.values()})


def check_artifact(
    artifacts: Artifacts, sha256: str, pause: Callable[[int], object] = lambda _: None
) -> tuple[Fault | None, int]:
    """Hash the artifact's file. Returns what is wrong with it, or None, and how many bytes were read.

    pause: called with the number of bytes after every read. Raises StoreFailed: then nothing is known of it.
    """
    digest, size = hashlib.sha256(), 0
    try:
        for piece in artifacts.pieces(sha256):
            digest.update(piece)
            size += len(piece)
            pause(len(piece))
    except FileNotFoundError:
        return "missing", size
    except StoreFailed:
        raise
    except OSError:
        return "unreadable", size
    return (None if digest.hexdigest() == sha256 else "corrupt"), size


def is_due(session: Session, *, owner: str, hours: float) -> bool:
    """Whether this process should check every artifact now.

    A pass begins `hours` after the last one ended. A process that finds another one's pass waits until
    nothing was heard of it for OWNER_SECONDS.
    """
    fact = session.get(FactRow, FACT)
    if fact is None:
        return True
    state = ScrubState(**fact.value)
    wait = hours * 3600 if state.finished else OWNER_SECONDS
    if state.owner == owner and not state.finished:
        return True
    recent = select(FactRow.name).where(FactRow.name == FACT, FactRow.updated_at > from_now(-wait))
    return session.scalar(recent) is None


def list_faults(session: Session) -> list[str]:
    """Return the sha256 of every artifact that the last check found missing or damaged."""
    return list(session.scalars(select(ArtifactFaultRow.sha256).order_by(ArtifactFaultRow.sha256)))


def record(session: Session, results: Mapping[str, Fault | None]) -> dict[str, Fault | None]:
    """Record what is wrong with these artifacts, or that nothing is. Returns what was not known before.

    An artifact that no row refers to any more was deleted rightly: nothing is wrong with it.
    """
    referenced = find_referenced(session)
    known: dict[str, Fault] = {row.sha256: row.fault for row in session.scalars(select(ArtifactFaultRow))}
    found = {sha256: fault if sha256 in referenced else None for sha256, fault in results.items()}
    news = {sha256: fault for sha256, fault in found.items() if known.get(sha256) != fault}
    for sha256, fault in news.items():
        session.execute(delete(ArtifactFaultRow).where(ArtifactFaultRow.sha256 == sha256))
        if fault is not None:
            session.add(ArtifactFaultRow(sha256=sha256, fault=fault))
    return news


def save_state(session: Session, state: ScrubState) -> None:
    """Record how far the scrub is."""
    session.execute(delete(FactRow).where(FactRow.name == FACT))
    session.add(FactRow(name=FACT, value=asdict(state)))


def read_statistics(database: Database) -> StoreStatistics:
    """Return the number of faults by kind, and how far the scrub is. Raises DatabaseUnavailable."""
    with database.reading() as session:
        counts = select(ArtifactFaultRow.fault, func.count()).group_by(ArtifactFaultRow.fault)
        found: dict[Fault, int] = {"missing": 0, "corrupt": 0, "unreadable": 0}
        found |= {fault: int(count) for fault, count in session.execute(counts)}
        fact = session.get(FactRow, FACT)
    return StoreStatistics(
        faults=found,
        state=None if fact is None else ScrubState(**fact.value),
        updated_at=None if fact is None else fact.updated_at,
    )
