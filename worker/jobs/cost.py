"""What a job costs: seconds of each phase, examples, and energy if this machine measures it."""

import time
from collections.abc import Callable
from typing import Any

from worker.jobs.energy import READ_INTERVAL_SECONDS, EnergyMeter
from worker.learning.strategy import Progress


class CostMeter:
    """Measures the cost of a job from the moment this is made. Time belongs to the phase reported last."""

    def __init__(
        self, energy: EnergyMeter | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._started = self._phase_began = clock()
        self._phase = "preparing"
        self._phases: dict[str, float] = {}
        self._examples: dict[str, int] = {}
        self._energy = energy or EnergyMeter()
        self._energy_read = self._started

    def report_progress(self, progress: Progress) -> None:
        """Attribute the time from now on to the phase of this step. Called at every step of the job."""
        now = self._clock()
        if progress.phase != self._phase:
            self._begin_phase(progress.phase, now)
        if now - self._energy_read > READ_INTERVAL_SECONDS:
            self._energy_read = now
            self._energy.read()

    def count(self, label: str, examples: int) -> None:
        """Record how many real images of the label the job read; images that are read again count once."""
        self._examples[label] = examples

    def cost(self) -> dict[str, Any]:
        """Return {seconds, phases: {name: seconds}, examples, energy}, with energy as EnergyMeter.used()."""
        now = self._clock()
        self._begin_phase(self._phase, now)
        return {
            "seconds": round(now - self._started, 3),
            "phases": {name: round(seconds, 3) for name, seconds in self._phases.items()},
            "examples": sum(self._examples.values()),
            "energy": self._energy.used(),
        }

    def _begin_phase(self, phase: str, now: float) -> None:
        self._phases[self._phase] = self._phases.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = phase, now
