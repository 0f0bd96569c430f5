"""The bars of the benchmarks, each run as people run it. Speed depends on the machine: `make test-slow`."""

import json
import subprocess
import sys

import pytest

from tests.datasets.real_mnist import real_mnist


def printed_by(benchmark: str, *options: str) -> dict:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", "-", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_the_fisher_is_exact_and_fast():
    figures = printed_by("fisher")
    assert figures["relative_error"] <= 1e-5
    assert figures["seconds_10k"] <= 5
    assert figures["seconds_50k"] <= 10


@pytest.mark.slow
def test_removal_is_predicted_and_growth_is_free():
    real_mnist()  # skips where it is missing
    figures = printed_by("resizing")
    assert figures["spearman"] >= 0.8
    assert figures["spearman_same_size"] >= 0.8
    assert figures["ratio"] <= 0.5
    assert figures["expansion_output_change"] <= 1e-6
    assert figures["expansion_posterior_change"] <= 1e-6
    assert figures["expansion_without_gradient"] == 0
