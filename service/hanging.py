"""Calls that may hang, such as reads of a network disk, made so that nobody waits for long.

A thread that waits for such a disk cannot be ended. So it is a thread of its own, and left alone.
"""

import errno
import os
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class BoundedCalls:
    """Makes calls, each in a thread of its own, and waits `seconds` for each. Thread-safe.

    While one of them hangs, further ones are refused at once: no threads pile up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._hanging = 0

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns. Raises what it raises, and TimeoutError if it takes too long."""
        if self._hanging:
            raise self._late()
        called: Future[T] = Future()

        def run() -> None:
            try:
                called.set_result(function(*args, **kwargs))
            except BaseException as error:
                called.set_exception(error)

        Thread(target=run, name="a call that may hang", daemon=True).start()
        try:
            return called.result(self._seconds)
        except TimeoutError:
            if called.done():
                raise
            self._count(1)
            called.add_done_callback(lambda _: self._count(-1))
            raise self._late() from None

    def _count(self, change: int) -> None:
        with self._lock:
            self._hanging += change

    def _late(self) -> TimeoutError:
        return TimeoutError(errno.ETIMEDOUT, f"{os.strerror(errno.ETIMEDOUT)} after {self._seconds:g} s")
