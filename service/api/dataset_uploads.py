"""Read an upload that was received, then store it, or only say what storing it would do."""

import base64
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from service.api.context import ApiContext
from service.api.error_kinds import PAYLOAD_TOO_LARGE, UNSAFE_SERIALIZATION, rule_kind
from service.api.problems import Problem
from service.drawing import examples, images
from service.registry import artifact_references, datasets
from service.registry.artifacts import FileContent
from service.registry.datasets import IMAGE_BYTES, UploadFacts
from service.registry.space import measure_disk_bytes
from service.registry.tables import DatasetRow
from service.requests.catalog import DatasetEntry, describe_upload
from service.requests.invalid_upload import SIDE, InvalidUpload
from service.requests.upload_notes import to_json
from service.requests.uploads import Upload, read_upload

KINDS = {kind.code: kind for kind in (PAYLOAD_TOO_LARGE, UNSAFE_SERIALIZATION)}
"""The kinds of refused uploads, by their codes, that break no rule with the status 422."""
PREVIEWS = 8
"""How many images of each label a dry run shows."""

Previews = Annotated[
    dict[str, str] | None,
    Field(
        description=f"With `dry_run` only: for each label a PNG of its first {PREVIEWS} images side by "
        "side, as a `data:` URL."
    ),
]


class UploadOptions(BaseModel):
    """How to read an upload, and whether to keep it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: bool = Field(
        False,
        description="Keep nothing: answer as the upload would be answered, with `previews` of the images.",
    )
    fit: int | None = Field(
        None,
        ge=SIDE,
        le=SIDE,
        description=f"{SIDE}: scale images of other sizes to fit into {SIDE}x{SIDE}. Without it they are "
        "refused.",
    )


@dataclass(frozen=True)
class Answer:
    """What an upload did, or would do."""

    is_new: bool
    preview: tuple[DatasetEntry, dict[str, str]] | None = None
    """Of a dry run: the dataset that would be stored, and {label: its first images}."""


def store(name: str, packed: BinaryIO, options: UploadOptions, context: ApiContext) -> Answer:
    """Store the images, then record the dataset that refers to them; not in a dry run. Raises Problem."""
    settings = context.settings
    with TemporaryFile(dir=settings.scratch) as pixels:
        try:
            upload = read_upload(
                packed, pixels, max_bytes=settings.max_upload_bytes, fitting=options.fit is not None
            )
        except InvalidUpload as refused:
            raise Problem(KINDS.get(refused.code) or rule_kind(refused.code), str(refused)) from refused
        known = _find_known(name, upload, context)
        if options.dry_run:
            return _preview(name, upload, known, pixels, context)
        if known is None or known.sha256 == upload.sha256:
            context.artifacts.put(FileContent(pixels, upload.sha256))
        return Answer(_record(name, upload, pixels, context))


def _find_known(name: str, upload: Upload, context: ApiContext) -> DatasetRow | None:
    """Return the dataset of that name; if there is none, check that one more may be stored."""
    settings = context.settings
    most_bytes_of_all = None if settings.artifacts_url else _measure_share(context)
    with context.database.reading() as session:
        known = datasets.find(session, name, project=context.project)
        if known is None:
            datasets.check_quota(
                session,
                upload.counts,
                project=context.project,
                most=settings.max_datasets,
                most_bytes=settings.max_dataset_bytes,
                most_bytes_of_all=most_bytes_of_all,
            )
        return known


def _record(name: str, upload: Upload, pixels: BinaryIO, context: ApiContext) -> bool:
    """Record an upload whose images are stored. Return whether it is new."""
    with context.database.transaction() as session:
        artifact_references.lock_against_deletion(session)
        _, created = datasets.put(
            session,
            name,
            images=upload.counts,
            sha256=upload.sha256,
            facts=_facts(upload),
            project=context.project,
        )
        if not context.artifacts.exists(upload.sha256):  # deleted since, for another dataset
            context.artifacts.put(FileContent(pixels, upload.sha256))
        if created:
            context.append_to_audit_log(
                session,
                "dataset.upload",
                name,
                sha256=upload.sha256,
                sent_sha256=upload.sent_sha256,
                labels=list(upload.counts),
            )
    return created


def _preview(
    name: str, upload: Upload, known: DatasetRow | None, pixels: BinaryIO, context: ApiContext
) -> Answer:
    facts = _facts(upload)
    if known is not None:
        datasets.refuse_other_images(known, images=upload.counts, sha256=upload.sha256, facts=facts)
    row = known or datasets.new_row(
        name, images=upload.counts, sha256=upload.sha256, facts=facts, project=context.project
    )
    previews, start = {}, 0
    for label, count in upload.counts.items():
        shown = min(count, PREVIEWS)
        pixels.seek(start * IMAGE_BYTES)
        strip = images.grid(examples.split_bytes(pixels.read(shown * IMAGE_BYTES)), 1, shown)
        previews[label] = f"data:image/png;base64,{base64.b64encode(images.png(strip)).decode()}"
        start += count
    return Answer(known is None, (describe_upload(row), previews))


def _facts(upload: Upload) -> UploadFacts:
    return UploadFacts(
        held_out=upload.held_out,
        label_digests=upload.label_digests,
        conversions=to_json(upload.conversions),
        warnings=to_json(upload.warnings),
        sent_sha256=upload.sent_sha256,
    )


def _measure_share(context: ApiContext) -> int:
    """Return how many bytes of their disk the uploaded datasets of all projects may have."""
    disk_bytes = context.disk.call(measure_disk_bytes, context.settings.artifacts)
    return int(context.settings.max_datasets_share * disk_bytes)
