"""The parts of an export as their jobs see them: what to draw, and the transactions that publish it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.registry import audit, claims, export_clearing, exports, jobs, versions
from service.registry.claims import Claim
from service.registry.database import now
from service.registry.errors import FencedOff
from service.registry.export_plan import ExportPlan, ImageRange
from service.registry.publishing import finish_job
from service.registry.sweeping import NextJob
from service.registry.tables import (
    ExportFormat,
    ExportRow,
    ExportShardRow,
    JobRow,
    ModelRow,
)
from service.registry.versions import LabelDecoder

MEDIA_TYPES: Mapping[ExportFormat, str] = {
    "npz": "application/octet-stream",
    "webdataset": "application/x-tar",
}
SUFFIXES: Mapping[ExportFormat, str] = {"npz": ".npz", "webdataset": ".tar"}


@dataclass(frozen=True)
class Part:
    """What a job of an export has to do: draw a shard, or write the manifest."""

    export_id: str
    format: ExportFormat
    plan: ExportPlan
    number: int
    decoders: Mapping[str, LabelDecoder]
    """{label: what draws it}."""

    @property
    def is_manifest(self) -> bool:
        """Whether all shards are there, so that the manifest is to be written."""
        return self.number == self.plan.shards

    @property
    def range(self) -> ImageRange:
        """Which images the shard has."""
        return self.plan.range_of(self.number)


@dataclass(frozen=True)
class StoredShard:
    """A shard that is a durable artifact already."""

    sha256: str
    bytes: int
    rendering: str
    """What drew it: decoders.RENDERING."""


def shard_name(format: ExportFormat, number: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{number:05d}{SUFFIXES[format]}"


def read_part(session: Session, claim: Claim) -> Part:
    """Return what the claimed job has to do. Raises FencedOff if the export has ended."""
    job = jobs.find(session, claim.job_id)
    export = session.get_one(ExportRow, claim.export_id)
    if export.done:
        raise FencedOff(claim.job_id, claim.fence)
    model = session.get_one(ModelRow, export.model_id)
    version = versions.find(session, model, export.version)
    decoders = versions.find_decoders(session, model, version, export.labels)
    assert job.part is not None, "a job of an export has the number of its part"
    return Part(export.id, export.format, exports.plan_of(export), job.part, decoders)


def begin(session: Session, claim: Claim) -> None:
    """Record that a worker has begun with the export."""
    export = update(ExportRow).where(ExportRow.id == claim.export_id, ExportRow.state == "queued")
    session.execute(export.values(state="running", started_at=now()))


def note_file(session: Session, claim: Claim, sha256: str) -> None:
    """Record that the job is about to store this file: it is deleted with the export, published or not.

    Repeating it has no effect. Raises FencedOff if the job was taken over or cancelled: it stores nothing.
    """
    claims.require_held(session, claim)
    job = jobs.find(session, claim.job_id)
    if job.cancel_requested:
        raise FencedOff(claim.job_id, claim.fence)
    export_clearing.set_stored_files(job, {*export_clearing.stored_files_of(job), sha256})
    session.flush()


def publish_shard(session: Session, claim: Claim, part: Part, shard: StoredShard) -> None:
    """End the job as succeeded, record its shard, and queue the next part of the export.

    Repeating it has no effect. Raises FencedOff if the job was taken over, or if the export has ended.
    """
    if session.get(ExportShardRow, (part.export_id, part.number)) is not None:
        return
    export = _lock_unfinished(session, claim)
    job = finish_job(session, claim, output_version=None, cost=None)
    export_clearing.set_stored_files(job, export_clearing.stored_files_of(job) - {shard.sha256})
    session.add(
        ExportShardRow(
            export_id=part.export_id,
            number=part.number,
            images=part.range.images,
            sha256=shard.sha256,
            bytes=shard.bytes,
            rendering=shard.rendering,
        )
    )
    export.images_done += part.range.images
    export.bytes_done += shard.bytes
    session.flush()
    exports.queue_parts(session, export, max_attempts=job.max_attempts)


def publish_manifest(session: Session, claim: Claim, *, sha256: str, size: int) -> None:
    """End the job and its export as succeeded. Repeating it has no effect. Raises FencedOff as above."""
    if session.get_one(ExportRow, claim.export_id).manifest == sha256:
        return
    export = _lock_unfinished(session, claim)
    job = finish_job(session, claim, output_version=None, cost=None)
    export_clearing.set_stored_files(job, export_clearing.stored_files_of(job) - {sha256})
    export.manifest, export.manifest_bytes = sha256, size
    export.state, export.finished_at = "succeeded", now()
    session.flush()


def find_next(session: Session, export_id: str) -> NextJob | None:
    """Return the oldest queued job of the export, if there is one."""
    query = select(JobRow.id, JobRow.queue).where(JobRow.export_id == export_id, JobRow.state == "queued")
    row = session.execute(query.order_by(JobRow.sequence).limit(1)).one_or_none()
    return None if row is None else NextJob(*row)


def describe(session: Session, export_id: str) -> dict[str, Any]:
    """Return the manifest of an export whose shards are all there."""
    export = session.get_one(ExportRow, export_id)
    model = session.get_one(ModelRow, export.model_id)
    version = versions.find(session, model, export.version)
    plan = exports.plan_of(export)
    decoders = versions.find_decoders(session, model, version, export.labels)
    rows = session.scalars(
        select(ExportShardRow).where(ExportShardRow.export_id == export_id).order_by(ExportShardRow.number)
    ).all()
    return {
        "object": "export.manifest",
        "export": export.id,
        "model": {"id": model.id, "name": model.name},
        "version": version.number,
        "format": export.format,
        "labels": list(plan.labels),
        "count": plan.count,
        "seed": plan.seed,
        "images": plan.images,
        "shard_images": plan.shard_images,
        "order": "image i is of labels[i % len(labels)], with the seed seed + i // len(labels)",
        "decoders": {
            label: {"sha256": decoder.sha256, "slot": decoder.slot} for label, decoder in decoders.items()
        },
        "rendering": sorted({row.rendering for row in rows}),
        "shards": [
            {
                "number": row.number,
                "file": shard_name(export.format, row.number),
                "first_image": plan.range_of(row.number).first,
                "images": row.images,
                "bytes": row.bytes,
                "sha256": row.sha256,
            }
            for row in rows
        ],
    }


def has_unrecorded(session: Session) -> bool:
    """Whether `add_outcomes` would add an entry."""
    query = select(ExportRow.id).where(ExportRow.finished_at.is_not(None), ExportRow.audited_at.is_(None))
    return session.scalar(query.limit(1)) is not None


def add_outcomes(session: Session) -> list[ExportRow]:
    """Add an entry to the audit log for exports that have ended and have none yet. Returns these exports."""
    query = select(ExportRow, ModelRow.project_id).join(ModelRow)
    query = query.where(ExportRow.finished_at.is_not(None), ExportRow.audited_at.is_(None))
    ended = session.execute(query.order_by(ExportRow.id).limit(audit.BATCH)).all()
    for export, project_id in ended:
        details = {"state": export.state, "model": export.model_id, "version": export.version}
        if export.error:
            details["error"] = export.error["code"]
        audit.append(
            session, "export.end", export.id, actor=audit.SERVICE, project_id=project_id, details=details
        )
        export.audited_at = now()
    session.flush()
    return [export for export, _ in ended]


def _lock_unfinished(session: Session, claim: Claim) -> ExportRow:
    exports.lock_model(session, claim.model_id)
    export = session.get_one(ExportRow, claim.export_id, with_for_update=True, populate_existing=True)
    if export.done:
        raise FencedOff(claim.job_id, claim.fence)
    return export
