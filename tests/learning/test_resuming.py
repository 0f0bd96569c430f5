"""Interrupted at any step, any number of times, a strategy gives the bytes of an undisturbed run."""

import itertools
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.learning.tiny import CPU, Start, TinyArchive, brief
from worker.learning.resuming import NoSnapshots, Snapshots
from worker.learning.strategy import Outcome, Progress, TrainingContext, all_strategies, find
from worker.learning.transition import apply_strategy

EVERY = [(one.operation, one.name) for one in all_strategies()]
every_strategy = pytest.mark.parametrize(("operation", "name"), EVERY)


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


def attempt(
    operation: str,
    name: str,
    start: Start,
    snapshots: Snapshots,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[list[bytes], Outcome]:
    """The files that the strategy makes, and what it reports of them."""
    found, archive = find(operation, name), TinyArchive(start.checkpoint.spec.architecture)
    context = TrainingContext(CPU, 0, archive, on_progress=on_progress, snapshots=snapshots)
    params = found.Params.model_validate(brief(found))
    made = apply_strategy(start.checkpoint, found, start.given, params, context)
    return [one.to_bytes() for one in (made, *made.isolated)], context.outcome


def killer(steps: int) -> Callable[[Progress], None]:
    """A callback that kills the attempt at its step of that number."""
    count = itertools.count(1)

    def kill(progress: Progress) -> None:
        if next(count) == steps:
            raise Killed

    return kill


@every_strategy
def test_killed_at_random_steps_a_strategy_gives_the_bytes_of_an_undisturbed_run(
    operation: str, name: str, start: Start
) -> None:
    steps: list[Progress] = []
    undisturbed = attempt(operation, name, start, NoSnapshots(), steps.append)
    chance, snapshots = random.Random(f"{operation} {name}"), Memory()
    for _ in range(3):
        with suppress(Killed):
            attempt(operation, name, start, snapshots, killer(chance.randint(1, len(steps) + 1)))
    assert attempt(operation, name, start, snapshots) == undisturbed
