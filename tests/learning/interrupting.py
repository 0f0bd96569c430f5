"""Attempts that are killed, and the snapshots that they leave, in memory."""

import itertools
from collections.abc import Callable

from worker.learning.strategy import Progress


class Killed(Exception):
    """Stands for the end of the process."""


class Memory:
    """Snapshots in memory, one due at every third occasion to save one."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data, self.saved = data, 0
        self._occasions = itertools.count(1)

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data, self.saved = data, self.saved + 1

    def is_due(self) -> bool:
        return next(self._occasions) % 3 == 0


def killer(steps: int) -> Callable[[Progress], None]:
    """A callback that kills the attempt at its step of that number."""
    count = itertools.count(1)

    def kill(progress: Progress) -> None:
        if next(count) == steps:
            raise Killed

    return kill
