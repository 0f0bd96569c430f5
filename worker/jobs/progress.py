"""Estimate how long the current phase of a job will still take, from the duration of its steps so far."""

import time
from collections.abc import Callable

from worker.learning.strategy import Progress


class RemainingTime:
    """Estimates the remaining time of each phase. Call `estimate` from the first step of a phase on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._phase_began = 0.0

    def estimate(self, progress: Progress) -> float | None:
        """Return the seconds until the phase ends, to a tenth; None before its first step is done."""
        now = self._clock()
        if progress.phase != self._phase:
            self._phase, self._phase_began = progress.phase, now
        if not progress.step:
            return None
        seconds_per_step = (now - self._phase_began) / progress.step
        return round(seconds_per_step * (progress.total - progress.step), 1)
