"""Which requests are sent again, and when."""

import random
import time
from collections.abc import Callable
from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from palimpsest.errors import RequestRefused, ServerUnreachable
from palimpsest.requests import Request

LONGEST_PAUSE = 60.0
"""Seconds. A server that says with Retry-After that it takes longer is not asked again."""

_full_jitter = wait_random_exponential(multiplier=0.5, max=8)

_REFUSED_UNTRIED = (429, 503)
"""The server did nothing, and says so."""
_LOST_BEHIND_A_PROXY = (502, 504)
"""A proxy had no answer. The server may have done it."""


OUTAGE_SECONDS = 30.0
"""How long waiting for a job goes on while the server answers with 503 or cannot be reached."""


EMPTY_STREAMS = 2
"""How many streams without an event mean that there is none, and not that the server was stopping."""


class NotConnected(ServerUnreachable):
    """No connection was made, so that the server cannot have got the request."""


class Reconnecting:
    """When a stream that was cut off is connected again: while that brings news within OUTAGE_SECONDS."""

    def __init__(self) -> None:
        self._failed_since: float | None = None
        self._attempts = 0
        self._empty = 0

    def note_connected(self) -> None:
        """Note that the server answers with a stream."""
        self._empty += 1

    def note_news(self) -> None:
        """Note that something arrived."""
        self._failed_since, self._attempts, self._empty = None, 0, 0

    @property
    def is_over(self) -> bool:
        """Whether the server has nothing more: it ended two streams in a row that brought nothing."""
        return self._empty >= EMPTY_STREAMS

    def pause_after(self, error: RequestRefused | ServerUnreachable | None) -> float:
        """Return the seconds before the next attempt; raise the error if it is none that passes by itself.

        error: None for a stream that ended without one.
        """
        if isinstance(error, RequestRefused) and error.status not in (
            *_REFUSED_UNTRIED,
            *_LOST_BEHIND_A_PROXY,
        ):
            raise error
        self._failed_since = self._failed_since or time.monotonic()
        if error is not None and time.monotonic() - self._failed_since > OUTAGE_SECONDS:
            raise error
        self._attempts += 1
        said = error.retry_after if isinstance(error, RequestRefused) else None
        return max(said or 0.0, random.uniform(0, min(8.0, 0.25 * 2**self._attempts)))


def retry_policy(request: Request[Any], max_retries: int) -> dict[str, Any]:
    """Return the options of tenacity's Retrying and AsyncRetrying for a request."""
    return {
        "stop": stop_after_attempt(max_retries + 1),
        "wait": _pause,
        "retry": retry_if_exception(_may_retry(request)),
        "reraise": True,
    }


def _may_retry(request: Request[Any]) -> Callable[[BaseException], bool]:
    def may_retry(error: BaseException) -> bool:
        if isinstance(error, RequestRefused):
            if (error.retry_after or 0) > LONGEST_PAUSE:
                return False
            if error.status in _REFUSED_UNTRIED or error.code == "idempotency_in_flight":
                return True
            return error.status in _LOST_BEHIND_A_PROXY and request.is_repeatable
        if isinstance(error, NotConnected):
            return True
        return isinstance(error, ServerUnreachable) and request.is_repeatable

    return may_retry


def _pause(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: what the server says, or exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    said = error.retry_after if isinstance(error, RequestRefused) else None
    return max(said or 0.0, _full_jitter(state))
