"""The files of a version: checkpoint, decoder, report, and the manifest that binds them by their sha256.

Beside them a picture of what is still drawn for each forgotten label: nobody may draw it later. And, with a
version that forgot by changing its network, one of what its parent drew for each label that stays: nobody may
draw from the parent now.
An isolated network has a checkpoint and a decoder of its own: when a temporary label comes or goes, the main
network's files stay what they were, to the byte.
The same job gives the same bytes, however often it is run: no clock, no host, no attempt in any of them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from reports import Report
from service.drawing.decoders import Decoder, noise
from service.drawing.images import grid, png
from service.registry.artifacts import Content, FolderArtifacts, encode_document
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.version_files import (
    CHECKPOINT,
    COMPARED_DRAWS,
    DECODER,
    MANIFEST,
    REPORT,
    before_file,
    forgotten_file,
    isolated_file,
)
from worker.jobs.code_version import CODE
from worker.learning import drawing
from worker.learning.checkpoint import Checkpoint
from worker.learning.export import decoder_onnx

MANIFEST_FORMAT = 1
SAFETENSORS, ONNX = "application/vnd.safetensors", "application/onnx"
JSON, PNG = "application/json", "image/png"
PICTURE_ROWS, PICTURE_COLUMNS, PICTURE_SEED = 2, 8, 0
"""Of a forgotten label's picture; the same noise for every version, so that pictures compare."""


@dataclass(frozen=True)
class File(Content):
    """A file of a version."""

    media_type: str

    def entry(self) -> dict[str, Any]:
        """Return how the manifest and the registry's row describe it."""
        return {"sha256": self.sha256, "bytes": len(self.data), "media_type": self.media_type}


def version_files(
    checkpoint: Checkpoint,
    report: Report,
    *,
    model: ModelRow,
    job: JobRow,
    base: VersionRow | None,
    seed: int,
    before: Checkpoint,
) -> dict[str, File]:
    """Every file of the version the job makes, by name. `seed` is the one the strategy ran with.

    before: what it was made from; the base's checkpoint where there is a base.
    """
    files = {
        CHECKPOINT: File(checkpoint.to_bytes(), SAFETENSORS),
        DECODER: File(decoder_onnx(checkpoint), ONNX),
        REPORT: report_file(report),
    }
    for name, isolated in checkpoint.temporary.items():
        files[isolated_file(name, CHECKPOINT)] = File(isolated.to_bytes(), SAFETENSORS)
        files[isolated_file(name, DECODER)] = File(decoder_onnx(isolated), ONNX)
    main = replace(checkpoint, isolated=())  # a label learned again for a time is drawn there by its own
    for name in main.forgotten:
        files[forgotten_file(name)] = File(_picture(main, name), PNG)
    if _shows_before(job, before, report):
        decoder = Decoder.load("the parent's", decoder_onnx(replace(before, isolated=())))
        for name in sorted(set(main.retained) & set(before.retained)):
            files[before_file(name)] = File(_before(decoder, name, before.retained[name]), PNG)
    manifest = {
        "format": MANIFEST_FORMAT,
        "model": {"id": model.id, "name": model.name, "dataset": model.dataset, "network": model.network},
        "version": base.number + 1 if base else 1,
        "parent": {"version": base.number, "manifest_sha256": base.files[MANIFEST]["sha256"]}
        if base
        else None,
        "job": {
            "operation": job.operation,
            "strategy": job.strategy,
            "labels": job.labels,
            "dataset": job.dataset,
            "renamed": job.renamed or {},
            "retention": job.retention,
            "params": job.params,
            "acceptance": job.acceptance,
            "seed": job.seed,
        },
        "seed": seed,
        "labels": [asdict(label) for one in (checkpoint, *checkpoint.isolated) for label in one.labels],
        "spec": asdict(checkpoint.spec),
        "files": {name: file.entry() for name, file in files.items()},
        "code": CODE,
    }
    return {**files, MANIFEST: File(encode_document(manifest), JSON)}


def report_file(report: Report) -> File:
    """A report as it is published."""
    return File(encode_document(report.as_json()), JSON)


def store(files: Mapping[str, File], artifacts: FolderArtifacts) -> dict[str, dict[str, Any]]:
    """Store the files, durably, and return their entries for the registry's row."""
    for file in files.values():
        artifacts.put(file)
    return {name: file.entry() for name, file in files.items()}


def store_again(files: Mapping[str, File], artifacts: FolderArtifacts) -> None:
    """Store those files again that a purge has deleted since `store`.

    Call it while nothing can be deleted: in the transaction that publishes the version.
    """
    for file in files.values():
        if not artifacts.exists(file.sha256):
            artifacts.put(file)


def _picture(checkpoint: Checkpoint, label: str) -> bytes:
    """A grid of what the network draws for a label it may not draw."""
    count = PICTURE_ROWS * PICTURE_COLUMNS
    images = drawing.draw(checkpoint, label, count, PICTURE_SEED).mul(255).round().to(torch.uint8)
    side = math.isqrt(images.shape[1])
    return png(grid(images.reshape(count, side, side).numpy(), PICTURE_ROWS, PICTURE_COLUMNS))


def _shows_before(job: JobRow, before: Checkpoint, report: Report) -> bool:
    """Whether the network forgot by being changed: where none of its weights stay, no draw of theirs does."""
    return report.guarantee == "approximate" and bool(set(job.labels) & set(before.retained))


def _before(decoder: Decoder, label: str, slot: int) -> bytes:
    """A row of what the API drew for the label by the parent."""
    images = [decoder.draw(slot, noise(label, seed, decoder.latent)) for seed in range(COMPARED_DRAWS)]
    return png(grid(np.stack(images), 1, COMPARED_DRAWS))
