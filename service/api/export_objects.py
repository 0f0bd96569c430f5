"""The JSON objects by which the API describes an export and its shards."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.job_objects import JobErrorObject
from service.drawing.shards import FORMATS
from service.registry import export_parts, exports
from service.registry.errors import UnknownExport
from service.registry.tables import ExportRow, ExportShardRow, ExportState, ModelRow
from service.requests.fields import EXPORT_ID


class ExportProgressObject(BaseModel):
    """How far an export is."""

    images: int = Field(description="How many images are in finished shards, or drawn for the next ones.")
    total: int
    fraction: float = Field(description="`images` / `total`, from 0 to 1.")
    eta_seconds: float | None = Field(description="The estimated seconds until its end, if known.")


class ManifestReference(BaseModel):
    """The file that lists all shards of an export."""

    sha256: str
    bytes: int
    href: str


class ExportObject(BaseModel):
    """An export: many images of a version, in shards. Poll it until `done`.

    The labels take turns: image i is of label i modulo their number, and its seed is `seed` + i divided by
    their number. Every shard but the last has `shard_images` of them.
    """

    id: str
    object: Literal["export"] = "export"
    model: str
    model_name: str
    version: int
    labels: list[str]
    count: int
    images: int = Field(description="How many images the labels have together.")
    seed: int
    format: Literal["npz", "webdataset"]
    shard_images: int
    shards: int = Field(description="How many shards it has when it is complete.")
    state: ExportState = Field(
        description="`revoked`: its version may not be drawn from any more, because it holds a forgotten "
        "label or was deleted. What ended as `failed`, `cancelled` or `revoked` has no files."
    )
    done: bool = Field(description="Whether it has ended, in whatever way.")
    progress: ExportProgressObject
    bytes: int = Field(description="How many bytes the finished shards have.")
    manifest: ManifestReference | None = Field(description="Once it has succeeded.")
    error: JobErrorObject | None = Field(description="Why it failed.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class ShardObject(BaseModel):
    """A finished shard of an export. Its sha256 is also the ETag of its URL."""

    number: int
    object: Literal["export.shard"] = "export.shard"
    file: str = Field(description="The name of the file in the manifest.")
    first_image: int
    images: int
    sha256: str
    bytes: int
    media_type: str
    href: str


def find_export(session: Session, project: str, export_id: str) -> ExportRow:
    """Return the project's export of that id. Raises UnknownExport."""
    if not EXPORT_ID.fullmatch(export_id):
        raise UnknownExport(export_id)
    return exports.find(session, export_id, project=project)


def has_no_files(export: ExportRow) -> bool:
    """Whether the export ended without a result, so that its files are deleted, or soon will be."""
    return export.state in ("failed", "cancelled", "revoked")


def describe_export(session: Session, export: ExportRow) -> ExportObject:
    """Return the object of an export, with how far it is now."""
    model, plan = session.get_one(ModelRow, export.model_id), exports.plan_of(export)
    progress = exports.measure_progress(session, export)
    eta = None
    if not export.done and progress.seconds and progress.images:
        eta = round(progress.seconds / progress.images * (plan.images - progress.images), 1)
    address = f"/v1/exports/{export.id}"
    manifest = None
    if export.manifest is not None and export.manifest_bytes is not None and not has_no_files(export):
        manifest = ManifestReference(
            sha256=export.manifest, bytes=export.manifest_bytes, href=f"{address}/manifest"
        )
    return ExportObject(
        id=export.id,
        model=model.id,
        model_name=model.name,
        version=export.version,
        labels=export.labels,
        count=export.count,
        images=plan.images,
        seed=export.seed,
        format=export.format,
        shard_images=export.shard_images,
        shards=plan.shards,
        state=export.state,
        done=export.done,
        progress=ExportProgressObject(
            images=progress.images,
            total=plan.images,
            fraction=round(progress.images / plan.images, 6),
            eta_seconds=eta,
        ),
        bytes=export.bytes_done,
        manifest=manifest,
        error=None if export.error is None else JobErrorObject(**export.error),
        created_at=export.created_at,
        started_at=export.started_at,
        finished_at=export.finished_at,
        links={
            "self": address,
            "shards": f"{address}/shards",
            "manifest": f"{address}/manifest",
            "cancel": f"{address}/cancel",
            "model": f"/v1/models/{model.id}",
        },
    )


def describe_shard(export: ExportRow, shard: ExportShardRow) -> ShardObject:
    """Return the object of a finished shard."""
    return ShardObject(
        number=shard.number,
        file=export_parts.shard_name(export.format, shard.number),
        first_image=exports.plan_of(export).range_of(shard.number).first,
        images=shard.images,
        sha256=shard.sha256,
        bytes=shard.bytes,
        media_type=FORMATS[export.format],
        href=f"/v1/exports/{export.id}/shards/{shard.number}",
    )
