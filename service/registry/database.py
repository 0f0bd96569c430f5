"""The engine and its transactions: the same promises on SQLite and on PostgreSQL.

`with database.transaction() as session:` commits at the end of the block and rolls back on any error.
Time comes from the database only: `now()` and `from_now(seconds)` are SQL, never this machine's clock.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Engine, create_engine, event, exc, literal, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from service.registry.errors import DatabaseUnavailable

SQLITE_BUSY_SECONDS = 30
SQLITE_ASK_AGAIN_SECONDS = 0.005
POSTGRESQL_CONNECT_SECONDS = 5
CUT_CONNECTION_NOTICED = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # ms until unanswered bytes end the connection; TCP alone waits for minutes
}
UNDEFINED_TABLE = "42P01"
"""PostgreSQL's code for a database that is not migrated yet; SQLite raises an OperationalError for that."""


class Database:
    """One database, by its URL. Thread-safe; one per process."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.engine = _sqlite(parsed) if self.is_sqlite else _postgresql(parsed)
        self._reading = self.engine.execution_options(
            **({"sqlite_begin": "BEGIN"} if self.is_sqlite else {"postgresql_readonly": True})
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end of the block. Raises DatabaseUnavailable when it cannot."""
        with _session(self.engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads: on SQLite it never waits for a writer."""
        with _session(self._reading) as session:
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Session]:
        """A transaction that may rebuild tables which others refer to.

        SQLite alters most things only by building the table anew, and dropping the old one counts as deleting
        its rows. So foreign keys rest meanwhile there, and must hold again before anything is committed.
        """
        if not self.is_sqlite:
            with self.transaction() as session:
                yield session
            return
        with self.engine.connect() as connection:
            driver = connection.connection.cursor()  # beside SQLAlchemy: inside a transaction this is no-op
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with _session(connection) as session:
                    yield session
                    broken = session.execute(text("PRAGMA foreign_key_check")).all()
                    if broken:
                        raise RuntimeError(f"rows would refer to what is not there: {broken[:3]}")
            finally:
                driver.execute("PRAGMA foreign_keys = ON")
                driver.close()

    def dispose(self) -> None:
        self.engine.dispose()


@contextmanager
def _session(bind: Engine | Connection) -> Iterator[Session]:
    try:
        with Session(bind, expire_on_commit=False) as session, session.begin():
            yield session
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise DatabaseUnavailable(_first_line(error)) from error
    except exc.DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            raise DatabaseUnavailable(_first_line(error)) from error
        raise


def _first_line(error: exc.SQLAlchemyError) -> str:
    """The driver's reason alone: no statement, no parameters."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
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
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    # A transaction that reads first and writes later cannot upgrade under WAL once another has written,
    # so one that may write takes the write lock at its start.
    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["sqlite_begin"])

    return engine


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Make the file a WAL file, unless it is one. Waits for others who hold it, SQLITE_BUSY_SECONDS at most.

    The switch turns a read lock into the write lock. Where two do so at once, waiting would never end, so
    SQLite does not: whatever busy_timeout says, it refuses one at once, which lets go and has to ask again.
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
        time.sleep(SQLITE_ASK_AGAIN_SECONDS)


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        connect_args={"connect_timeout": POSTGRESQL_CONNECT_SECONDS, **CUT_CONNECTION_NOTICED},
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
