"""What a job takes: seconds by phase, examples, and energy where this machine counts it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.learning.strategy import Progress

POWERCAP = Path("/sys/class/powercap")
READ_AGAIN_SECONDS = 60.0
"""A counter of energy starts again at zero after some 260 kJ: at 300 W, a quarter of an hour."""


class Meter:
    """Runs from when it is made; told of every step, it knows how long each phase took."""

    def __init__(self, powercap: Path = POWERCAP, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._phase_since = clock()
        self._phase = "preparing"
        self._phases: dict[str, float] = {}
        self._examples: dict[str, int] = {}
        self._energy = Energy(powercap)
        self._energy_read = self._started

    def show(self, progress: Progress) -> None:
        """Called at every step of the job."""
        now = self._clock()
        if progress.phase != self._phase:
            self._turn(progress.phase, now)
        if now - self._energy_read > READ_AGAIN_SECONDS:
            self._energy_read = now
            self._energy.read()

    def count(self, label: str, examples: int) -> None:
        """So many real images of the label were handed to the job, however often."""
        self._examples[label] = examples

    def cost(self) -> dict[str, Any]:
        """{seconds, phases: {name: seconds}, examples, energy}; energy is {joules, counted | reason}."""
        now = self._clock()
        self._turn(self._phase, now)
        return {
            "seconds": round(now - self._started, 3),
            "phases": {name: round(seconds, 3) for name, seconds in self._phases.items()},
            "examples": sum(self._examples.values()),
            "energy": self._energy.spent(),
        }

    def _turn(self, phase: str, now: float) -> None:
        self._phases[self._phase] = self._phases.get(self._phase, 0.0) + now - self._phase_since
        self._phase, self._phase_since = phase, now


class Energy:
    """The joules of this machine's processor packages (RAPL) since the first look, whoever spent them."""

    def __init__(self, powercap: Path) -> None:
        self._packages = sorted(
            folder for folder in powercap.glob("intel-rapl:*") if folder.name.count(":") == 1
        )
        self._microjoules = 0
        self._reason = "" if self._packages else "this machine has no energy counter (RAPL)"
        self._last = self._counters()

    def read(self) -> None:
        """Look again; at least once in the time a counter takes from zero to zero."""
        found = self._counters()
        for package, counter in found.items():
            passed = counter - self._last.get(package, counter)
            self._microjoules += passed if passed >= 0 else passed + self._wraps_at(package)
        self._last = found

    def spent(self) -> dict[str, Any]:
        self.read()
        if self._reason:
            return {"joules": None, "reason": self._reason}
        return {"joules": self._microjoules / 1e6, "counted": "the processor packages of the whole machine"}

    def _counters(self) -> dict[Path, int]:
        try:
            return {package: int((package / "energy_uj").read_text()) for package in self._packages}
        except (OSError, ValueError):
            self._reason = "the energy counter (RAPL) of this machine may not be read by the worker"
            return {}

    def _wraps_at(self, package: Path) -> int:
        try:
            return int((package / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            self._reason = "an energy counter (RAPL) of this machine wrapped, and does not say where"
            return 0
