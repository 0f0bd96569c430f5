"""The files of a version: checkpoint, decoder, report, and the manifest that binds them by their sha256.

An isolated network has a checkpoint and a decoder of its own. So the files of the main network do not change
when a temporary label is learnt or forgotten.

Pictures show images that no request can draw any more: what the network still draws for each forgotten label
and, after a forget that changed the network, what its parent drew for the other labels.

Running the same job again gives the same bytes: no file holds a time, a host name or an attempt number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from reports import Report
from service.registry import artifact_references
from service.registry.artifacts import Artifacts, Content, encode_document
from service.registry.version_files import (
    CHECKPOINT,
    DECODER,
    MANIFEST,
    REPORT,
    before_file,
    forgotten_file,
    isolated_file,
)
from worker.jobs.code_version import CODE
from worker.jobs.inputs import Work
from worker.jobs.pictures import picture_before, picture_draws
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.export import decoder_onnx
from worker.learning.networks import ARCHITECTURES
from worker.learning.resuming import Environment

MANIFEST_FORMAT = 1
SAFETENSORS, ONNX = "application/vnd.safetensors", "application/onnx"
JSON, PNG = "application/json", "image/png"


@dataclass(frozen=True)
class File(Content):
    """A file of a version."""

    media_type: str

    def entry(self) -> dict[str, Any]:
        """Return its description for the manifest and for the version's row in the database."""
        return {"sha256": self.sha256, "bytes": len(self.data), "media_type": self.media_type}


def version_files(
    candidate: Checkpoint, report: Report, work: Work, environments: Sequence[Environment]
) -> dict[str, File]:
    """Return every file of the version that the job makes, by name.

    environments: those in which the candidate was computed, in order.
    """
    files = {
        CHECKPOINT: File(candidate.to_bytes(), SAFETENSORS),
        DECODER: File(decoder_onnx(candidate), ONNX),
        REPORT: report_file(report),
    }
    for name, isolated in candidate.temporary.items():
        files[isolated_file(name, CHECKPOINT)] = File(isolated.to_bytes(), SAFETENSORS)
        files[isolated_file(name, DECODER)] = File(decoder_onnx(isolated), ONNX)
    # Without its isolated networks: a label that was forgotten and is temporary now is drawn by one of them.
    main = replace(candidate, isolated=())
    for name in main.forgotten:
        files[forgotten_file(name)] = File(picture_draws(main, name), PNG)
    parent = replace(work.checkpoint, isolated=())
    gone = sorted(set(work.job.labels) & set(parent.retained))
    # After an exact forget no weight of the parent is left, so comparing draws would say nothing; and nothing
    # that had learned the labels is kept, so no picture of them either (decision 0126).
    if report.guarantee == "approximate" and gone:
        labels = sorted(set(main.retained) & set(parent.retained))
        for name, picture in picture_before(parent, labels).items():
            files[before_file(name)] = File(picture, PNG)
        for name in gone:
            files[before_file(name)] = File(picture_draws(parent, name), PNG)
    manifest = _manifest(candidate, work, {name: file.entry() for name, file in files.items()})
    if packages := _packages(work):
        manifest["packages"] = packages
    # One, unless the job was resumed in another. Other kinds of machine may give other bytes.
    manifest["environments"] = [one._asdict() for one in environments]
    return {**files, MANIFEST: File(encode_document(manifest), JSON)}


def _manifest(candidate: Checkpoint, work: Work, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest: what the version is, what it was made from, and the entries of its other files."""
    job, model, base = work.job, work.model, work.base
    return {
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
        "seed": work.seed,
        "labels": [asdict(label) for network in (candidate, *candidate.isolated) for label in network.labels],
        "spec": asdict(candidate.spec),
        "files": dict(entries),
        "code": CODE,
    }


def _packages(work: Work) -> dict[str, dict[str, str]]:
    """Return {`strategy`, `network` or `dataset`: name and version of its package} of what is not built in.

    The versions are those of this process, in which the candidate was computed.
    """
    architecture = ARCHITECTURES[work.checkpoint.spec.architecture]
    found = {
        "strategy": strategy.find(work.job.operation, work.job.strategy).package,
        "network": architecture.package,
        "dataset": next((one.package for one in datasets.catalog() if one.name == work.job.dataset), None),
    }
    return {kind: asdict(package) for kind, package in found.items() if package is not None}


def report_file(report: Report) -> File:
    """Return the file that a report is published as."""
    return File(encode_document(report.as_json()), JSON)


def store(files: Mapping[str, File], artifacts: Artifacts) -> dict[str, dict[str, Any]]:
    """Store the files durably, and return their entries for the version's row in the database."""
    for file in files.values():
        artifacts.put(file)
    return {name: file.entry() for name, file in files.items()}


def store_again(session: Session, files: Mapping[str, File], artifacts: Artifacts) -> None:
    """Store the files again that were deleted since `store`, and prevent that until the transaction ends.

    A purge or a collection deletes files that no row refers to. Call it in the transaction that adds the row.
    """
    artifact_references.lock_against_deletion(session)
    for file in files.values():
        if not artifacts.exists(file.sha256):
            artifacts.put(file)
