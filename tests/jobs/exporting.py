"""Short ways to make exports, to run their jobs in the process of the test, and to read their files."""

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from service.drawing.decoders import Generator
from service.registry import exports, versions
from service.registry.exports import ExportRequest
from service.registry.tables import ExportRow, ExportShardRow, JobRow, ModelRow
from worker.jobs.inputs import WorkerContext
from worker.jobs.turns import Turns

Images = dict[tuple[str, int], NDArray[np.uint8]]
"""{(label, seed): the image}."""


def new_export(context: WorkerContext, model: ModelRow, **changes: Any) -> str:
    """Request an export of 10 images of two labels in shards of 4; returns its id."""
    fields: dict[str, Any] = {"labels": ["0", "1"], "count": 5, "seed": 7, "format": "npz", "shard_images": 4}
    request = ExportRequest(**(fields | changes))
    with context.database.transaction() as session:
        version = versions.find_head(session, session.merge(model, load=True))
        export, _ = exports.create(session, model, version, request, max_attempts=3)
        return export.id


def run_jobs(context: WorkerContext, *, until: Callable[[], bool] = lambda: False) -> None:
    """Run jobs as a worker does until none waits, or `until` is true."""
    turns = Turns()
    while not until() and queued(context):
        turns.run_one(context)


def queued(context: WorkerContext) -> list[str]:
    """Return the ids of the queued jobs, the oldest first."""
    with context.database.reading() as session:
        query = select(JobRow.id).where(JobRow.state == "queued").order_by(JobRow.sequence)
        return list(session.scalars(query))


def find_export(context: WorkerContext, export_id: str) -> ExportRow:
    with context.database.reading() as session:
        return session.get_one(ExportRow, export_id)


def shards_of(context: WorkerContext, export_id: str) -> list[ExportShardRow]:
    """Return the shards of the export by their numbers."""
    with context.database.reading() as session:
        query = select(ExportShardRow).where(ExportShardRow.export_id == export_id)
        return list(session.scalars(query.order_by(ExportShardRow.number)))


def read_manifest(context: WorkerContext, export_id: str) -> dict[str, Any]:
    """Return the manifest of a complete export."""
    sha256 = find_export(context, export_id).manifest
    assert sha256 is not None, "the export has no manifest"
    manifest: dict[str, Any] = json.loads(context.artifacts.read(sha256))
    return manifest


def read_images(format: str, shard: bytes, *, labels: list[str], seed: int) -> Images:
    """Return the images of a shard."""
    return _read_npz(shard) if format == "npz" else _read_tar(shard, labels, seed)


def draw_images(context: WorkerContext, model: ModelRow, labels: list[str], seeds: range) -> Images:
    """Return the images of the head that samples have."""
    generator = Generator(context.artifacts)
    with context.database.reading() as session:
        version = versions.find_head(session, session.merge(model, load=True))
        decoders = versions.find_decoders(session, model, version, labels)
    return {
        (label, seed): generator.draw(one.sha256, label=label, slot=one.slot, seeds=[seed])[0]
        for label, one in decoders.items()
        for seed in seeds
    }


def _read_npz(shard: bytes) -> Images:
    with np.load(io.BytesIO(shard), allow_pickle=False) as arrays:
        found = zip(arrays["labels"].tolist(), arrays["seeds"].tolist(), arrays["images"], strict=True)
        return {(label, seed): image for label, seed, image in found}


def _read_tar(shard: bytes, labels: list[str], seed: int) -> Images:
    found: Images = {}
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
    contents = {name: file.read() for name, file in files.items() if file is not None}
    for name in sorted(name for name in contents if name.endswith(".png")):
        number = int(name.removesuffix(".png"))
        label = labels[int(contents[f"{number:09}.cls"])]
        image = Image.open(io.BytesIO(contents[name]), formats=["PNG"])
        assert number % len(labels) == labels.index(label)
        found[label, seed + number // len(labels)] = np.asarray(image)
    return found
