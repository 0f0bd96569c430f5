"""The bars of the benchmarks, each run as people run it. Speed depends on the machine: `make test-slow`."""

import json
import subprocess
import sys

import pytest


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
