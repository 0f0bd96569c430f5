"""Exports as clients see them: made, found, listed, cancelled, removed. The workers' side: export_parts.py.

Each shard of an export is drawn by a job of its own, and one more job writes the manifest once all shards are
there. So a part of an export has what every job has: a claim with a lease and a fence, a heartbeat, attempts,
a turn. Only a few of these jobs exist at a time: each that ends queues the next one. An export that ends
without a result keeps no file, and neither does one whose version may not be drawn from any more.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, String, and_, cast, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from service.registry import artifact_references
from service.registry.artifacts import Artifacts
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
    JobEventRow,
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
SHARDS_PER_TRANSACTION = 100
"""How many shards one transaction deletes: a job that publishes waits for it."""
JOBS_PER_TRANSACTION = 500
STORED_FILES = "stored_files"
"""The entry in the params of a job of an export (`stored_files_of`)."""


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


def is_to_clear() -> ColumnElement[bool]:
    """Return the SQL condition that an export ended without a result, or was deleted, and may have files."""
    is_over = or_(ExportRow.deleted_at.is_not(None), ExportRow.state.in_(("failed", "cancelled", "revoked")))
    return ExportRow.cleared_at.is_(None) & is_over


def stored_files_of(job: JobRow) -> set[str]:
    """Return the sha256 of the files that a job of an export has stored, or is about to, and did not publish.

    A worker that is killed leaves such a file, and the shard that another one draws may have other bytes.
    They stand in the job's params: a job of an export has no others.
    """
    return set(job.params.get(STORED_FILES, ()))


def set_stored_files(job: JobRow, files: Set[str]) -> None:
    """Record the files that a job of an export may have stored and did not publish."""
    job.params = {STORED_FILES: sorted(files)} if files else {}


def _has_stored_files() -> ColumnElement[bool]:
    """Return an SQL condition on jobs of exports: `stored_files_of` the job is not empty."""
    return cast(JobRow.params, String) != "{}"


@dataclass(frozen=True)
class RemovedFiles:
    """What was deleted of exports."""

    shards: int
    images: int
    kept: int
    """How many files are kept, because another export has the same bytes."""
    left: list[str]
    """Why a bucket keeps old versions of some, for each export."""


def find_to_clear(session: Session) -> list[str]:
    """Return the ids of the exports whose files are to be deleted: no job writes any of them more."""
    written = select(JobRow.id).where(JobRow.export_id == ExportRow.id, JobRow.state.in_(CLAIMED_STATES))
    query = select(ExportRow.id).where(is_to_clear(), ~written.exists())
    return list(session.scalars(query.order_by(ExportRow.id)))


def clear(session: Session, export_id: str, artifacts: Artifacts) -> bool | None:
    """Delete the files of some shards of an export, and their rows. Returns whether none is left.

    The last call deletes what jobs of the export stored and did not publish, too.
    Returns None, and deletes nothing, if the artifacts are locked. If the process is killed halfway, no row
    has changed, so that the next call deletes the same files.
    """
    if not artifact_references.try_lock_for_deletion(session):
        return None
    export = session.get_one(ExportRow, export_id, with_for_update=True, populate_existing=True)
    query = select(ExportShardRow).where(ExportShardRow.export_id == export_id)
    rows = session.scalars(query.order_by(ExportShardRow.number).limit(SHARDS_PER_TRANSACTION)).all()
    files = [_entry(export, f"shard {row.number}", row.sha256, row.bytes) for row in rows]
    if export.manifest is not None:
        files.append(_entry(export, "manifest", export.manifest, export.manifest_bytes or 0))
        export.manifest = export.manifest_bytes = None
    is_clear = len(rows) < SHARDS_PER_TRANSACTION
    if is_clear:
        unpublished = select(JobRow).where(JobRow.export_id == export_id, _has_stored_files())
        for job in session.scalars(unpublished.order_by(JobRow.part)):
            files += [_entry(export, f"part {job.part}", sha256, 0) for sha256 in stored_files_of(job)]
    for row in rows:
        session.delete(row)
    session.flush()
    _, kept = artifact_references.delete_listed(session, files, artifacts)
    before = export.removed or {"shards": 0, "images": 0, "bytes": 0, "kept": 0, "left": []}
    reasons = {file["reason"] for file in kept if "reason" in file}
    export.removed = {
        "shards": before["shards"] + len(rows),
        "images": before["images"] + sum(row.images for row in rows),
        "bytes": before["bytes"] + sum(row.bytes for row in rows),
        "kept": before["kept"]
        + _count_in_use(session, [one["sha256"] for one in kept if "reason" not in one]),
        "left": sorted({*before["left"], *reasons}),
    }
    if is_clear:
        export.cleared_at = now()
    session.flush()
    return is_clear


def _count_in_use(session: Session, files: Sequence[str]) -> int:
    """Count the files that an export needs whose own files are not to be deleted next.

    Two exports of the same images have the same bytes (docs/decisions/0143).
    """
    is_live = ~is_to_clear() & ExportRow.cleared_at.is_(None)
    shards = select(ExportShardRow.sha256).join(ExportRow, ExportRow.id == ExportShardRow.export_id)
    manifests = select(ExportRow.manifest).where(is_live, ExportRow.manifest.in_(files))
    in_use = {*session.scalars(shards.where(is_live, ExportShardRow.sha256.in_(files)))}
    in_use.update(one for one in session.scalars(manifests) if one is not None)
    return sum(one in in_use for one in files)


def find_forgotten_by(session: Session, job: JobRow) -> list[ExportRow]:
    """Return the exports whose images this forget concerns, however they ended. Their files are deleted.

    These are the exports of earlier versions that hold one of its labels, whichever job revoked them, and of
    the versions that it revoked or purged. job: a forget that has succeeded.
    """
    version = and_(VersionRow.model_id == ExportRow.model_id, VersionRow.number == ExportRow.version)
    columns = (VersionRow.number, VersionRow.labels, VersionRow.revoked_by, VersionRow.purged_by)
    query = select(ExportRow, *columns).join(VersionRow, version).where(ExportRow.model_id == job.model_id)
    query = query.order_by(ExportRow.id).execution_options(populate_existing=True)
    assert job.output_version is not None, "a forget that succeeded has published a version"
    return [
        export
        for export, number, labels, revoked_by, purged_by in session.execute(query)
        if job.id in (revoked_by, purged_by)
        or (number < job.output_version and not set(labels).isdisjoint(job.labels))
    ]


def summarise_removed(rows: Sequence[ExportRow]) -> RemovedFiles:
    """Return what was deleted of these exports together."""
    removed = [row.removed or {} for row in rows]
    shards, images, kept = (sum(one.get(key, 0) for one in removed) for key in ("shards", "images", "kept"))
    return RemovedFiles(shards, images, kept, [reason for one in removed for reason in one.get("left", ())])


def find_of_model(session: Session, model_id: str) -> list[ExportRow]:
    """Return every export of the model, also deleted ones, the oldest first."""
    query = select(ExportRow).where(ExportRow.model_id == model_id).order_by(ExportRow.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def has_jobs(session: Session) -> bool:
    """Whether `delete_ended_jobs` would delete a row."""
    return session.scalar(_jobs_to_delete().limit(1)) is not None


def delete_ended_jobs(session: Session) -> int:
    """Delete the rows of jobs that have drawn their part, or whose export has ended. Returns how many.

    Their shards say what they did. An export may have thousands, which no client ever sees. A job that names
    files which it did not publish stays until these are deleted.
    """
    ids = list(session.scalars(_jobs_to_delete().limit(JOBS_PER_TRANSACTION)))
    if ids:
        session.execute(delete(JobEventRow).where(JobEventRow.job_id.in_(ids)))
        session.execute(delete(JobRow).where(JobRow.id.in_(ids)).execution_options(synchronize_session=False))
    return len(ids)


def _jobs_to_delete() -> Select[Any]:
    query = select(JobRow.id).join(ExportRow, ExportRow.id == JobRow.export_id)
    return query.where(
        JobRow.export_id.is_not(None),
        JobRow.state.not_in(UNFINISHED_STATES),
        or_(JobRow.state == "succeeded", ExportRow.finished_at.is_not(None)),
        or_(~_has_stored_files(), ExportRow.cleared_at.is_not(None)),
    )


def _visible(project: str) -> tuple[Any, ...]:
    return ModelRow.project_id == project, ModelRow.deleted_at.is_(None), ExportRow.deleted_at.is_(None)


def _entry(export: ExportRow, name: str, sha256: str, size: int) -> dict[str, Any]:
    return {"version": export.version, "file": f"export {export.id}: {name}", "sha256": sha256, "bytes": size}
