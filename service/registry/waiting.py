"""How long a thread may still wait for the database, and what becomes of requests while it does not answer.

A hung server gives no answer, a busy one gives its answers late. So what is limited is the time without any
answer: while it connects, waits for a lock or reads a result. Once it is used up, nothing waits any more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from service.registry.errors import DatabaseUnavailable

LONGEST_IN_LINE_SECONDS = 20.0
"""How long a request stands in line although those before it get through."""


class Allowance:
    """The seconds that the database may still be silent. With every answer they begin anew."""

    __slots__ = ("granted", "remaining")

    def __init__(self, seconds: float, remaining: float | None = None) -> None:
        self.granted = seconds
        self.remaining = seconds if remaining is None else remaining

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Run a block that waits for an answer as long as the yielded seconds, and else raises an error."""
        started = time.monotonic()
        try:
            yield self.remaining
        except BaseException:
            self.remaining = max(0.0, self.remaining - (time.monotonic() - started))
            raise
        self.remaining = self.granted


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def current_allowance() -> Allowance | None:
    """Return the allowance of the innermost `waiting_at_most` around the caller, if there is one."""
    return _allowance.get()


@contextmanager
def waiting_at_most(seconds: float, remaining: float | None = None) -> Iterator[Allowance]:
    """Give the block an allowance. Inside another one that is stricter, that of the other goes on.

    remaining: what is left of it, if a part was used up before.
    """
    outer = _allowance.get()
    if outer is not None and outer.granted <= seconds:
        yield outer
        return
    allowance = Allowance(seconds, remaining)
    token = _allowance.set(allowance)
    try:
        yield allowance
    finally:
        _allowance.reset(token)


class Patience:
    """How long to stand in line for the database: as long as those before get through.

    `moved_at` returns when somebody last got through, by the monotonic clock.
    """

    def __init__(self, seconds: float, moved_at: Callable[[], float]) -> None:
        self._seconds = seconds
        self._moved_at = moved_at
        self._started_at = time.monotonic()

    def remaining(self) -> float:
        """Return how many seconds to wait unless somebody gets through meanwhile; 0: give up."""
        now = time.monotonic()
        if now - self._started_at > LONGEST_IN_LINE_SECONDS:
            return 0.0
        return max(0.0, max(self._started_at, self._moved_at()) + self._seconds - now)

    def reason(self) -> str:
        """Say why the patience has ended."""
        return f"requests before this one have waited for it for {self._seconds:g} s"


class Line:
    """Threads of this process that want the same lock of the database, which one of them has at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left_at = time.monotonic()
        self._is_served = False

    @contextmanager
    def place(self, seconds: float) -> Iterator[None]:
        """Run the block once it is this thread's turn. Raises DatabaseUnavailable if nothing moves."""
        patience = Patience(seconds, self._moved_at)
        while not self._lock.acquire(timeout=patience.remaining()):
            if not patience.remaining():
                raise DatabaseUnavailable(patience.reason(), has_answered=True)
        try:
            yield
            self._left_at = time.monotonic()
        finally:
            self._is_served = False
            self._lock.release()

    def serve(self) -> None:
        """Record that the first of the line has the lock of the database, so that the others wait on."""
        self._is_served = True

    def _moved_at(self) -> float:
        return time.monotonic() if self._is_served else self._left_at


class CircuitBreaker:
    """Refuses requests at once while the database does not answer, but for one at a time, which tries it.

    Without it each of many requests would wait for its own deadline, and the last would have to wait for a
    thread besides.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_open = False
        self._is_tried = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Run a block that uses the database. Raises DatabaseUnavailable instead while another tries it."""
        tries = self._enter()
        try:
            yield
        finally:
            if tries:
                with self._lock:
                    self._is_tried = False

    def answered(self) -> None:
        """Record that the database has answered: all requests may use it again."""
        if self._is_open:
            with self._lock:
                self._is_open = False

    def failed(self) -> None:
        """Record that the database did not answer."""
        with self._lock:
            self._is_open = True

    def _enter(self) -> bool:
        if not self._is_open:
            return False
        with self._lock:
            if self._is_tried:
                raise DatabaseUnavailable("it did not answer a moment ago, and another request tries it")
            self._is_tried = self._is_open
            return self._is_tried
