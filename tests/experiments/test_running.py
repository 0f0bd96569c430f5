"""An experiment's trials: each runs once, in parallel or not, and finished results are kept."""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from experiments import running
from experiments.running import Cache, OnStep, Result, Trial
from tests.instance import is_running, wait_for
from worker.learning.datasets.dataset import DatasetUnavailable

FINISHED = [{"took_seconds": 30.0}, {"took_seconds": 60.0}]


def square(number: int, marks: Path, on_step: OnStep) -> Result:
    """Square a number and leave a mark in a file each time; 13 raises an error."""
    if number == 13:
        raise ValueError("13 cannot be squared")
    with (marks / str(number)).open("a") as file:
        file.write(".")
    on_step(f"half of {number}")
    on_step(f"all of {number}")
    return {"square": number**2, "process": os.getpid()}


def trials(tmp_path: Path, *numbers: int) -> list[Trial]:
    return [Trial(f"square-{number}", 2, partial(square, number, tmp_path)) for number in numbers]


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(json=tmp_path / "figures.json", processes=1, seeds=2, quick=False)


def test_results_come_in_order_and_each_trial_runs_once(tmp_path: Path, options: argparse.Namespace) -> None:
    for _ in range(2):
        results = running.run_all(trials(tmp_path, 3, 2), options)
        assert [one["square"] for one in results] == [9, 4]
    assert [(tmp_path / name).read_text() for name in ("2", "3")] == [".", "."]


def test_an_experiment_that_failed_continues_where_it_stopped(
    tmp_path: Path, options: argparse.Namespace
) -> None:
    with pytest.raises(ValueError, match="13"):
        running.run_all(trials(tmp_path, 2, 13, 3), options)
    assert [one["square"] for one in running.run_all(trials(tmp_path, 2, 3), options)] == [4, 9]
    assert (tmp_path / "2").read_text() == ".", "a finished trial does not run again"
    kept = {file.name for file in running.cache_of(options).folder.iterdir()}
    assert kept == {"square-2.json", "square-3.json"}, "no unfinished file stays behind"


def fail_without_data(on_step: OnStep) -> Result:
    raise DatasetUnavailable("MNIST is missing")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_missing_dataset_ends_the_experiment_with_one_line(
    options: argparse.Namespace, processes: int
) -> None:
    options.processes = processes
    with pytest.raises(SystemExit, match=r"^MNIST is missing$"):
        running.run_all([Trial("without-data", 1, fail_without_data)], options)


def test_with_several_processes_trials_run_in_others_and_every_step_is_shown(
    tmp_path: Path, options: argparse.Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    options.processes = 2
    results = running.run_all(trials(tmp_path, 2, 3), options)
    assert [one["square"] for one in results] == [4, 9]
    assert os.getpid() not in {one["process"] for one in results}
    assert "4/4" in capfd.readouterr().err


def test_the_processes_of_a_killed_experiment_end_with_it() -> None:
    script = """
import time
from multiprocessing import active_children
from experiments.running import make_pool
pool = make_pool(2)
naps = [pool.submit(time.sleep, 600) for _ in range(2)]
print(*[process.pid for process in active_children()], flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as experiment:
        assert experiment.stdout is not None
        processes = [int(word) for word in experiment.stdout.readline().split()]
        experiment.kill()
    assert len(processes) == 2
    wait_for("they have ended", lambda: not any(map(is_running, processes)), seconds=10)


def test_progress_counts_a_kept_result_as_done(
    tmp_path: Path, options: argparse.Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    running.run_all(trials(tmp_path, 2), options)
    capfd.readouterr()
    running.run_all(trials(tmp_path, 2, 3), options)
    shown = capfd.readouterr().err
    assert "2/4 square-2 done" in shown
    assert "3/4 half of 3" in shown


def test_results_of_other_code_are_not_used(tmp_path: Path, options: argparse.Namespace) -> None:
    running.run_all(trials(tmp_path, 2), options)
    other = running.cache_of(options, code="0" * 64)
    assert other.result("square-2", lambda: {"anew": True}) == {"anew": True}


def test_a_result_is_computed_once_for_each_name(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.result("a", lambda: {"is": 1}) == cache.result("a", lambda: {"is": 2}) == {"is": 1}
    assert cache.result("b", lambda: {"is": 2}) == {"is": 2}


@pytest.mark.parametrize(
    ("given", "seeds", "steps"),
    [([], 10, 1000), (["--quick"], 2, 1000), (["--quick", "--seeds", "5"], 5, 1000)],
)
def test_options_left_out_are_those_of_a_full_or_a_quick_run(
    monkeypatch: pytest.MonkeyPatch, given: list[str], seeds: int, steps: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments/table1.py", *given])
    parser = running.make_parser("What it measures.")
    parser.add_argument("--steps", type=int)
    options = running.parse_options(parser, {"seeds": 10, "steps": 1000}, {"seeds": 2})
    assert (options.seeds, options.steps) == (seeds, steps)
    assert options.json == Path("results/table1.json")


def test_the_figures_are_printed_and_their_details_only_written(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    options.quick, options.steps = True, 300
    running.write_results("table1", {"mean": 0.5}, {"runs": [1, 2]}, options, trials=FINISHED)
    printed = json.loads(capsys.readouterr().out)
    assert printed["command"] == "python -m experiments.table1 --seeds 2 --quick --steps 300"
    assert (printed["mean"], printed["minutes"]) == (0.5, 1.5)
    assert json.loads(options.json.read_text()) == printed | {"runs": [1, 2]}
