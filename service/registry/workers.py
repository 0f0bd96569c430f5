"""Workers: their signs of life, the queues they serve, what they offer besides what is built in, their end.

A worker signs in when it starts, gives a sign of life every few seconds, and signs out when it is shut down.
What installed packages bring to it is in its row, so that the API, which imports no code of a worker, can
tell what a request may name. With a sign of life the worker reads whether it is to end (`drain`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, delete, or_, select, update
from sqlalchemy.orm import Session

from service.queue_names import DEFAULT_QUEUE
from service.registry.database import from_now, now
from service.registry.tables import DrainMode, JobRow, WorkerRow

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


def sign_in(
    session: Session,
    name: str,
    *,
    code: str,
    offers: Mapping[str, Any] | None,
    queues: Sequence[str] = (DEFAULT_QUEUE,),
) -> None:
    """Record that the worker has started, what it offers and which queues it serves.

    It replaces an earlier row of the same name.

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
    session.add(
        WorkerRow(name=name, code=code, offers=None if offers is None else dict(offers), queues=[*queues])
    )
    session.flush()


def give_sign_of_life(session: Session, name: str) -> bool:
    """Record that the worker lives. False if it has no row, and must sign in again."""
    lives = update(WorkerRow).where(WorkerRow.name == name).values(seen_at=now(), stopped_at=None)
    return session.scalar(lives.returning(WorkerRow.name)) is not None


def request_drain(session: Session, names: Sequence[str], mode: DrainMode) -> None:
    """Ask these workers to take no more jobs and to end. They read it with their next sign of life."""
    session.execute(update(WorkerRow).where(WorkerRow.name.in_(names)).values(drain=mode))


def find_drain(session: Session, name: str) -> DrainMode | None:
    """Return whether the worker is to end, and what becomes of its job."""
    return session.scalars(select(WorkerRow.drain).where(WorkerRow.name == name)).one_or_none()


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


def find_served(session: Session) -> dict[str, int]:
    """Return {queue: how many workers that live serve it}. Those that are to end count no longer."""
    rows = session.scalars(select(WorkerRow).where(_is_live(), WorkerRow.drain.is_(None)))
    return dict(Counter(queue for row in rows for queue in queues_of(row)))


def served_as_text() -> Select[str]:
    """Return a query for what the live workers serve, as texts in a fixed order, each once."""
    served = cast(WorkerRow.queues, String)
    return select(served).where(_is_live(), WorkerRow.drain.is_(None)).distinct().order_by(served)


def queues_of(row: WorkerRow) -> list[str]:
    """Return the queues that the worker serves."""
    return [DEFAULT_QUEUE] if row.queues is None else row.queues


def find_waiting(session: Session, jobs: Iterable[JobRow]) -> dict[str, str]:
    """Return {id: what it waits for} of the queued jobs that no live worker can run.

    None serves the queue of such a job, or none that does has its packages. While no worker runs at all, a
    job of the default queue that needs no package waits for nothing in particular.
    """
    queued = [job for job in jobs if job.state == "queued"]
    if not queued:
        return {}
    live = list_live(session)
    waiting = {}
    for job in queued:
        lack = _find_lack(job, live)
        if lack is not None:
            waiting[job.id] = lack
    return waiting


def count_waiting(session: Session, *, seconds: float, limit: int = 100) -> dict[str, int]:
    """Return {what they wait for: how many} of the jobs that have waited so long for a worker to run them."""
    served = [*find_served(session)]
    if not served:
        served = [DEFAULT_QUEUE]
    query = select(JobRow).where(
        JobRow.state == "queued",
        or_(JobRow.packages.is_not(None), JobRow.queue.not_in(served)),
        JobRow.created_at < from_now(-seconds),
    )
    oldest = session.scalars(query.order_by(JobRow.sequence).limit(limit))
    return Counter(find_waiting(session, oldest).values())


def _find_lack(job: JobRow, live: Sequence[WorkerRow]) -> str | None:
    """Return what the job waits for; None if a live worker can run it."""
    serving = [row for row in live if row.drain is None and job.queue in queues_of(row)]
    if not serving and (live or job.queue != DEFAULT_QUEUE):
        return f"no running worker serves the queue {job.queue}"
    offers = [row.offers for row in serving if row.offers is not None]
    needed = needs_of(job)
    if not needed or any(all(_offers(one, need) for need in needed) for one in offers):
        return None
    where = "" if job.queue == DEFAULT_QUEUE else f" of the queue {job.queue}"
    return _describe_lack(needed, offers, where)


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


def _describe_lack(needed: Sequence[Need], live: Sequence[Mapping[str, Any]], where: str) -> str:
    missing = [need for need in needed if not any(_offers(offers, need) for offers in live)]
    if missing:
        return f"no running worker{where} offers {' and '.join(map(str, missing))}"
    return f"no running worker{where} offers all of {', '.join(map(str, needed))}"


def _is_live() -> ColumnElement[bool]:
    """Return an SQL condition. A sign of life from the future was given before the clock was set back."""
    seen = WorkerRow.seen_at
    return and_(WorkerRow.stopped_at.is_(None), seen > from_now(-LIVE_SECONDS), seen < from_now(LIVE_SECONDS))
