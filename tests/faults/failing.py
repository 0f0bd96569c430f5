"""Arm failpoints in the processes of a test, each at the moment that the test chooses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import failpoints
from tests.instance import wait_for


@dataclass(frozen=True)
class Failpoints:
    """The failpoints of one test. Processes need `environment`; nothing fails until `arm` is called."""

    folder: Path
    actions: dict[str, str]
    """{name of a failpoint, perhaps with #N: its action}."""

    @property
    def environment(self) -> dict[str, str]:
        points = [f"{name}:{action}:{self._file(name)}" for name, action in self.actions.items()]
        return {failpoints.VARIABLE: ",".join(points)}

    def arm(self, name: str) -> None:
        """Let the next process that comes there fail."""
        self._file(name).touch()

    def wait_until_reached(self, name: str, seconds: float = 90.0) -> None:
        """Wait until a process has come there since `arm`."""
        wait_for(f"a process comes to {name}", lambda: not self._file(name).exists(), seconds)

    def release(self, name: str) -> None:
        """Let the process that hangs there go on. Returns when it does."""
        self.arm(name)
        self.wait_until_reached(name)

    def _file(self, name: str) -> Path:
        return self.folder / f"at-{name}"


@contextmanager
def failing_here(value: str) -> Iterator[None]:
    """Arm failpoints in the process of the test."""
    before = os.environ.get(failpoints.VARIABLE, "")
    failpoints.arm(value)
    try:
        yield
    finally:
        failpoints.arm(before)
