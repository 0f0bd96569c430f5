"""Tell a failure of the artifact store from a fault of one artifact, and wait for the store to come back."""

import time

from service.durable import DISK_FULL
from service.registry.artifacts import Artifacts
from service.registry.errors import ArtifactMissing, ArtifactUnreadable, StoreUnusable

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 4.0


class StoreUnavailable(Exception):
    """The artifact store could not be read or written for a while; the job is released and runs later."""


class StoreRetries:
    """The pauses between tries, which become longer, until the store has failed for long enough."""

    def __init__(self, artifacts: Artifacts, wait_seconds: float) -> None:
        self._artifacts = artifacts
        self._wait_seconds = wait_seconds
        self._failed_at: float | None = None
        self._pause = FIRST_PAUSE_SECONDS / 2

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next try.

        Raises the error itself where waiting does not help: it is no failure of the store. After
        `wait_seconds` raises StoreUnavailable, or the error itself if it concerns one artifact or if the disk
        is full: somebody has to act then, and the client should know.
        """
        if not self._is_failure(error):
            raise error
        now = time.monotonic()
        self._failed_at = now if self._failed_at is None else self._failed_at
        if now - self._failed_at < self._wait_seconds:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return self._pause
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise error
        if isinstance(error, ArtifactUnreadable) and not self._artifacts.fails_as_a_whole(error):
            raise error
        raise StoreUnavailable(f"the artifact store fails for {self._wait_seconds:g} s: {error}") from error

    def _is_failure(self, error: Exception) -> bool:
        if isinstance(error, StoreUnusable):
            return True
        if isinstance(error, ArtifactMissing):  # an unmounted folder looks like an empty one
            return not self._holds_artifacts()
        return isinstance(error, ArtifactUnreadable | OSError)

    def _holds_artifacts(self) -> bool:
        try:
            return next(self._artifacts.files(), None) is not None
        except OSError:
            return False
