"""Wait until something that the server works on is done."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import httpx2
from pydantic import BaseModel

from palimpsest.errors import RequestRefused, ServerUnreachable
from palimpsest.requests import Request, get, read_retry_after, value
from palimpsest.retries import OUTAGE_SECONDS
from palimpsest.transports import Notify, Pause, Steps, send

POLL_SECONDS = 1.0
"""How long to pause between two polls if the answer has no Retry-After header."""


class _Ending(Protocol):
    @property
    def done(self) -> bool: ...


E = TypeVar("E", bound=_Ending)
V = TypeVar("V", bound=BaseModel)


def wait_until_done(
    poll: Request[tuple[E, float | None]],
    *,
    on_progress: Callable[[E], object] | None,
    timeout: float | None,
    give_up: Callable[[E, float], Exception],
) -> Steps[E]:
    """Poll until it is done, and return it. If the server cannot answer, poll for 30 more seconds.

    timeout: seconds after which the exception that `give_up` makes is raised.
    """
    deadline = time.monotonic() + timeout if timeout is not None else float("inf")
    outage_began: float | None = None
    current: E | None = None
    while True:
        try:
            current, pause = yield from send(poll)
            outage_began = None
        except (RequestRefused, ServerUnreachable) as error:
            if isinstance(error, RequestRefused) and error.status != 503:
                raise
            outage_began = outage_began or time.monotonic()
            if time.monotonic() - outage_began > OUTAGE_SECONDS:
                raise
            pause = error.retry_after if isinstance(error, RequestRefused) else None
        else:
            if on_progress is not None:
                yield Notify(on_progress, current)
            if current.done:
                return current
        left = deadline - time.monotonic()
        if left <= 0 and current is not None:
            raise give_up(current, timeout or 0.0)
        yield Pause(min(POLL_SECONDS if pause is None else pause, max(left, 0.0)))


def poll(path: str, kind: type[V]) -> Request[tuple[V, float | None]]:
    """Describe a GET that also reads after how many seconds to ask again."""

    def read(response: httpx2.Response) -> tuple[V, float | None]:
        return value(kind)(response), read_retry_after(response)

    return get(path, read)
