"""Bound how much heavy work is in hand at once: drawing images, unpacking uploads.

The work has threads of its own, so that it delays neither reads of the database nor /livez and /readyz.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from service.api.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")


class Slots:
    """The threads for one kind of work, and the requests that share them."""

    def __init__(self, what: str, *, threads: int, requests: int) -> None:
        """threads: how much is done at once; requests: how many may be doing it or waiting for it."""
        self._what = what
        self._requests = requests
        self._admitted = 0
        self._threads = CapacityLimiter(threads)

    @property
    def in_hand(self) -> int:
        """How many requests are doing the work or waiting for it."""
        return self._admitted

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request in until the block ends. Raises Problem 429 if there are too many."""
        if self._admitted >= self._requests:
            detail = (
                f"The server is {self._what} for {self._admitted} requests already; try again in a moment."
            )
            raise Problem(429, "concurrency_limited", detail, headers={"Retry-After": "1"})
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in one of the threads. Callers are served in turn, so that work which is done in
        short pieces does not delay that of others for long.
        """
        return await to_thread.run_sync(lambda: do(*args, **kwargs), limiter=self._threads)
