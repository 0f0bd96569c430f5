"""A job that its worker puts back at the moment when it is cancelled does not stay in the queue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session

from service.registry import claims, deletions, exports, sweeping, versions
from service.registry.database import Database, from_now
from service.registry.errors import ModelBusy
from service.registry.exports import ExportRequest
from service.registry.tables import DEFAULT_PROJECT, JobRow, ModelRow
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
    job = registry.submit("learn", "1")
    claim, database = registry.claim(job), registry.database
    with (
        suppress(ModelBusy),
        database.transaction() as session,
        meanwhile(database, session, 1, lambda other: claims.release(other, claim)),
    ):
        deletions.delete_model(session, registry.model, purge=None)
    wait_for("the worker to put its job back", lambda: registry.job(job).worker is None)
    with database.reading() as session:
        is_deleted = session.get_one(ModelRow, registry.model.id).deleted_at is not None
    assert (is_deleted, registry.job(job).state) in ((True, "cancelled"), (False, "queued"))


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
