"""A job that its worker puts back at the moment when it is cancelled does not stay in the queue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session

from service.registry import claims, deletions, export_clearing, export_parts, exports, sweeping, versions
from service.registry.artifacts import Content, FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database, from_now
from service.registry.errors import ModelBusy
from service.registry.exports import ExportRequest
from service.registry.tables import DEFAULT_PROJECT, ExportRow, JobRow
from service.registry.waiting import waiting_at_most
from tests.instance import wait_for
from tests.registries import Registry

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""Marks tests of what SQLite makes impossible: it lets one transaction write at a time."""


@contextmanager
def meanwhile(
    database: Database, session: Session, number: int, change: Callable[[Session], object]
) -> Iterator[None]:
    """Make the change in another transaction once the session has changed or locked jobs `number` times.

    The session goes on once the change is made, or waits for the session to end.
    """
    connection, seen = session.connection(), []
    pid = session.scalar(select(func.pg_backend_pid()))

    def change_now() -> None:
        with database.transaction() as other:
            change(other)

    thread = Thread(target=change_now)

    def waits_for_the_session() -> bool:
        with database.reading() as other:
            query = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
            return bool(other.scalar(query, {"pid": pid}))

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE jobs") or "FOR UPDATE OF jobs" in statement:
            seen.append(statement)
        if len(seen) == number and thread.ident is None:
            thread.start()
            wait_for("the change", lambda: not thread.is_alive() or waits_for_the_session())

    event.listen(connection, "after_cursor_execute", count)
    yield
    event.remove(connection, "after_cursor_execute", count)


def new_export(registry: Registry) -> str:
    """Request an export of three shards of the head; returns its id."""
    request = ExportRequest(labels=["1"], count=12, seed=1, format="npz", shard_images=4)
    with registry.database.transaction() as session:
        version = versions.find_head(session, session.merge(registry.model, load=True))
        return exports.create(session, registry.model, version, request, max_attempts=3)[0].id


def jobs_of(registry: Registry, export_id: str) -> list[JobRow]:
    with registry.database.reading() as session:
        query = select(JobRow).where(JobRow.export_id == export_id).order_by(JobRow.sequence)
        return list(session.scalars(query))


@on_postgresql
def test_no_part_of_a_cancelled_export_is_left_in_the_queue(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    export_id = new_export(registry)
    claim = registry.claim(jobs_of(registry, export_id)[0])
    database = registry.database
    with (
        database.transaction() as session,
        meanwhile(database, session, 1, lambda other: claims.release(other, claim)),
    ):
        exports.cancel(session, export_id, project=DEFAULT_PROJECT)
    wait_for("the worker to put its job back", lambda: jobs_of(registry, export_id)[0].worker is None)
    with database.transaction() as session:
        sweeping.cancel_queued(session)
    assert {job.state for job in jobs_of(registry, export_id)} == {"cancelled"}


def test_a_part_that_an_earlier_release_left_in_the_queue_is_cancelled(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    export_id = new_export(registry)
    with registry.database.transaction() as session:
        exports.cancel(session, export_id, project=DEFAULT_PROJECT)
        of_export = update(JobRow).where(JobRow.export_id == export_id, JobRow.part == 1)
        session.execute(of_export.values(state="queued", cancel_requested=False, finished_at=None))
        assert exports.is_to_settle(session)
        exports.settle(session)
        assert not exports.is_to_settle(session)
    assert {job.state for job in jobs_of(registry, export_id)} == {"cancelled"}


@on_postgresql
def test_no_job_of_a_deleted_model_is_left_in_the_queue(registry: Registry) -> None:
    job, database = registry.submit("learn", "1"), registry.database
    claimed: list[Claim | None] = []

    def claim(session: Session) -> None:
        claimed.append(claims.claim(session, job.id, worker="here:1", lease_seconds=60))

    with database.transaction() as session, meanwhile(database, session, 1, claim):
        deletions.delete_model(session, registry.model, purge=None)
    wait_for("the worker's answer", lambda: claimed)
    assert (claimed, registry.job(job).state) == ([None], "cancelled")


@on_postgresql
def test_a_model_whose_job_is_about_to_be_published_is_busy_at_once(registry: Registry) -> None:
    """A worker that publishes has locked the row of its job, and is going to lock that of the model."""
    job, database = registry.submit("learn", "1"), registry.database
    registry.claim(job)
    with database.transaction() as publishing:
        publishing.execute(select(JobRow.id).where(JobRow.id == job.id).with_for_update())
        with pytest.raises(ModelBusy), waiting_at_most(1), database.transaction() as session:
            deletions.delete_model(session, registry.model, purge=None)


@on_postgresql
def test_a_lease_that_ends_during_a_sweep_gives_no_further_attempt(registry: Registry) -> None:
    job = registry.submit("learn", "1", max_attempts=1)
    claim, database = registry.claim(job), registry.database

    def end_lease(session: Session) -> None:
        session.execute(update(JobRow).where(JobRow.id == claim.job_id).values(lease_until=from_now(-1)))

    with database.transaction() as session, meanwhile(database, session, 2, end_lease):
        assert sweeping.requeue_expired(session) == 0
    assert registry.job(job).state == "running"
    with database.transaction() as session:
        sweeping.requeue_expired(session)
    assert registry.job(job).state == "failed"


@pytest.mark.parametrize(
    ("cancelled_at_once", "expected"), [(True, [0, 0]), (False, [1, 0])], ids=["together", "in turn"]
)
def test_a_file_counts_as_kept_only_while_another_export_needs_it(
    registry: Registry, tmp_path: Path, cancelled_at_once: bool, expected: list[int]
) -> None:
    registry.publish_job("learn", "1")
    shared, artifacts = b"a shard with the same bytes", FolderArtifacts(tmp_path)
    content = Content(shared)
    of_exports = [new_export(registry), new_export(registry)]
    for export_id in of_exports:
        claim = registry.claim(jobs_of(registry, export_id)[0])
        artifacts.put(content)
        with registry.database.transaction() as session:
            part = export_parts.read_part(session, claim)
            stored = export_parts.StoredShard(content.sha256, len(shared), "r")
            export_parts.publish_shard(session, claim, part, stored)
    kept = []

    def cancel(export_id: str) -> None:
        with registry.database.transaction() as session:
            exports.cancel(session, export_id, project=DEFAULT_PROJECT)

    if cancelled_at_once:
        for export_id in of_exports:
            cancel(export_id)
    for export_id in of_exports:
        if not cancelled_at_once:
            cancel(export_id)
        with registry.database.transaction() as session:
            export_clearing.clear(session, export_id, artifacts)
            removed = session.get_one(ExportRow, export_id).removed
            kept.append(removed and removed["kept"])
    assert kept == expected
    assert not artifacts.exists(content.sha256)
