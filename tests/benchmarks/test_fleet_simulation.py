"""The simulated fleet follows the rules of real workers, and the theory of queues where there is one."""

import math
import random
import statistics

import pytest

from benchmarks.fleet_simulation import DAY_SECONDS, Load, Request, make_requests, quantile, simulate

LOAD = Load(
    models=20, projects=4, requests_a_day=5000, mix={"learn": 0.9, "evaluate": 0.1}, swing=0.8, popularity=1
)


def learns(*models: str, at: float = 0.0, project: str = "p", seconds: float = 10.0) -> list[Request]:
    return [Request(at, project, model, "learn", seconds) for model in models]


def test_requests_wait_for_a_free_worker() -> None:
    requests = learns("a", "b", "c")
    assert [run.wait for run in simulate(requests, 1)] == [0, 10, 20]
    assert [run.wait for run in simulate(requests, 2)] == [0, 0, 10]
    assert [run.wait for run in simulate(requests, 2, dispatch_seconds=1)] == [1, 1, 12]


def test_changes_of_a_model_run_one_after_another_and_evaluations_beside_them() -> None:
    requests = [*learns("a", "a"), Request(0.0, "p", "a", "evaluate", 5.0)]
    assert sorted((run.request.operation, run.started) for run in simulate(requests, 3)) == [
        ("evaluate", 0),
        ("learn", 0),
        ("learn", 10),
    ]


def test_a_project_with_many_requests_delays_another_by_one_job() -> None:
    requests = learns(*(f"m{number}" for number in range(50)), project="many")
    requests += learns("other", at=1.0, project="few")
    (other,) = (run for run in simulate(requests, 1) if run.request.project == "few")
    assert other.started == 10


def test_forgets_come_before_learns_with_all_changes_that_they_wait_for() -> None:
    requests = [*learns("first", "a", "b", "c"), Request(0.0, "p", "c", "forget", 10.0)]
    runs = [(run.request.model, run.request.operation) for run in simulate(requests, 1)]
    assert runs[1:3] == [("c", "learn"), ("c", "forget")]


def test_one_job_in_four_is_chosen_without_regard_to_priorities() -> None:
    forgets = [Request(0.0, "p", f"m{number}", "forget", 10.0) for number in range(9)]
    runs = simulate([*learns("running", "waiting"), *forgets], 1)
    assert [run.request.model for run in runs].index("waiting") == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_waits_are_those_that_erlang_computed(workers: int) -> None:
    """Poisson arrivals and exponential durations: M/M/c, with the mean wait by Erlang's formula C."""
    chance, rate, busy = random.Random(1), 1.0, 0.7
    mean = busy * workers / rate
    at, requests = 0.0, []
    for number in range(40_000):
        at += chance.expovariate(rate)
        requests.append(Request(at, "p", f"m{number}", "learn", chance.expovariate(1 / mean)))
    offered = busy * workers
    last = offered**workers / math.factorial(workers) / (1 - busy)
    must_wait = last / (sum(offered**k / math.factorial(k) for k in range(workers)) + last)
    expected = must_wait * mean / (workers * (1 - busy))
    waits = [run.wait for run in simulate(requests, workers)]
    assert statistics.mean(waits) == pytest.approx(expected, rel=0.1)


def test_requests_follow_the_mix_the_popularity_and_the_hour() -> None:
    requests = make_requests(LOAD, {"learn": [1.0], "evaluate": [2.0]}, days=2, seed=1)
    assert len(requests) == pytest.approx(10_000, rel=0.05)
    evaluations = sum(one.operation == "evaluate" for one in requests)
    assert evaluations / len(requests) == pytest.approx(0.1, rel=0.2)
    hottest = sum(one.model == "m0" for one in requests)
    assert hottest / len(requests) == pytest.approx(LOAD.share_of_hottest(), rel=0.1)
    busiest = sum((one.at % DAY_SECONDS) < DAY_SECONDS / 2 for one in requests)
    assert busiest / len(requests) == pytest.approx(0.5 + LOAD.swing / math.pi, rel=0.05)
    assert {one.seconds for one in requests if one.operation == "evaluate"} == {2.0}


def test_a_quantile_is_a_value_that_so_many_do_not_exceed() -> None:
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.25, 0.5, 0.95, 1.0)] == [1, 2, 4, 4]
