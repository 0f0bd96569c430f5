"""An experiment's pieces of work: each done once, side by side or not, and what is finished kept."""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from experiments import running
from experiments.running import Found, Kept, Tell, Work
from tests.instance import alive, wait_for
from worker.learning.datasets.dataset import DatasetUnavailable


def squared(number: int, marks: Path, tell: Tell) -> Found:
    """Work that leaves a mark each time it is done, and of which 13 cannot be done."""
    if number == 13:
        raise ValueError("13 cannot be squared")
    with (marks / str(number)).open("a") as file:
        file.write(".")
    tell(f"half of {number}")
    tell(f"all of {number}")
    return {"square": number**2, "process": os.getpid()}


WORKS = [{"took_seconds": 30.0}, {"took_seconds": 60.0}]


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(json=tmp_path / "figures.json", processes=1, seeds=2, quick=False)


def works(tmp_path: Path, *numbers: int) -> list[Work]:
    return [Work(f"square-{number}", 2, partial(squared, number, tmp_path)) for number in numbers]


def test_what_is_found_comes_in_order_and_is_found_once(tmp_path, options):
    for _ in range(2):
        found = running.all_of(works(tmp_path, 3, 2), options)
        assert [one["square"] for one in found] == [9, 4]
    assert [(tmp_path / name).read_text() for name in ("2", "3")] == [".", "."]


def test_an_experiment_that_fails_goes_on_where_it_was(tmp_path, options):
    with pytest.raises(ValueError, match="13"):
        running.all_of(works(tmp_path, 2, 13, 3), options)
    assert [one["square"] for one in running.all_of(works(tmp_path, 2, 3), options)] == [4, 9]
    assert (tmp_path / "2").read_text() == ".", "what was finished is not done again"
    assert not list(tmp_path.rglob("*.part"))


def without_data(tell: Tell) -> Found:
    raise DatasetUnavailable("MNIST is nowhere")


@pytest.mark.parametrize("processes", [1, 2])
def test_where_a_dataset_is_not_at_hand_a_line_says_so(options, processes):
    options.processes = processes
    with pytest.raises(SystemExit, match=r"^MNIST is nowhere$"):
        running.all_of([Work("in-vain", 1, without_data)], options)


def test_with_several_processes_the_work_is_done_in_others_and_every_step_is_shown(tmp_path, options, capfd):
    options.processes = 2
    found = running.all_of(works(tmp_path, 2, 3), options)
    assert [one["square"] for one in found] == [4, 9]
    assert os.getpid() not in {one["process"] for one in found}
    assert "4/4" in capfd.readouterr().err


def test_the_processes_of_a_killed_experiment_end_with_it():
    script = """
import os, time
from experiments.running import pool
workers = pool(2)
naps = [workers.submit(time.sleep, 600) for _ in range(2)]
print(*workers._processes, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as experiment:
        processes = [int(word) for word in experiment.stdout.readline().split()]
        experiment.kill()
    assert len(processes) == 2
    wait_for("they are gone", lambda: not any(map(alive, processes)), seconds=10)


def test_progress_counts_what_was_kept_as_done(tmp_path, options, capfd):
    running.all_of(works(tmp_path, 2), options)
    capfd.readouterr()
    running.all_of(works(tmp_path, 2, 3), options)
    shown = capfd.readouterr().err
    assert "2/4 square-2 done" in shown
    assert "3/4 half of 3" in shown


def test_what_other_code_found_is_not_gone_on_with(tmp_path, options, monkeypatch):
    running.all_of(works(tmp_path, 2), options)
    monkeypatch.setattr(running, "CODE", "0" * 64)
    assert running.kept_by(options).once("square-2", lambda: {"anew": True}) == {"anew": True}


def test_what_is_kept_under_another_name_is_something_else(tmp_path):
    kept = Kept(tmp_path)
    assert kept.once("a", lambda: {"is": 1}) == kept.once("a", lambda: {"is": 2}) == {"is": 1}
    assert kept.once("b", lambda: {"is": 2}) == {"is": 2}


@pytest.mark.parametrize(
    ("given", "seeds", "steps"),
    [([], 10, 1000), (["--quick"], 2, 1000), (["--quick", "--seeds", "5"], 5, 1000)],
)
def test_options_left_out_are_those_of_a_full_or_a_quick_run(monkeypatch, given, seeds, steps):
    monkeypatch.setattr(sys, "argv", ["experiments/table1.py", *given])
    parser = running.options_of("What it measures.")
    parser.add_argument("--steps", type=int)
    options = running.asked(parser, {"seeds": 10, "steps": 1000}, {"seeds": 2})
    assert (options.seeds, options.steps) == (seeds, steps)
    assert options.json == Path("results/table1.json")


def test_the_figures_are_printed_and_their_details_only_written(options, capsys):
    options.quick, options.steps = True, 300
    running.delivered("table1", {"mean": 0.5}, {"runs": [1, 2]}, options, works=WORKS)
    printed = json.loads(capsys.readouterr().out)
    assert printed["command"] == "python -m experiments.table1 --seeds 2 --quick --steps 300"
    assert (printed["mean"], printed["minutes"]) == (0.5, 1.5)
    assert json.loads(options.json.read_text()) == printed | {"runs": [1, 2]}
