"""Which fault happens when: a function of the seed alone."""

import random
from dataclasses import dataclass

MEAN_PAUSE_SECONDS = 6.0
"""Between two faults of the same target. Faults of several targets overlap."""
LONGEST_SECONDS = 8.0
"""How long a fault lasts at most. Many last longer than a lease."""

EVERY_BACKING = {
    "api": ("kill the API", "suspend the API", "terminate the API"),
    "worker": ("kill a worker", "suspend a worker", "kill a worker", "terminate a worker"),
    "disk": ("fill the disk",),
    "messages": ("lose the messages", "send garbage messages"),
}
OF_SQLITE = {"database": ("lock the database",)}
OF_POSTGRESQL = {
    "database": ("kill the database", "suspend the database"),
    "way to the database": ("cut the database off", "silence the database"),
    "broker": ("kill the broker", "suspend the broker"),
    "way to the broker": ("cut the broker off", "silence the broker"),
}
BACKINGS = {"sqlite": EVERY_BACKING | OF_SQLITE, "postgresql": EVERY_BACKING | OF_POSTGRESQL}


@dataclass(frozen=True, order=True)
class Fault:
    """One fault, from `at` until `at + seconds` after the start of the run."""

    at: float
    kind: str
    seconds: float
    choice: float
    """In [0, 1): chooses among several workers."""

    def __str__(self) -> str:
        return f"{self.at:6.2f} s: {self.kind} for {self.seconds:.2f} s"


def make_schedule(seed: int, backing: str, seconds: float) -> list[Fault]:
    """Return the faults of a run, in the order of their beginnings. Those of one target do not overlap."""
    faults = []
    for target, kinds in BACKINGS[backing].items():
        chance = random.Random(f"{seed}/{backing}/{target}")
        at = chance.expovariate(1 / MEAN_PAUSE_SECONDS)
        while at < seconds:
            lasting = chance.uniform(0.2, LONGEST_SECONDS) * chance.random()
            faults.append(Fault(at, chance.choice(kinds), lasting, chance.random()))
            at += lasting + chance.expovariate(1 / MEAN_PAUSE_SECONDS)
    return sorted(faults)
