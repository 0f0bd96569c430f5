"""Workers: their signs of life, and what they offer besides what is built in.

A worker signs in when it starts, gives a sign of life every few seconds, and signs out when it is shut down.
What installed packages bring to it is in its row, so that the API, which imports no code of a worker, can
tell what a request may name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from service.registry.database import from_now, now
from service.registry.tables import JobRow, WorkerRow

LIVE_SECONDS = 20.0
"""A worker that gave no sign of life for so long is dead, or cannot reach the database."""
KEPT_SECONDS = 30 * 86400.0
"""How long the row of a dead worker tells what it offered."""


@dataclass(frozen=True)
class Offering:
    """A worker that offers something from other packages, and whether it lives."""

    worker: str
    offers: Mapping[str, Any]
    """{strategies, datasets, architectures}, as the worker wrote them: not checked."""
    is_live: bool
    seen_at: datetime


def sign_in(session: Session, name: str, *, code: str, offers: Mapping[str, Any] | None) -> None:
    """Record that the worker has started, and what it offers. It replaces an earlier row of the same name.

    Rows of dead workers that tell nothing more are deleted.
    """
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))
    dead = session.scalars(select(WorkerRow).where(~_is_live())).all()
    superseded = [row.name for row in dead if row.offers is None or row.offers == offers]
    session.execute(
        delete(WorkerRow).where(
            ~_is_live(),
            or_(WorkerRow.name.in_(superseded), WorkerRow.seen_at < from_now(-KEPT_SECONDS)),
        )
    )
    session.add(WorkerRow(name=name, code=code, offers=None if offers is None else dict(offers)))
    session.flush()


def give_sign_of_life(session: Session, name: str) -> bool:
    """Record that the worker lives. False if it has no row, and must sign in again."""
    lives = update(WorkerRow).where(WorkerRow.name == name).values(seen_at=now(), stopped_at=None)
    return session.scalar(lives.returning(WorkerRow.name)) is not None


def sign_out(session: Session, name: str) -> None:
    """Record that the worker stops."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(stopped_at=now()))


def list_live(session: Session) -> list[WorkerRow]:
    """List the workers that live, the one that started last first."""
    order = (WorkerRow.started_at.desc(), WorkerRow.name)
    return list(session.scalars(select(WorkerRow).where(_is_live()).order_by(*order)))


def find_offerings(session: Session) -> list[Offering]:
    """Return the workers that offer something, or did, the one that started last first."""
    query = (
        select(WorkerRow.name, WorkerRow.offers, _is_live(), WorkerRow.seen_at)
        .where(WorkerRow.offers.is_not(None))
        .order_by(WorkerRow.started_at.desc(), WorkerRow.name)
    )
    return [
        Offering(name, offers, bool(is_live), seen_at)
        for name, offers, is_live, seen_at in session.execute(query)
    ]


def was_ever_offered(session: Session, kind: str, name: str) -> bool:
    """Whether a worker offers a `network` or `dataset` of that name, or did before it died."""
    return any(
        one.get("name") == name
        for offering in find_offerings(session)
        for one in _items(offering.offers, kind)
    )


def find_waiting(session: Session, jobs: Iterable[JobRow]) -> dict[str, str]:
    """Return {id: what it waits for} of the queued jobs that no live worker can run for lack of a package."""
    queued = [job for job in jobs if job.state == "queued" and job.packages]
    if not queued:
        return {}
    live = [one.offers for one in find_offerings(session) if one.is_live]
    waiting = {}
    for job in queued:
        needed = needs_of(job)
        if not any(all(_offers(offers, need) for need in needed) for offers in live):
            waiting[job.id] = _describe_lack(needed, live)
    return waiting


def count_waiting_packages(session: Session, *, seconds: float, limit: int = 100) -> dict[str, int]:
    """Return {what they wait for: how many} of the jobs that have waited so long for lack of a package."""
    query = select(JobRow).where(
        JobRow.state == "queued", JobRow.packages.is_not(None), JobRow.created_at < from_now(-seconds)
    )
    oldest = session.scalars(query.order_by(JobRow.sequence).limit(limit))
    return Counter(find_waiting(session, oldest).values())


@dataclass(frozen=True)
class Need:
    """Something of another package that a job needs."""

    kind: str
    """`strategy`, `network` or `dataset`."""
    name: str
    package: str
    operation: str | None = None
    """Of a strategy."""

    def __str__(self) -> str:
        return f"the {self.kind} {self.name} of the package {self.package}"


def needs_of(job: JobRow) -> list[Need]:
    """Return what the job needs of other packages than this project."""
    packages = job.packages or {}
    names = {"strategy": job.strategy, "dataset": job.dataset}
    if "network" in packages:
        names["network"] = job.model.network.get("architecture", "")
    return [
        Need(kind, names[kind], package, job.operation if kind == "strategy" else None)
        for kind, package in packages.items()
        if kind in names
    ]


_LISTS = {"strategy": "strategies", "network": "architectures", "dataset": "datasets"}
"""{kind of a need: the list of the catalog that has it}."""


def _offers(offers: Mapping[str, Any], need: Need) -> bool:
    for one in _items(offers, need.kind):
        package = one.get("package") or {}
        found = one.get("name"), package.get("name")
        if found == (need.name, need.package) and need.operation in (None, one.get("operation")):
            return True
    return False


def _items(offers: object, kind: str) -> list[Mapping[str, Any]]:
    """Return the offers of a kind, whatever a row has in their place."""
    items = offers.get(_LISTS[kind]) if isinstance(offers, Mapping) else None
    return [one for one in items if isinstance(one, Mapping)] if isinstance(items, list) else []


def _describe_lack(needed: Sequence[Need], live: Sequence[Mapping[str, Any]]) -> str:
    missing = [need for need in needed if not any(_offers(offers, need) for offers in live)]
    if missing:
        return f"no running worker offers {' and '.join(map(str, missing))}"
    return f"no running worker offers all of {', '.join(map(str, needed))}"


def _is_live() -> ColumnElement[bool]:
    """Return an SQL condition. A sign of life from the future was given before the clock was set back."""
    seen = WorkerRow.seen_at
    return and_(WorkerRow.stopped_at.is_(None), seen > from_now(-LIVE_SECONDS), seen < from_now(LIVE_SECONDS))
