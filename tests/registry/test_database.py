"""Transactions give the same guarantees on SQLite and on PostgreSQL."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select, text

from migrations import upgrade
from service.registry import models
from service.registry.database import Database, from_now, now
from service.registry.errors import DatabaseUnavailable
from service.registry.tables import ModelRow
from tests.instance import wait_for


def create(database: Database, name: str) -> None:
    with database.transaction() as session:
        models.create(session, name=name, dataset="digits", network={}, seed=1)


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return sorted(session.scalars(select(ModelRow.name)))


def test_an_error_inside_a_transaction_rolls_it_back(database: Database) -> None:
    def create_and_fail() -> None:
        with database.transaction() as session:
            models.create(session, name="pages", dataset="digits", network={}, seed=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        create_and_fail()
    assert names(database) == []


def test_times_of_the_database_are_in_order(database: Database) -> None:
    with database.reading() as session:
        past, present, future = session.execute(select(from_now(-1.5), now(), from_now(90))).one()
    assert past < present < future


def test_the_clock_goes_on_inside_a_transaction(database: Database) -> None:
    with database.reading() as session:
        before = session.scalars(select(now())).one()
        wait_for("the clock goes on", lambda: session.scalars(select(now())).one() > before)


def test_a_database_that_does_not_answer_is_unavailable_and_names_no_host() -> None:
    database = Database("postgresql+psycopg://somebody:secret@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as refused:
        names(database)
    database.dispose()
    assert "refused" in refused.value.reason
    assert "127.0.0.1" not in refused.value.message
    assert "secret" not in refused.value.reason


def test_a_database_without_tables_is_unavailable(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    with pytest.raises(DatabaseUnavailable):
        names(database)
    database.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'new folder' / 'palimpsest.db'}")
    upgrade(database)
    return database


def test_sqlite_is_set_to_write_ahead_logging_full_sync_and_foreign_keys(sqlite: Database) -> None:
    with sqlite.transaction() as session:
        found = [
            session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]
    sqlite.dispose()


def test_while_another_connection_writes_readers_go_on_and_writers_wait(sqlite: Database) -> None:
    assert sqlite.engine.url.database
    other = sqlite3.connect(sqlite.engine.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert names(sqlite) == []
    has_begun = threading.Event()
    event.listen(sqlite.engine, "checkout", lambda *_: has_begun.set())
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(create, sqlite, "pages")
        assert has_begun.wait(60)
        assert not waiting.done(), "it failed instead of waiting"
        other.execute("COMMIT")
        waiting.result()
    assert names(sqlite) == ["pages"]
    other.close()
    sqlite.dispose()


@pytest.mark.parametrize(
    "lock",
    ["BEGIN; SELECT * FROM sqlite_master", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"],
    ids=["reading", "writing", "committing"],
)
def test_many_connections_can_open_a_new_sqlite_file_while_another_locks_it(
    lock: str, tmp_path: Path
) -> None:
    connections = 8
    file = tmp_path / "palimpsest.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    reading = [other.execute(statement) for statement in lock.split("; ")]

    def release_lock() -> None:
        reading.clear()
        other.execute("COMMIT")

    release = threading.Timer(0.3, release_lock)

    def first_connection(_: int) -> str:
        database = Database(f"sqlite:///{file}")
        with database.transaction() as session:
            mode = session.scalar(text("PRAGMA journal_mode"))
        database.dispose()
        return str(mode)

    with ThreadPoolExecutor(connections) as pool:
        release.start()
        assert list(pool.map(first_connection, range(connections))) == ["wal"] * connections
    release.join()
    other.close()
