"""Simulate a fleet of workers: when each request starts and ends, by the rules that real workers follow.

Whose job a worker takes next is decided by the code of the workers themselves (worker/jobs/turns.py), with
the priorities that the service gives to operations. As in the database, at most one change of a model runs at
a time, in the order of the requests, and any number of its evaluations.
"""

import heapq
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from service.registry.claims import WaitingJob
from service.registry.job_requests import DEFAULT_PRIORITIES
from service.registry.tables import Operation
from worker.jobs.turns import Turns

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Request:
    """A request for a job.

    at: seconds after the begin of the simulation. seconds: how long a worker is busy with the job.
    """

    at: float
    project: str
    model: str
    operation: Operation
    seconds: float

    @property
    def priority(self) -> int:
        """The priority of its job."""
        return DEFAULT_PRIORITIES.get(self.operation, 0)


@dataclass(frozen=True)
class Run:
    """What became of a request. started and ended: seconds after the begin of the simulation."""

    request: Request
    started: float
    ended: float

    @property
    def wait(self) -> float:
        """The seconds from the request to the start of its job."""
        return self.started - self.request.at


@dataclass(frozen=True)
class Load:
    """How many requests come, for which models.

    swing: by how much the rate of requests rises above its mean at the busiest hour, and falls below it at
    the quietest, as a share of the mean, in [0, 1). mix: {operation: its share of the requests}. popularity:
    the model of rank r gets requests in proportion to r ** -popularity.
    """

    models: int
    projects: int
    requests_a_day: float
    mix: Mapping[Operation, float]
    swing: float
    popularity: float

    def times(self, factor: float) -> "Load":
        """Return the same load with `factor` times as many requests."""
        return replace(self, requests_a_day=self.requests_a_day * factor)

    def share_of_hottest(self) -> float:
        """Return the share of the requests that the most popular model gets."""
        return 1 / sum(weights_of(self.models, self.popularity))


def make_requests(
    load: Load, seconds: Mapping[Operation, Sequence[float]], *, days: float, seed: int
) -> list[Request]:
    """Return the requests of so many days, in the order of their times: a Poisson process whose rate swings.

    seconds: {operation: measured durations of its jobs}; each request gets one of them at random.
    """
    chance = random.Random(seed)
    weights = weights_of(load.models, load.popularity)
    models = range(load.models)
    operations, shares = zip(*load.mix.items(), strict=True)
    requests = []
    for at in _arrivals(load, days, chance):
        (model,) = chance.choices(models, weights)
        (operation,) = chance.choices(operations, shares)
        requests.append(
            Request(
                at, f"p{model % load.projects}", f"m{model}", operation, chance.choice(seconds[operation])
            )
        )
    return requests


def weights_of(models: int, popularity: float) -> list[float]:
    """Return how popular the models are, the most popular one first: rank ** -popularity."""
    return [float(rank) ** -popularity for rank in range(1, models + 1)]


def _arrivals(load: Load, days: float, chance: random.Random) -> Iterator[float]:
    """Yield the times of the requests: those of the highest rate, thinned to the rate of their hour."""
    highest = load.requests_a_day * (1 + load.swing) / DAY_SECONDS
    at = chance.expovariate(highest)
    while at < days * DAY_SECONDS:
        rate = 1 + load.swing * math.sin(2 * math.pi * at / DAY_SECONDS)
        if chance.random() < rate / (1 + load.swing):
            yield at
        at += chance.expovariate(highest)


def simulate(requests: Sequence[Request], workers: int, *, dispatch_seconds: float = 0.0) -> list[Run]:
    """Return what becomes of the requests, in the order in which their jobs start.

    requests: in the order of their times. dispatch_seconds: from the moment at which a job could start to its
    start, for the message and the claim.
    """
    fleet = _Fleet(workers, dispatch_seconds)
    for sequence, request in enumerate(requests):
        fleet.advance(request.at)
        fleet.accept(sequence, request)
    fleet.advance(math.inf)
    return fleet.runs


class _Line:
    """The requests of a model that wait, in their order."""

    def __init__(self) -> None:
        self.requests: deque[tuple[int, Request]] = deque()
        self._priorities: Counter[int] = Counter()

    @property
    def priority(self) -> int:
        """That of the first request: the largest of all, because the others wait for it."""
        return max(self._priorities)

    def append(self, sequence: int, request: Request) -> None:
        self.requests.append((sequence, request))
        self._priorities[request.priority] += 1

    def pop_first(self) -> Request:
        _, request = self.requests.popleft()
        self._priorities[request.priority] -= 1
        self._priorities = +self._priorities
        return request


class _Fleet:
    """The workers, and the jobs that wait for them."""

    def __init__(self, workers: int, dispatch_seconds: float) -> None:
        self.runs: list[Run] = []
        self._dispatch = dispatch_seconds
        self._turns = [Turns() for _ in range(workers)]
        self._free = deque(range(workers))
        self._busy: list[tuple[float, int, str | None]] = []
        """(when it ends, worker, the model that it changes), a heap."""
        self._changes: dict[str, _Line] = defaultdict(_Line)
        self._evaluations: dict[str, _Line] = defaultdict(_Line)
        self._changing: set[str] = set()
        self._now = 0.0

    def accept(self, sequence: int, request: Request) -> None:
        """Take a request, at its time."""
        self._now = request.at
        lines = self._evaluations if request.operation == "evaluate" else self._changes
        lines[request.model].append(sequence, request)
        self._start_jobs()

    def advance(self, until: float) -> None:
        """Let time pass: jobs end, and others start."""
        while self._busy and self._busy[0][0] <= until:
            self._now, worker, model = heapq.heappop(self._busy)
            if model is not None:
                self._changing.remove(model)
            self._free.append(worker)
            self._start_jobs()

    def _start_jobs(self) -> None:
        while self._free:
            waiting = list(self._find_waiting())
            if not waiting:
                return
            worker = self._free.popleft()
            job = self._turns[worker].order(waiting)[0]
            self._turns[worker].note(job)
            self._turns[worker].note_claimed()
            lines = self._evaluations if job.id == "evaluation" else self._changes
            request = lines[job.model_id].pop_first()
            if not lines[job.model_id].requests:
                del lines[job.model_id]
            is_change = request.operation != "evaluate"
            if is_change:
                self._changing.add(request.model)
            started = self._now + self._dispatch
            ended = started + request.seconds
            self.runs.append(Run(request, started, ended))
            heapq.heappush(self._busy, (ended, worker, request.model if is_change else None))

    def _find_waiting(self) -> Iterator[WaitingJob]:
        """Yield what could start now: a change and an evaluation of each model (claims.find_waiting)."""
        for kind, lines in (("change", self._changes), ("evaluation", self._evaluations)):
            for model, line in lines.items():
                if kind == "evaluation" or model not in self._changing:
                    sequence, request = line.requests[0]
                    yield WaitingJob(kind, request.project, model, sequence, line.priority)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
