"""Exports as clients see them: made, found, listed, cancelled, removed. The workers' side: export_parts.py.

Each shard of an export is drawn by a job of its own, and one more job writes the manifest once all shards are
there. So a part of an export has what every job has: a claim with a lease and a fence, a heartbeat, attempts,
a turn. Only a few of these jobs exist at a time: each that ends queues the next one. An export that ends
without a result keeps no file, and neither does one whose version may not be drawn from any more:
export_clearing.py deletes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, and_, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from service.registry.cancelling import cancel_unfinished
from service.registry.database import now, seconds_since
from service.registry.errors import ExportAlreadyFinished, TooManyExports, UnknownExport
from service.registry.export_plan import ExportPlan
from service.registry.json_columns import has_item
from service.registry.pages import Page, newest_first
from service.registry.tables import (
    CLAIMED_STATES,
    DEFAULT_PROJECT,
    UNFINISHED_EXPORTS,
    UNFINISHED_STATES,
    ExportFormat,
    ExportRow,
    ExportShardRow,
    ExportState,
    JobRow,
    ModelRow,
    VersionRow,
    new_id,
)
from service.registry.versions import is_in_state

REQUEST_LOCK = 0x6578706F7274
""""export": an advisory lock of PostgreSQL. SQLite needs none: only one transaction can write at a time."""
MAX_UNFINISHED = 20
"""How many unfinished exports a project may have."""
PARTS_AHEAD = 32
"""How many jobs of an export wait or run at a time: as many workers can draw it together."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What a client asks for."""

    labels: Sequence[str]
    count: int
    seed: int
    format: ExportFormat
    shard_images: int
    created_by: str | None = None
    request_id: str | None = None


def plan_of(export: ExportRow) -> ExportPlan:
    """Return which images the export has."""
    return ExportPlan(export.labels, export.count, export.seed, export.shard_images)


def lock_model(session: Session, model_id: str) -> None:
    """Keep the model from being deleted until the transaction ends. It comes before every other lock.

    The rows that are inserted refer to the model, and would lock it later: a deletion locks the model first.
    """
    model = select(ModelRow.id).where(ModelRow.id == model_id)
    session.execute(model.with_for_update(read=True, key_share=True))


def lock_requests(session: Session) -> None:
    """Let no other export be requested until the transaction ends: there may be room for one, not for two."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(select(func.pg_advisory_xact_lock(REQUEST_LOCK)))


def create(
    session: Session, model: ModelRow, version: VersionRow, request: ExportRequest, *, max_attempts: int
) -> tuple[ExportRow, list[str]]:
    """Insert an export with its first jobs. Returns it, and the ids of the jobs to wake workers for.

    version: locked, so that it is not revoked until the commit, and checked that it may be drawn from.
    Raises TooManyExports.
    """
    unfinished = select(func.count()).select_from(ExportRow).join(ModelRow)
    unfinished = unfinished.where(ExportRow.finished_at.is_(None), ModelRow.project_id == model.project_id)
    if (session.scalar(unfinished) or 0) >= MAX_UNFINISHED:
        raise TooManyExports(MAX_UNFINISHED)
    export = ExportRow(
        id=new_id("exp"),
        model_id=model.id,
        version=version.number,
        labels=list(request.labels),
        count=request.count,
        seed=request.seed,
        format=request.format,
        shard_images=request.shard_images,
        created_by=request.created_by,
        request_id=request.request_id,
    )
    session.add(export)
    session.flush()
    return export, queue_parts(session, export, max_attempts=max_attempts)


def queue_parts(session: Session, export: ExportRow, *, max_attempts: int) -> list[str]:
    """Queue the next jobs of an unfinished export, whose row is locked, for the workers of its model.

    Returns their ids.
    """
    plan, waiting = plan_of(export), select(func.count()).select_from(JobRow)
    waiting = waiting.where(JobRow.export_id == export.id, JobRow.state.in_(UNFINISHED_STATES))
    room = PARTS_AHEAD - (session.scalar(waiting) or 0)
    last = plan.shards + 1 if export.images_done == plan.images else plan.shards
    parts = range(export.next_part, min(last, export.next_part + room))
    model = session.get_one(ModelRow, export.model_id)
    rows = [
        JobRow(
            id=new_id("job"),
            model_id=export.model_id,
            operation="export",
            strategy="export",
            queue=model.queue,
            labels=[],
            dataset=model.dataset,
            params={},
            acceptance={},
            seed=export.seed,
            state="queued",
            max_attempts=max_attempts,
            request_id=export.request_id,
            created_by=export.created_by,
            export_id=export.id,
            part=part,
            audited_at=now(),  # the audit log and webhooks tell of the export
        )
        for part in parts
    ]
    for row in rows:  # one by one, so that they run in the order of the shards
        session.add(row)
        session.flush()
    export.next_part = max(parts.stop, export.next_part)
    session.flush()
    return [row.id for row in rows]


@dataclass(frozen=True)
class ExportFilter:
    """Which exports a list has. None admits all of them."""

    model_id: str | None = None
    version: int | None = None
    state: ExportState | None = None
    label: str | None = None


def page(
    session: Session,
    *,
    project: str = DEFAULT_PROJECT,
    only: ExportFilter = ExportFilter(),
    limit: int,
    after: str | None = None,
) -> Page[ExportRow]:
    """Return the newest exports of the project's models, or those older than the id `after`."""
    query = select(ExportRow).join(ModelRow).where(*_visible(project))
    if only.model_id is not None:
        query = query.where(ExportRow.model_id == only.model_id)
    if only.version is not None:
        query = query.where(ExportRow.version == only.version)
    if only.state is not None:
        query = query.where(ExportRow.state == only.state)
    if only.label is not None:
        query = query.where(has_item(ExportRow.labels, only.label))
    return newest_first(session, query, ExportRow.id, limit=limit, after=after)


def find(session: Session, export_id: str, *, project: str, lock: bool = False) -> ExportRow:
    """Return the project's export of that id. Raises UnknownExport, also for a deleted one.

    lock: lock its row until the transaction ends.
    """
    query = select(ExportRow).join(ModelRow).where(ExportRow.id == export_id, *_visible(project))
    if lock:
        query = query.with_for_update(of=ExportRow).execution_options(populate_existing=True)
    export = session.scalar(query)
    if export is None:
        raise UnknownExport(export_id)
    return export


def find_unfinished(session: Session, model_id: str, version: int) -> str | None:
    """Return the id of an unfinished export of that version, if there is one."""
    query = select(ExportRow.id).where(ExportRow.model_id == model_id, ExportRow.finished_at.is_(None))
    return session.scalar(query.where(ExportRow.version == version).limit(1))


def find_all_unfinished(session: Session, *, project: str | None = None) -> list[ExportRow]:
    """Return the exports that have not ended, of the project or, without one, of all projects."""
    query = select(ExportRow).join(ModelRow).where(ExportRow.finished_at.is_(None))
    return list(session.scalars(query if project is None else query.where(*_visible(project))))


def count_bytes(session: Session, *, project: str) -> int:
    """Return how many bytes the shards of the project's finished exports have."""
    query = select(func.sum(ExportRow.bytes_done)).join(ModelRow)
    query = query.where(ModelRow.project_id == project, ExportRow.state == "succeeded")
    return int(session.scalar(query.where(ExportRow.cleared_at.is_(None))) or 0)


def shards_page(
    session: Session, export: ExportRow, *, limit: int, after: int | None = None
) -> Page[ExportShardRow]:
    """Return the finished shards of an export in the order of their numbers, those after `after`."""
    query = select(ExportShardRow).where(ExportShardRow.export_id == export.id)
    if after is not None:
        query = query.where(ExportShardRow.number > after)
    rows = list(session.scalars(query.order_by(ExportShardRow.number).limit(limit + 1)))
    return Page(rows[:limit], len(rows) > limit)


@dataclass(frozen=True)
class ExportProgress:
    """How far an export is."""

    images: int
    """How many images are in finished shards, or drawn for the next ones."""
    seconds: float | None
    """How long it has been running; None before it has started."""


def measure_progress(session: Session, export: ExportRow) -> ExportProgress:
    """Return how far the export is now."""
    if export.done:
        return ExportProgress(export.images_done, None)
    running = select(JobRow.progress).where(
        JobRow.export_id == export.id, JobRow.state.in_(CLAIMED_STATES), JobRow.progress.is_not(None)
    )
    drawn = sum(progress["step"] for progress in session.scalars(running))
    seconds = select(cast(seconds_since(ExportRow.started_at), Float)).where(ExportRow.id == export.id)
    return ExportProgress(export.images_done + drawn, session.scalar(seconds))


def cancel(session: Session, export_id: str, *, project: str) -> ExportRow:
    """Cancel the export: nothing more is published, and its shards are deleted. Again, it changes nothing.

    Raises UnknownExport, ExportAlreadyFinished.
    """
    export = find(session, export_id, project=project, lock=True)
    if export.state == "cancelled":
        return export
    if export.done:
        raise ExportAlreadyFinished(export.id, export.state)
    stop(session, export, "cancelled")
    return export


def remove(session: Session, export_id: str) -> None:
    """Delete the export of that id, which exists: it is found no more, and its files are deleted soon."""
    export = session.get_one(ExportRow, export_id, with_for_update=True, populate_existing=True)
    if not export.done:
        stop(session, export, "cancelled")
    export.deleted_at = export.deleted_at or now()
    session.flush()


def stop(
    session: Session, export: ExportRow, state: ExportState, error: dict[str, Any] | None = None
) -> None:
    """End the export without a result, and cancel its jobs. Its row is locked."""
    if not export.done:
        export.finished_at = now()
    export.state, export.error = state, error
    session.flush()
    cancel_unfinished(session, JobRow.export_id == export.id)


def stop_unusable(session: Session, model_id: str) -> None:
    """Revoke the exports of versions that may not be drawn from any more, and of a deleted model.

    Called in the transaction that revokes, purges or deletes a version, or deletes the model.
    """
    query = (
        select(ExportRow)
        .join(ModelRow, ModelRow.id == ExportRow.model_id)
        .join(
            VersionRow,
            and_(VersionRow.model_id == ExportRow.model_id, VersionRow.number == ExportRow.version),
        )
        .where(
            ExportRow.model_id == model_id,
            ExportRow.state.in_((*UNFINISHED_EXPORTS, "succeeded")),
            or_(~is_in_state("usable"), ModelRow.deleted_at.is_not(None)),
        )
        .with_for_update(of=ExportRow)
    )
    for export in session.scalars(query.execution_options(populate_existing=True)):
        stop(session, export, "revoked")


def is_to_settle(session: Session) -> bool:
    """Whether `settle` would change something."""
    is_left = JobRow.state.in_(UNFINISHED_STATES) & JobRow.cancel_requested.is_(False)
    left = select(JobRow.id).where(_is_of_ended(), is_left)
    return any(session.execute(query.limit(1)).first() is not None for query in (_ended_jobs(), left))


def settle(session: Session) -> None:
    """End the exports of which a job has failed, or was cancelled, and cancel what is left of ended ones.

    Earlier releases could leave a queued job of an export that had ended.
    """
    for export_id, state, error in session.execute(_ended_jobs()).all():
        export = session.get_one(ExportRow, export_id, with_for_update=True, populate_existing=True)
        if not export.done:
            stop(session, export, "cancelled" if state == "cancelled" else "failed", error)
    cancel_unfinished(session, _is_of_ended())


def _is_of_ended() -> ColumnElement[bool]:
    """Return an SQL condition on jobs: the job is of an export that has ended."""
    has_ended = exists().where(ExportRow.id == JobRow.export_id, ExportRow.finished_at.is_not(None))
    return JobRow.export_id.is_not(None) & has_ended


def _ended_jobs() -> Select[Any]:
    """Return the query of the jobs that ended without their part while their export goes on."""
    ended = select(JobRow.export_id, JobRow.state, JobRow.error).join(
        ExportRow, ExportRow.id == JobRow.export_id
    )
    ended = ended.where(
        ExportRow.finished_at.is_(None), JobRow.state.in_(("failed", "rejected", "cancelled"))
    )
    return ended.order_by(JobRow.sequence)


def _visible(project: str) -> tuple[Any, ...]:
    return ModelRow.project_id == project, ModelRow.deleted_at.is_(None), ExportRow.deleted_at.is_(None)
