"""The database and its transactions, with the same guarantees on SQLite and on PostgreSQL.

`with database.transaction() as session:` commits at the end of the block, and rolls back on any error.
All times come from the database's clock, because the clocks of the workers' machines may differ: `now()` and
`from_now(seconds)` are SQL.
"""

import itertools
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast
from zlib import crc32

from sqlalchemy import (
    BindParameter,
    Connection,
    DateTime,
    Engine,
    Float,
    PoolProxiedConnection,
    exc,
    literal,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from service.registry.errors import (
    DatabaseFull,
    DatabaseMoved,
    DatabaseUnavailable,
    UnknownProject,
    UnstorableText,
)
from service.registry.frequent_queries import FrequentQuery
from service.registry.sqlite import FileChanged, OpenedFile, create_sqlite_engine
from service.registry.waiting import Allowance, CircuitBreaker, Line, Patience, waiting_at_most
from service.urls import sqlite_file

BACKGROUND_WAIT_SECONDS = 10.0
"""How long a worker or the sweeper waits for PostgreSQL in one transaction, before it tries again later."""
SQLITE_WAIT_SECONDS = 30.0
"""How long they wait for the write lock of SQLite, which another process may hold for that long."""
MIGRATION_WAIT_SECONDS = 600.0
"""How long a migration may wait: for another process that migrates, for locks, for the rebuild of a table."""
CONNECTIONS = 10
LINES = 64
SQLITE_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
"""SQLite's error codes for a full disk, a full quota or too large a file, and one too small for its index."""
DISK_FULL = "53100"
"""PostgreSQL's error code for a full disk."""
DUPLICATE = {"23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
NO_SUCH_ROW = {"23503", sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}
"""The error codes of PostgreSQL and SQLite for two kinds of rows that a table cannot have."""
NO_SUCH_CHARACTER = "22P05"
"""PostgreSQL's error code for a character that the encoding of the database lacks."""
UNDEFINED_TABLE = "42P01"
"""PostgreSQL's error code for a database that is not migrated yet. SQLite raises an OperationalError."""


class Database:
    """A database, by its URL. Thread-safe; a process needs only one."""

    def __init__(
        self, url: str, *, wait_seconds: float | None = None, connections: int = CONNECTIONS
    ) -> None:
        """Open nothing yet.

        wait_seconds: how long a transaction waits for an answer of the database; None waits as long as suits
        a process in the background. With a number, a database that does not answer is tried by
        one transaction at a time, and the others are refused at once.
        connections: how many are kept open, best as many as there are threads.
        """
        file = sqlite_file(url)
        self.is_sqlite = file is not None
        default = SQLITE_WAIT_SECONDS if self.is_sqlite else BACKGROUND_WAIT_SECONDS
        self.wait_seconds = default if wait_seconds is None else wait_seconds
        self._file = None if file is None else OpenedFile(file)
        if self._file is None:
            from service.registry.postgresql import create_postgresql_engine  # imports psycopg: 50 ms

            self.engine = create_postgresql_engine(
                make_url(url), connections=connections, wait_seconds=self.wait_seconds
            )
        else:
            self.engine = create_sqlite_engine(
                self._file, connections=connections, wait_seconds=self.wait_seconds
            )
        self._reading = self.engine.execution_options(reading=True)
        self._breaker = None if wait_seconds is None else CircuitBreaker()
        self._done_at = time.monotonic()
        self._sessions = itertools.count(1)
        self.last_session = 0
        """The number of the session that ended last. What this process may have told about the database since
        another number was read here can be newer than what was read before."""
        self._watching: PoolProxiedConnection | None = None
        """A connection that never commits: SQLite's data_version counts what the others commit."""
        # SQLite has no line: threads that poll for its lock overtake each other, and some wait for very long.
        self._lines = [Line() for _ in range(1 if self.is_sqlite else LINES)]

    @contextmanager
    def transaction(self, *, line: str = "") -> Iterator[Session]:
        """Open a session that commits at the end of the block. Raises DatabaseUnavailable.

        line: what many requests of this process may want to lock at the same time, such as a model. They
        stand in line for it here, and not in the server, where each would use up its time for an answer.
        """
        writers = self._line(line)
        with (
            waiting_at_most(self.wait_seconds) as allowance,
            writers.place(self.wait_seconds),
            self._session(self.engine, allowance) as session,
        ):
            if self.is_sqlite:
                writers.serve()
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads. On SQLite it waits for no writer. Raises DatabaseUnavailable."""
        with (
            waiting_at_most(self.wait_seconds) as allowance,
            self._session(self._reading, allowance) as session,
        ):
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Session]:
        """Open a session that may rebuild tables which other tables refer to.

        SQLite can change most things of a table only if it is rebuilt, and dropping the old table counts as
        deleting its rows. So on SQLite foreign keys are not enforced meanwhile; they are checked at the end.
        """
        with waiting_at_most(MIGRATION_WAIT_SECONDS) as allowance:
            if not self.is_sqlite:
                with self._session(self.engine, allowance) as session:
                    yield session
                return
            with self.engine.connect() as connection:
                # Not through SQLAlchemy, which would begin a transaction; in one the PRAGMA has no effect.
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

    def run(self, query: FrequentQuery, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, read in a transaction of its own. Raises DatabaseUnavailable."""
        with (
            waiting_at_most(self.wait_seconds) as allowance,
            self._use(),
            _errors_as_unavailable(),
            _driver_errors_wrapped(self.engine),
        ):
            try:
                rows = query.run(self.engine, **values)
            except self.engine.dialect.loaded_dbapi.OperationalError:
                if not allowance.remaining:
                    raise
                rows = query.run(self.engine, **values)  # the server may have closed the pooled connection
            self._answered()
            return rows

    def change_number(self) -> int | None:
        """Return a number that differs from an earlier one if anything was committed in between.

        Costs microseconds, and never waits. Only for one thread; None where the database has no such number.
        """
        if not self.is_sqlite:
            return None
        try:
            if self._watching is None:
                self._watching = self.engine.raw_connection()
            connection = cast(sqlite3.Connection, self._watching.driver_connection)
            return int(connection.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, exc.SQLAlchemyError):
            return None

    def check_file(self) -> None:
        """Raise DatabaseMoved if the SQLite file is not the one that was opened. Waits for no lock."""
        if self._file is not None:
            try:
                self._file.check()
            except FileChanged as error:
                raise DatabaseMoved(str(error)) from error

    def patience(self) -> Patience:
        """Return how long a caller may now stand in line for the database."""
        return Patience(self.wait_seconds, lambda: self._done_at)

    def dispose(self) -> None:
        """Close all connections."""
        self._watching = None
        self.engine.dispose()

    @contextmanager
    def _session(self, engine: Engine, allowance: Allowance) -> Iterator[Session]:
        """Open a session on a connection that answers, or fail in time."""
        with self._use(), _begin(engine, allowance) as connection:
            self._answered()
            try:
                with _session(connection) as session:
                    yield session
            finally:
                self.last_session = next(self._sessions)

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Run a block that uses the database, and tell the breaker what came of it."""
        with self._breaker.passing() if self._breaker else nullcontext():
            try:
                yield
                self._done_at = time.monotonic()
            except DatabaseUnavailable as error:
                if self._breaker and not error.has_answered:
                    self._breaker.failed()
                raise

    def _answered(self) -> None:
        if self._breaker:
            self._breaker.answered()

    def serve(self, line: str) -> None:
        """Record that a transaction has locked what others of its line wait for, so that they wait on."""
        self._line(line).serve()

    def _line(self, name: str) -> Line:
        if not name and not self.is_sqlite:
            return Line()
        return self._lines[crc32(name.encode()) % len(self._lines)]


@contextmanager
def _begin(engine: Engine, allowance: Allowance) -> Iterator[Connection]:
    """Yield a connection in a transaction, which the caller ends. Raises DatabaseUnavailable.

    A pooled connection may have been closed since it was last used, for example by a restart of the server.
    So one that fails here is replaced once; nothing has been done on it.
    """
    with _errors_as_unavailable():
        try:
            connection = _connect(engine)
        except exc.DBAPIError as error:
            if not error.connection_invalidated or not allowance.remaining:
                raise
            connection = _connect(engine)
    with connection:
        yield connection


def _connect(engine: Engine) -> Connection:
    connection = engine.connect()
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _session(connection: Connection) -> Iterator[Session]:
    with (
        _errors_as_unavailable(),
        Session(connection, expire_on_commit=False, join_transaction_mode="control_fully") as session,
        session.begin(),
    ):
        yield session


@contextmanager
def _driver_errors_wrapped(engine: Engine) -> Iterator[None]:
    """Raise the errors of the database's driver as SQLAlchemy does."""
    driver = engine.dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        wrapped = exc.DBAPIError.instance(None, None, error, driver.Error, dialect=engine.dialect)
        raise wrapped from error


@contextmanager
def _errors_as_unavailable() -> Iterator[None]:
    """Raise DatabaseUnavailable if it cannot be used now, UnstorableText for a text it cannot hold."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        if isinstance(getattr(error, "orig", None), FileChanged):
            raise DatabaseMoved(_first_line(error)) from error
        if _is_disk_full(error):
            raise DatabaseFull(_first_line(error)) from error
        raise DatabaseUnavailable(_first_line(error), has_answered=_is_answer(error)) from error
    except UnicodeEncodeError as error:
        raise UnstorableText() from error
    except exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None)
        if isinstance(error, exc.DataError) and code in (None, NO_SUCH_CHARACTER):
            raise UnstorableText() from error  # without a code the driver refused a NUL: nothing was sent
        if error.connection_invalidated or code == UNDEFINED_TABLE:
            raise DatabaseUnavailable(_first_line(error), has_answered=_is_answer(error)) from error
        raise


def _is_disk_full(error: exc.SQLAlchemyError) -> bool:
    """Whether the database could read but not write, because there is no space for it."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", None)
    return code in SQLITE_NO_SPACE or getattr(cause, "sqlstate", None) == DISK_FULL


def is_duplicate(error: exc.IntegrityError) -> bool:
    """Whether the row repeats a value that must be unique."""
    return _broken_rule(error) in DUPLICATE


@contextmanager
def unless_deleted(project: str | None) -> Iterator[None]:
    """Run a block that adds rows to the project of this id. Raises UnknownProject if it was just deleted."""
    try:
        yield
    except exc.IntegrityError as error:
        if project is not None and _broken_rule(error) in NO_SUCH_ROW:
            raise UnknownProject(project) from error
        raise


def _broken_rule(error: exc.IntegrityError) -> str | int | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorcode", None)


def _is_answer(error: exc.SQLAlchemyError) -> bool:
    """Whether the database itself said no (a lock, a missing table), and not merely nothing.

    SQLite always answers: it is a part of this process.
    """
    if not isinstance(error, exc.DBAPIError):
        return True  # the pool had no free connection
    return getattr(error.orig, "sqlstate", "of SQLite") is not None


def _first_line(error: exc.SQLAlchemyError) -> str:
    """Return the reason that the driver gives, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


class now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock at this moment (not at the start of the transaction)."""

    type = DateTime(timezone=True)
    inherit_cache = True


class from_now(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock, `seconds` later (earlier when negative)."""

    type = DateTime(timezone=True)
    inherit_cache = True

    def __init__(self, seconds: float | BindParameter[float]) -> None:
        super().__init__(seconds if isinstance(seconds, BindParameter) else literal(float(seconds)))


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
