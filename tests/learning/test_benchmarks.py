"""The benchmarks meet their limits, each run by its command. They measure speed: `make test-slow`."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from benchmarks.learning import STEPS, split_steps
from tests.datasets.real_mnist import real_mnist
from tests.learning.tiny import CPU, examples
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import build


def printed_by(benchmark: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", "-", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout)
    return figures


@pytest.mark.slow
def test_the_fisher_is_exact_and_fast() -> None:
    figures = printed_by("fisher")
    assert figures["relative_error"] <= 1e-5
    assert figures["seconds_10k"] <= 5
    assert figures["seconds_50k"] <= 10


@pytest.mark.slow
def test_forgetting_beats_the_published_way_and_a_step_is_near_its_floor() -> None:
    real_mnist()
    figures = printed_by("learning")
    assert figures["published"]["extrapolated"], "and it says so"
    assert figures["forget_strategy"] == "surrogate", "the default for what a network itself has learnt"
    assert figures["speedup"] >= 20
    assert figures["step_over_floor"] <= 2.5
    assert {"1 thread", "2 threads", "1 thread bf16"} <= figures["variants_step_ms"].keys()
    compiled = [name for name in figures["variants_step_ms"] if name.endswith("compiled")]
    assert bool(compiled) == (figures["compile_skipped"] is None)


def test_the_parts_of_a_step_add_up_to_the_step(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    began = time.perf_counter()
    spent = split_steps(network, two_labels, examples("rows", "columns"))
    whole = time.perf_counter() - began
    assert {len(seconds) for seconds in spent.values()} == {STEPS}
    assert 0.5 * whole < sum(sum(seconds) for seconds in spent.values()) <= whole


@pytest.mark.slow
def test_removal_is_predicted_and_growth_is_free() -> None:
    real_mnist()  # skips where it is missing
    figures = printed_by("resizing")
    assert figures["spearman"] >= 0.8
    assert figures["spearman_same_size"] >= 0.8
    assert figures["ratio"] <= 0.5
    assert figures["expansion_output_change"] <= 1e-6
    assert figures["expansion_posterior_change"] <= 1e-6
    assert figures["expansion_without_gradient"] == 0
