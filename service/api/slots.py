"""Bound how much heavy work is in hand at once: drawing images, unpacking uploads.

The work has threads of its own, so that it delays neither reads of the database nor /livez and /readyz.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, fail_after, to_thread

from service.api.error_kinds import CONCURRENCY_LIMITED
from service.api.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")


class Slots:
    """The threads for one kind of work, and the requests that share them."""

    def __init__(self, what: str, *, threads: int, requests: int) -> None:
        """threads: how much is done at once; requests: how many may be doing it or waiting for it.

        One client may have half of them: so that it does not lock others out.
        """
        self._what = what
        self._requests = requests
        self._admitted = 0
        self._of_client: Counter[str] = Counter()
        self._threads = CapacityLimiter(threads)

    @property
    def in_hand(self) -> int:
        """How many requests are doing the work or waiting for it."""
        return self._admitted

    @contextmanager
    def admit(self, client: str | None) -> Iterator[None]:
        """Count a request in until the block ends. Raises Problem 429 if there are too many.

        client: who sent it (clients.py); None for one that no other client shares the service with.
        """
        most = -(-self._requests // 2)
        if client is not None and self._of_client[client] >= most:
            raise self._refusal(f"{most} requests of this client")
        if self._admitted >= self._requests:
            raise self._refusal(f"{self._admitted} requests")
        self._admitted += 1
        if client is not None:
            self._of_client[client] += 1
        try:
            yield
        finally:
            self._admitted -= 1
            if client is not None:
                self._of_client[client] -= 1
                if not self._of_client[client]:
                    del self._of_client[client]

    async def run(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in one of the threads. Callers are served in turn, so that work which is done in
        short pieces does not delay that of others for long.
        """
        return await to_thread.run_sync(lambda: do(*args, **kwargs), limiter=self._threads)

    async def run_within(self, seconds: float, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in one of the threads. Raises TimeoutError if that takes longer.

        The thread, which may hang, is then left alone.
        """
        try:
            with fail_after(seconds):
                return await to_thread.run_sync(
                    lambda: do(*args, **kwargs), limiter=self._threads, abandon_on_cancel=True
                )
        except TimeoutError as error:
            reason = f"{os.strerror(errno.ETIMEDOUT)} after {seconds:g} s"
            raise TimeoutError(errno.ETIMEDOUT, reason) from error

    def _refusal(self, admitted: str) -> Problem:
        detail = f"The server is {self._what} for {admitted} already; try again in a moment."
        return Problem(CONCURRENCY_LIMITED, detail, headers={"Retry-After": "1"})
