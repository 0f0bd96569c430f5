"""Connections to an SQLite file: write-ahead logging, full sync, and waits for the write lock that end.

A file that was opened can be moved, deleted or replaced, and SQLite goes on with it: what is committed then
is lost at the next start. So nothing is written, and no connection opened, while another file has its name.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.engine import URL

from service.registry.waiting import Allowance, current_allowance

RETRY_SECONDS = 0.005


class FileChanged(sqlite3.OperationalError):
    """The database file is not the one that this process opened."""


class OpenedFile:
    """The identity of the database file, from the first connection on."""

    def __init__(self, file: Path) -> None:
        self.file = file.absolute()
        self._identity: tuple[int, int] | None = None

    def record(self) -> None:
        if self._identity is None:
            self._identity = self._find()

    def check(self) -> None:
        """Raise FileChanged if another file, or none, has its name. Costs microseconds."""
        if self._identity is not None and self._find() != self._identity:
            raise FileChanged(
                f"the database file {self.file} was moved, deleted or replaced while this process used it; "
                "put the same file back, or stop the service and start it again with the right one"
            )

    def _find(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def create_sqlite_engine(opened: OpenedFile, *, connections: int, wait_seconds: float) -> Engine:
    """Return an engine that keeps up to `connections` open."""
    file = opened.file
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

    @event.listens_for(engine, "do_connect")
    def refuse_another_file(*_: object) -> None:
        opened.check()  # SQLite would make an empty file where there is none

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
        opened.record()

    # Under WAL a transaction that has read cannot begin to write once another one has written. So one that
    # may write takes the write lock at its start.
    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        reads = connection.get_execution_options().get("reading")
        statement = "BEGIN" if reads else "BEGIN IMMEDIATE"
        if not reads:
            try:
                opened.check()
            except FileChanged as error:
                raise exc.OperationalError(statement, None, error) from error
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
