"""A job of an export: draw one shard and publish it, or write the manifest once all shards are there."""

import errno
import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from tempfile import TemporaryFile
from typing import BinaryIO

from sqlalchemy.orm import Session

from service import failpoints, metrics
from service.drawing.decoders import RENDERING
from service.drawing.exporting import ExportDrawing
from service.drawing.images import Pixels
from service.drawing.shards import write_shard
from service.registry import artifact_references, export_parts, exports
from service.registry.artifacts import Content, FileContent, encode_document
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, FencedOff
from service.registry.export_parts import Part, StoredShard
from service.registry.store import PIECE_BYTES
from worker.jobs.attempt import Attempt
from worker.jobs.inputs import WorkerContext
from worker.learning.strategy import Progress, Stopped

log = logging.getLogger(__name__)


def export_part(attempt: Attempt) -> None:
    """Do what the claimed job of an export has to do.

    Raises Stopped, FencedOff, StoreUnavailable, DatabaseUnavailable, RegistryError, OSError.
    """
    part = attempt.with_retries(lambda: _read(attempt))
    if part.is_manifest:
        _write_manifest(attempt, part)
    else:
        _draw_shard(attempt, part)


def settle(database: Database) -> None:
    """End the exports of which a job has failed. If that fails, the sweeper does it."""
    try:
        with database.reading() as session:
            if not exports.is_to_settle(session):
                return
        with database.transaction() as session:
            exports.settle(session)
    except DatabaseUnavailable as error:
        log.warning("cannot end the exports of failed jobs (%s); the sweeper tries again", error)


def _read(attempt: Attempt) -> Part:
    with attempt.worker_context.database.reading() as session:
        return export_parts.read_part(session, attempt.claim)


def _draw_shard(attempt: Attempt, part: Part) -> None:
    context = attempt.worker_context
    attempt.record(lambda session: export_parts.begin(session, attempt.claim))
    drawing = attempt.with_retries(lambda: ExportDrawing(context.artifacts, part.plan, part.decoders))
    with attempt.with_retries(lambda: _open_scratch(context)) as file:
        content = attempt.with_retries(lambda: _write(attempt, part, drawing, file))
        shard = StoredShard(content.sha256, file.seek(0, 2), RENDERING)
        _put_noted(attempt, content)
        failpoints.reach("export.after_store")

        def publish(session: Session) -> None:
            _store_again(session, content, context)
            export_parts.publish_shard(session, attempt.claim, part, shard)

        _publish(attempt, content, publish)
    metrics.EXPORTED_IMAGES.labels(part.format).inc(part.range.images)
    log.info(
        "job %s: export %s has shard %d: %d images, %d bytes",
        *(attempt.claim.job_id, part.export_id, part.number, part.range.images, shard.bytes),
    )


def _write_manifest(attempt: Attempt, part: Part) -> None:
    context = attempt.worker_context

    def describe() -> Content:
        with context.database.reading() as session:
            return Content(encode_document(export_parts.describe(session, part.export_id)))

    content = attempt.with_retries(describe)
    _put_noted(attempt, content)

    def publish(session: Session) -> None:
        _store_again(session, content, context)
        export_parts.publish_manifest(session, attempt.claim, sha256=content.sha256, size=len(content.data))

    _publish(attempt, content, publish)
    log.info("job %s: export %s is complete", attempt.claim.job_id, part.export_id)


def _open_scratch(context: WorkerContext) -> BinaryIO:
    if context.scratch is not None:
        context.scratch.mkdir(parents=True, exist_ok=True)
    return TemporaryFile(dir=context.scratch)


def _write(attempt: Attempt, part: Part, drawing: ExportDrawing, file: BinaryIO) -> FileContent:
    """Draw the shard into the file. Raises Stopped, DecoderUnusable, OSError."""
    _require_space(attempt.worker_context)
    file.seek(0)
    file.truncate()
    write_shard(file, part.format, part.plan, part.range, _reported(attempt, part, drawing))
    file.flush()
    digest = sha256()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return FileContent(file, digest.hexdigest())


def _reported(attempt: Attempt, part: Part, drawing: ExportDrawing) -> Iterator[Pixels]:
    """Yield the blocks of the shard, report the progress, and stop if the attempt has to."""
    done = 0
    for block in drawing.blocks(part.range):
        if attempt.should_stop():
            raise Stopped(f"stopped after {done} images of shard {part.number}")
        yield block
        done += len(block)
        attempt.report_progress(Progress("exporting", done, part.range.images, None))
        failpoints.reach("export.block")


def _put_noted(attempt: Attempt, content: Content | FileContent) -> None:
    """Store the file. The job's row names it first: this worker may be killed before it publishes it."""
    attempt.record(lambda session: export_parts.note_file(session, attempt.claim, content.sha256))
    attempt.with_retries(lambda: _put(attempt.worker_context, content))


def _put(context: WorkerContext, content: Content | FileContent) -> None:
    _require_space(context)
    context.artifacts.put(content)


def _require_space(context: WorkerContext) -> None:
    """Raise OSError if less space is free than the reserve, which is for other work."""
    if lack := context.find_lack():
        raise OSError(errno.ENOSPC, lack)


def _store_again(session: Session, content: Content | FileContent, context: WorkerContext) -> None:
    """Store the artifact again if it was collected since, and prevent that until the transaction ends."""
    artifact_references.lock_against_deletion(session)
    if not context.artifacts.exists(content.sha256):
        context.artifacts.put(content)


def _publish(attempt: Attempt, content: Content | FileContent, publish: Callable[[Session], None]) -> None:
    """Publish, or delete the artifact at once: an export that was stopped may hold a forgotten label."""
    try:
        attempt.with_retries(lambda: attempt.record(publish))
    except FencedOff:
        _discard(attempt.worker_context, content.sha256)
        raise


def _discard(context: WorkerContext, sha256: str) -> None:
    """Delete an artifact that no row refers to. If that fails, the collection of garbage does it."""
    try:
        context.artifacts.require_answer()
        with context.database.transaction() as session:
            is_locked = artifact_references.try_lock_for_deletion(session)
            if is_locked and sha256 not in artifact_references.find_referenced(session):
                context.artifacts.delete(sha256)
    except (DatabaseUnavailable, OSError) as error:
        log.warning("cannot delete the unpublished artifact %s (%s); it is collected later", sha256, error)
