"""What a client sees of a running job: how long its phase will still take, and the course of its loss."""

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


class ProgressHistory:
    """Chooses the progress that becomes an event: often in short jobs, and rarely in long ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._recorded_at: float | None = None
        self._phase = ""

    def is_due(self, phase: str) -> bool:
        """Return whether progress in this phase is to be recorded now."""
        if self._recorded_at is None or phase != self._phase:
            return True
        interval = max(SHORTEST_INTERVAL_SECONDS, (self._clock() - self._began) / EVENTS_AT_ONE_RATE)
        return self._clock() - self._recorded_at >= interval

    def note_recorded(self, phase: str) -> None:
        """Note that progress in this phase has just been recorded."""
        self._recorded_at, self._phase = self._clock(), phase


SHORTEST_INTERVAL_SECONDS = 1.0
"""How often the progress of a job is recorded at most, besides the first of each phase ..."""
EVENTS_AT_ONE_RATE = 200
"""... until there are so many events. Then the interval grows with the duration of the job."""
