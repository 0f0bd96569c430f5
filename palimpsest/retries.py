"""Which requests are sent again, and when."""

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


class NotConnected(ServerUnreachable):
    """No connection was made, so that the server cannot have got the request."""


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
