"""The energy that this machine's processors use, read from Linux powercap (RAPL of Intel and AMD)."""

from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
READ_INTERVAL_SECONDS = 60.0
"""A counter wraps after about 260 kJ (a quarter of an hour at 300 W), so it has to be read more often."""


class EnergyMeter:
    """Measures the joules of all processor packages from the moment this is made, of every process."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._packages = sorted(
            folder for folder in powercap.glob("intel-rapl:*") if folder.name.count(":") == 1
        )
        self._microjoules = 0
        self._reason = "" if self._packages else "this machine has no energy counter (RAPL)"
        self._last = self._read_counters()

    def read(self) -> None:
        """Add what was used since the last call. A call must come before a counter can wrap twice."""
        counters = self._read_counters()
        for package, counter in counters.items():
            used = counter - self._last.get(package, counter)
            self._microjoules += used if used >= 0 else used + self._counter_range(package)
        self._last = counters

    def used(self) -> dict[str, Any]:
        """Return {joules, counted}, or {joules: None, reason} where the energy is not known."""
        self.read()
        if self._reason:
            return {"joules": None, "reason": self._reason}
        return {"joules": self._microjoules / 1e6, "counted": "the processor packages of the whole machine"}

    def _read_counters(self) -> dict[Path, int]:
        try:
            return {package: int((package / "energy_uj").read_text()) for package in self._packages}
        except (OSError, ValueError):
            self._reason = "the worker has no permission to read the energy counter (RAPL) of this machine"
            return {}

    def _counter_range(self, package: Path) -> int:
        try:
            return int((package / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            self._reason = "an energy counter (RAPL) of this machine wrapped, and its range cannot be read"
            return 0
