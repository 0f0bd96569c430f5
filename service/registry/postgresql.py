"""Connections to PostgreSQL that never wait longer than allowed, whatever hangs.

A server that is stopped, or a network that drops packets, closes nothing: without a deadline of its own a
client waits for minutes. So each wait for the server ends when the allowance of the thread is used up
(waiting.py), and the connection is closed, because what the server still does with it is unknown.

The settings that change what our SQL means are sent with BEGIN, in the same message. So those of the server,
the database and the role do not matter, and neither does it matter which connection to the server a
transaction gets from a pooler such as PgBouncer.
"""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillConnecting
from functools import lru_cache
from threading import Thread
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.errors import _WaitTimeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from service.registry.waiting import Allowance, current_allowance, waiting_at_most

T = TypeVar("T")

LATER_THAN_SERVER_SECONDS = 0.2
"""How much longer than the server the client waits, so that a lock that is not free costs no connection."""
IDLE_IN_TRANSACTION_SECONDS = 30
"""After that long without a statement the server ends a transaction, so a suspended process holds no lock."""
CONNECT_TIMEOUT_SECONDS = 5
"""A thread stops waiting earlier if its allowance is used up; libpq allows no less than 2 s."""
DETECT_CUT_CONNECTION = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # in ms; by default unacknowledged data ends a connection only after minutes
}
SETTINGS = {
    "search_path": '"$user", public',
    "DateStyle": "'ISO, MDY'",
    "IntervalStyle": "postgres",
    "TimeZone": "'UTC'",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "synchronous_commit": "on",  # what was accepted or published is on the disk of the server
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_SECONDS * 1000),
}
"""PostgreSQL's own defaults. The search path does not apply if the URL sets another in its `options`."""


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection that is closed once the allowance of the thread that waits for it is used up."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        allowance = current_allowance()
        if allowance is None:
            return super().wait(gen, interval, timeout)
        try:
            with allowance.waiting() as seconds:
                return super().wait(gen, interval, seconds)
        except _WaitTimeout:
            self.close()
            raise psycopg.OperationalError(f"no answer within {allowance.granted:g} s") from None


def create_postgresql_engine(url: URL, *, connections: int, wait_seconds: float) -> Engine:
    """Return an engine that keeps up to `connections` open."""
    engine = create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "client_encoding": "utf8",
            "autocommit": True,  # BEGIN is ours
            "prepare_threshold": None,  # behind a pooler another client may get the connection that has it
            **DETECT_CUT_CONNECTION,
        },
        hide_parameters=True,  # a value, such as the name of a label, is written to no log
        use_native_hstore=False,
        pool_size=connections,
        max_overflow=connections,
        pool_timeout=wait_seconds,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        return connect_within(current_allowance() or Allowance(wait_seconds), *arguments, **named)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading")
        with waiting_at_most(wait_seconds):
            connection.exec_driver_sql(begin_statement(url, "READ ONLY" if reading else "READ WRITE"))

    return engine


def begin_statement(url: URL, mode: Literal["READ ONLY", "READ WRITE"]) -> str:
    """Return the SQL that begins a transaction, for the allowance of this thread."""
    allowance = current_allowance()
    assert allowance is not None, "a transaction begins within `waiting_at_most`"
    seconds = allowance.remaining
    milliseconds = max(1, round(1000 * (seconds - min(LATER_THAN_SERVER_SECONDS, seconds / 2))))
    return (
        f"BEGIN ISOLATION LEVEL READ COMMITTED {mode};"
        f"SET LOCAL statement_timeout={milliseconds};SET LOCAL lock_timeout={milliseconds};{_settings(url)}"
    )


def connect_within(allowance: Allowance, *arguments: Any, **named: Any) -> DeadlineConnection:
    """Connect, and wait no longer than the allowance. Raises psycopg.OperationalError.

    In a thread of its own: looking up the host's name cannot be interrupted, and libpq waits 2 s at least.
    """
    connecting: Future[DeadlineConnection] = Future()
    Thread(
        target=_fulfil,
        args=(connecting, lambda: DeadlineConnection.connect(*arguments, **named)),
        name="connecting to PostgreSQL",
        daemon=True,
    ).start()
    try:
        with allowance.waiting() as seconds:
            return connecting.result(seconds)
    except StillConnecting:
        connecting.add_done_callback(_close_late)
        raise psycopg.OperationalError(f"no connection within {allowance.granted:g} s") from None


def _fulfil(future: "Future[T]", call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)


def _close_late(connecting: "Future[DeadlineConnection]") -> None:
    if connecting.exception() is None:
        connecting.result().close()


@lru_cache(maxsize=16)
def _settings(url: URL) -> str:
    """Return the SQL that gives our SQL its meaning until the transaction ends."""
    settings = dict(SETTINGS)
    if "search_path" in str(url.query.get("options", "")):
        del settings["search_path"]
    return ";".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
