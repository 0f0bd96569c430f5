"""Decide when a job has made no progress for too long: each phase has a limit, with a margin.

A job makes progress when it reports another step or another phase. The longest silence measured on one core
of a server, with MNIST and the networks and params that the API chooses by default, was 0.7 s in training and
unlearning, 0.3 s in judging, 6.1 s before the first step (imports and images) and 7.9 s in a full report. The
default of 60 s, with the factors below, leaves a margin of fifteen and more.
"""

from collections.abc import Mapping

LONGER_PHASES: Mapping[str, float] = {"preparing": 5.0, "quality of": 2.0}
"""{beginning of a phase's name: how many times the limit it may be silent}. A dataset that is used for the
first time is downloaded while the job is preparing."""
SLOWEST_STEPS = 20.0
"""A step may always take so many times as long as the slowest step of its phase took before."""
LARGEST_TICK_SECONDS = 1.0
"""More is not counted between two ticks: the whole process was suspended, and nothing in it hangs."""


class ProgressClock:
    """How long a job has made no progress, and how long it may.

    The thread that works calls `report` and `wait`; another one calls `tick` several times a second.
    """

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._position = ("preparing", 0)
        self._changes = self._seen_changes = 0
        self._slowest = 0.0
        self._phase_of_slowest = ""
        self.silent_seconds = 0.0

    @property
    def phase(self) -> str:
        """The phase of the last report."""
        return self._position[0]

    @property
    def changes(self) -> int:
        """How often the job has made progress. Compare two values to see whether it has in between."""
        return self._changes

    @property
    def limit_seconds(self) -> float:
        """How long the phase may take for a step."""
        factors = (factor for phase, factor in LONGER_PHASES.items() if self.phase.startswith(phase))
        return max(self._stall_seconds * next(factors, 1.0), SLOWEST_STEPS * self._slowest)

    @property
    def is_stalled(self) -> bool:
        return self.silent_seconds > self.limit_seconds

    def report(self, phase: str, step: int) -> None:
        """Note that the job reported this step. Cheap, because it is called at every step."""
        if (phase, step) != self._position:
            self._position = (phase, step)
            self._changes += 1

    def wait(self) -> None:
        """Note that the job waits for the database or the artifact store: it does not hang."""
        self._changes += 1

    def tick(self, elapsed_seconds: float) -> None:
        """Count the time since the last tick, unless there was progress."""
        if self._changes == self._seen_changes:
            self.silent_seconds += min(elapsed_seconds, LARGEST_TICK_SECONDS)
            return
        same_phase = self.phase == self._phase_of_slowest
        self._slowest = max(self._slowest, self.silent_seconds) if same_phase else 0.0
        self._phase_of_slowest = self.phase
        self._seen_changes, self.silent_seconds = self._changes, 0.0
