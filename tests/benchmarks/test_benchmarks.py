"""Limits of the benchmarks, each run by its command. Speed depends on the machine: `make test-slow`."""

import itertools
import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.learning import STEPS, time_step_parts
from tests.datasets.real_mnist import real_mnist
from tests.learning.tiny import CPU, TINY, examples, run
from worker.learning.networks import blank, build


def run_benchmark(benchmark: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", "-", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout)
    return figures


@pytest.mark.slow
def test_the_fisher_is_exact_and_fast() -> None:
    figures = run_benchmark("fisher")
    assert figures["relative_error"] <= 1e-5
    assert figures["seconds_10k"] <= 5
    assert figures["seconds_50k"] <= 10


@pytest.mark.slow
def test_forgetting_beats_the_published_method_and_a_step_is_near_its_floor() -> None:
    real_mnist()
    figures = run_benchmark("learning")
    assert figures["published"]["extrapolated"], "and the figures say so"
    assert figures["forget_strategy"] == "surrogate", "the default for permanent labels"
    assert figures["speedup"] >= 20
    assert figures["step_over_floor"] <= 2.5
    assert {"1 thread float32", "2 threads float32", "1 thread bf16"} <= figures["variants_step_ms"].keys()
    compiled = [name for name in figures["variants_step_ms"] if name.endswith("compiled")]
    assert bool(compiled) == ("compiled" not in figures["compile_skipped"])
    jobs = figures["jobs"]
    assert {"cpu float32", "cpu bf16"} == jobs.keys()
    assert all(one["forgotten_open_accuracy"] <= 0.05 for one in jobs.values())
    assert all(one["retained_open_accuracy"] >= 0.95 for one in jobs.values())


def test_the_parts_of_a_step_add_up_to_the_step() -> None:
    """The clock shows how often it was read, so that a span that belongs to no part would be missing."""
    two_labels = run("learn", "replay_ewc", blank(TINY, seed=0, pixels=64), examples("rows", "columns"))
    network = build(two_labels, CPU)
    clock = itertools.count()
    spent = time_step_parts(
        network, two_labels, examples("rows", "columns"), CPU, clock=lambda: float(next(clock))
    )
    assert {len(ticks) for ticks in spent.values()} == {STEPS}
    read = next(clock)
    assert sum(map(sum, spent.values())) == read - 1


@pytest.mark.slow
def test_removal_is_predicted_and_growth_changes_nothing() -> None:
    real_mnist()  # skips where it is missing
    figures = run_benchmark("resizing")
    assert figures["spearman"] >= 0.8
    assert figures["spearman_same_size"] >= 0.8
    assert figures["ratio"] <= 0.5
    assert figures["expansion_output_change"] <= 1e-6
    assert figures["expansion_posterior_change"] <= 1e-6
    assert figures["expansion_without_gradient"] == 0
