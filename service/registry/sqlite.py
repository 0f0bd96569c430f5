"""Connections to an SQLite file: write-ahead logging, full sync, and waits for the write lock that end."""

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from service.registry.waiting import Allowance, current_allowance

RETRY_SECONDS = 0.005


def create_sqlite_engine(file: Path, *, connections: int, wait_seconds: float) -> Engine:
    """Return an engine that keeps up to `connections` open."""
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        URL.create("sqlite", database=str(file.absolute())),  # an absolute path is never taken for an option
        connect_args={"timeout": wait_seconds, "isolation_level": None},
        hide_parameters=True,  # a value, such as the name of a label, is written to no log
        pool_size=connections,
        max_overflow=connections,
        pool_timeout=wait_seconds,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        seconds = (current_allowance() or Allowance(wait_seconds)).remaining
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
        _switch_to_wal(cursor, seconds)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA temp_store = MEMORY")  # a read needs no space on a disk
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    # Under WAL a transaction that has read cannot begin to write once another one has written. So one that
    # may write takes the write lock at its start.
    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        statement = "BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE"
        allowance = current_allowance() or Allowance(wait_seconds)
        with allowance.waiting() as seconds:
            connection.connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            connection.exec_driver_sql(statement)

    return engine


def _switch_to_wal(cursor: sqlite3.Cursor, seconds: float) -> None:
    """Switch the file to write-ahead logging. Waits for other processes, at most so many seconds.

    The switch turns a read lock into the write lock. If two processes do so at the same time, SQLite refuses
    one of them at once, whatever busy_timeout is, because waiting would be a deadlock; so it is tried again.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_SECONDS)
