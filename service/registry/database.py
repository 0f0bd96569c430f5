"""The database and its transactions, with the same guarantees on SQLite and on PostgreSQL.

`with database.transaction() as session:` commits at the end of the block, and rolls back on any error.
All times come from the database's clock, because the clocks of the workers' machines may differ: `now()` and
`from_now(seconds)` are SQL.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Engine, Float, create_engine, event, exc, literal, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from service.registry.errors import DatabaseFull, DatabaseUnavailable
from service.urls import sqlite_file

SQLITE_BUSY_SECONDS = 30
SQLITE_RETRY_SECONDS = 0.005
POSTGRESQL_CONNECT_SECONDS = 5
DETECT_CUT_CONNECTION = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # in ms; by default unacknowledged data ends a connection only after minutes
}
SQLITE_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
"""SQLite's error codes for a full disk, a full quota or too large a file, and one too small for its index."""
DISK_FULL = "53100"
"""PostgreSQL's error code for a full disk."""
UNDEFINED_TABLE = "42P01"
"""PostgreSQL's error code for a database that is not migrated yet. SQLite raises an OperationalError."""


class Database:
    """A database, by its URL. Thread-safe; a process needs only one."""

    def __init__(self, url: str) -> None:
        file = sqlite_file(url)
        self.is_sqlite = file is not None
        self.engine = _postgresql(make_url(url)) if file is None else _sqlite(file)
        self._reading = self.engine.execution_options(
            **({"sqlite_begin": "BEGIN"} if self.is_sqlite else {"postgresql_readonly": True})
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session that commits at the end of the block. Raises DatabaseUnavailable."""
        with _session(self.engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads. On SQLite it waits for no writer. Raises DatabaseUnavailable."""
        with _session(self._reading) as session:
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Session]:
        """Open a session that may rebuild tables which other tables refer to.

        SQLite can change most things of a table only if it is rebuilt, and dropping the old table counts as
        deleting its rows. So on SQLite foreign keys are not enforced meanwhile; they are checked at the end.
        """
        if not self.is_sqlite:
            with self.transaction() as session:
                yield session
            return
        with self.engine.connect() as connection:
            # Not through SQLAlchemy, which would begin a transaction; inside one the PRAGMA has no effect.
            driver = connection.connection.cursor()
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with _session(connection) as session:
                    yield session
                    broken = session.execute(text("PRAGMA foreign_key_check")).all()
                    if broken:
                        raise RuntimeError(
                            f"the migration would leave rows that refer to missing rows: {broken[:3]}"
                        )
            finally:
                driver.execute("PRAGMA foreign_keys = ON")
                driver.close()

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _session(bind: Engine | Connection) -> Iterator[Session]:
    try:
        with Session(bind, expire_on_commit=False) as session, session.begin():
            yield session
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        kind = DatabaseFull if _is_disk_full(error) else DatabaseUnavailable
        raise kind(_first_line(error)) from error
    except exc.DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            raise DatabaseUnavailable(_first_line(error)) from error
        raise


def _is_disk_full(error: exc.SQLAlchemyError) -> bool:
    """Whether the database could read but not write, because there is no space for it."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", None)
    return code in SQLITE_NO_SPACE or getattr(cause, "sqlstate", None) == DISK_FULL


def _first_line(error: exc.SQLAlchemyError) -> str:
    """Return the reason that the driver gives, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _sqlite(file: Path) -> Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        URL.create("sqlite", database=str(file.absolute())),  # an absolute path is never taken for an option
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "isolation_level": None},
        execution_options={"sqlite_begin": "BEGIN IMMEDIATE"},
        pool_size=10,
        max_overflow=30,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_SECONDS * 1000}")
        _switch_to_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA temp_store = MEMORY")  # a read needs no space on a disk
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    # Under WAL a transaction that has read cannot begin to write once another one has written. So one that
    # may write takes the write lock at its start.
    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["sqlite_begin"])

    return engine


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Switch the file to write-ahead logging. Waits for other processes, at most SQLITE_BUSY_SECONDS.

    The switch turns a read lock into the write lock. If two processes do so at the same time, SQLite refuses
    one of them at once, whatever busy_timeout is, because waiting would be a deadlock; so it is tried again.
    """
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(SQLITE_RETRY_SECONDS)


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        connect_args={"connect_timeout": POSTGRESQL_CONNECT_SECONDS, **DETECT_CUT_CONNECTION},
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=30,
    )


class now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock at this moment (not at the start of the transaction)."""

    type = DateTime(timezone=True)
    inherit_cache = True


class from_now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock, `seconds` later (earlier when negative)."""

    type = DateTime(timezone=True)
    inherit_cache = True

    def __init__(self, seconds: float) -> None:
        super().__init__(literal(float(seconds)))


class seconds_since(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The seconds from a time in the past to the database's clock now."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')"


@compiles(now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    return "clock_timestamp()"


@compiles(from_now, "sqlite")
def _from_now_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', ({seconds}) || ' seconds')"


@compiles(from_now, "postgresql")
def _from_now_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"clock_timestamp() + make_interval(secs => {seconds})"


@compiles(seconds_since, "sqlite")
def _seconds_since_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f"(julianday('now') - julianday({compiler.process(element.clauses, **kwargs)})) * 86400.0"


@compiles(seconds_since, "postgresql")
def _seconds_since_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f"EXTRACT(EPOCH FROM clock_timestamp() - {compiler.process(element.clauses, **kwargs)})::float8"
