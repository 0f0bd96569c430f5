"""Random histories: what a pass may do, what is measured after it, and the summary of several."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from experiments.histories import Plan, Setting, make_trial, run_history, sample_pass
from experiments.history_plots import plot_bars, plot_histories
from experiments.random_passes import summarize
from experiments.running import Cache, Result
from experiments.training_setup import params_of
from tests.experiments.invented_results import two_histories
from tests.learning.tiny import TINY
from worker.learning.strategy import find

LABELS = set("0123456789")


@pytest.mark.parametrize("held", [set("3"), set("0123"), LABELS])
def test_a_pass_learns_missing_labels_or_forgets_some_of_those_held(held: set[str]) -> None:
    rng = random.Random(0)
    drawn = [sample_pass(rng, LABELS, held) for _ in range(200)]
    for operation, chosen in drawn:
        assert chosen
        assert set(chosen) <= (LABELS - held if operation == "learn" else held)
        assert operation == "learn" or set(chosen) != held, "one label stays"
    operations = {operation for operation, _ in drawn}
    assert operations == (
        {"learn"} if len(held) == 1 else {"forget"} if held == LABELS else {"learn", "forget"}
    )


def test_a_step_divisor_shortens_the_training_and_keeps_the_other_params() -> None:
    learn = find("learn", "replay_ewc")
    full, quick = (
        params_of(learn, {"expand_share": 0.3}, step_divisor=divisor).model_dump() for divisor in (1, 5)
    )
    assert quick["schedule"]["steps"] == full["schedule"]["steps"] // 5
    assert quick["schedule"]["learning_rate"] == full["schedule"]["learning_rate"]
    assert quick["expand_share"] == full["expand_share"] == 0.3


class ShortHistory(NamedTuple):
    result: Result
    steps: list[str]
    cached: list[str]


@pytest.fixture(scope="module")
def short_history(tmp_path_factory: pytest.TempPathFactory) -> ShortHistory:
    """Two passes over the bundled digits, with tiny networks and few draws."""
    folder = tmp_path_factory.mktemp("cache")
    params = {"schedule": {"steps": 3}, "fisher_examples": 20}
    plan = Plan("replay_ewc", "surrogate", learn_params=params, forget_params=params, step_divisor=300)
    setting = Setting(folder, passes=2, dataset="digits", network=TINY, draws=20)
    steps: list[str] = []
    result = run_history(plan, 1, setting, Cache(folder), steps.append)
    return ShortHistory(result, steps, sorted(file.name for file in folder.iterdir()))


def test_every_pass_is_scored_label_by_label_beside_its_simple_model(short_history: ShortHistory) -> None:
    passes = short_history.result["passes"]
    assert len(short_history.steps) == len(passes) == 2
    for row in passes:
        assert len(row["by_label"]) == row["held"]
        assert row["simple"]["by_label"].keys() == row["by_label"].keys()
        assert row["simple"]["unfilled"].keys() == LABELS
        assert row["closed"] == pytest.approx(np.mean([one["closed"] for one in row["by_label"].values()]))
        assert row["relapse"] == max(row["forgotten_by_label"].values(), default=None)
        assert not set(row["forgotten_by_label"]) & set(row["by_label"])
    assert short_history.result["simple"] == passes[-1]["simple"]


def test_a_history_of_hypernetworks_has_the_same_figures(short_history: ShortHistory, tmp_path: Path) -> None:
    params = {"schedule": {"steps": 3}}
    plan = Plan(
        "hypernetwork", "noise_alignment", learn_params=params, forget_params=params, step_divisor=300
    )
    network = {**TINY, "architecture": "hyper"}
    setting = Setting(tmp_path, passes=2, dataset="digits", network=network, draws=20)
    result = run_history(plan, 1, setting, Cache(tmp_path), lambda step: None)
    expected = short_history.result["passes"]
    for row, other in zip(result["passes"], expected, strict=True):
        assert (row["operation"], row["labels"]) == (other["operation"], other["labels"])
        assert row.keys() == other.keys()
    cached = sorted(file.name for file in tmp_path.iterdir())
    assert cached == simple_names(short_history, "digits-hyper"), "not those of the other architecture"


def test_a_simple_model_is_cached_by_its_seed_and_labels(short_history: ShortHistory) -> None:
    assert short_history.cached == simple_names(short_history, "digits")


def simple_names(history: ShortHistory, start: str) -> list[str]:
    """Return the names of the files in which the scores of simple models are cached."""
    held = {"_".join(sorted(row["by_label"])) for row in history.result["passes"]}
    return sorted(f"{start}-simple-steps-by-300-1-{labels}.json" for labels in held)


def test_the_summary_of_two_histories() -> None:
    found = summarize(two_histories(every=True))
    expected = {
        "mean_retained": 0.9375,
        "spread_over_seeds": 0.0625,
        "worst_pass": 0.8,
        "open_retained": 0.8375,
        "gap_to_simple": 0.05,
        "open_gap_to_simple": 0.05,
        "coverage": 0.46875,
        "coverage_ratio": (0.8 / 0.9 + 1) / 2,
        "first3": 0.95,
        "last3": (0.9 + 0.9 + 0.8 + 3) / 6,
        "worst_relapse": 0.2,
        "seconds_per_pass": 0.95,
        "slowest_pass": 1.0,
        "passes_under_90": 1 / 8,
        "mean_relapse": 0.2,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["last_pass"] == pytest.approx({"labels": 4, "mean_gap": 0.025, "worst_gap": 0.1})


def test_with_a_simple_model_after_every_pass_the_gap_is_over_all_of_them() -> None:
    every = summarize(two_histories(every=True))["every_pass"]
    assert every["open_gap"]["mean"] == pytest.approx(((0 + 0 + 0 + 0.1) / 4 + 0) / 2)
    assert every["coverage_ratio"]["mean"] == pytest.approx(((3 + 8 / 9) / 4 + 1) / 2)
    assert every["simple_seconds"] == 3.0
    assert every["relapse_above_simple"]["mean"] == pytest.approx(0.05), "the other history forgot nothing"
    assert every["relapses_over_2_pp"] == 1.0, "of the forgotten labels there are"
    chance = {"n": 4, "relapses_over_2_pp": 1.0, "another_simple_over_2_pp": 0.0}
    assert every["by_chance"] == chance, "5 pp above its own simple model, which is 1 pp under the other's"
    assert summarize(two_histories(every=False))["every_pass"] is None


@pytest.mark.parametrize("every", [True, False], ids=["simple every", "simple last"])
def test_every_plot_of_the_histories_is_drawn(every: bool, tmp_path: Path) -> None:
    plot_histories({"surrogate": two_histories(every=every)}, tmp_path)
    names = {
        "accuracy-over-passes.png",
        "labels-against-simple.png",
        "relapse-over-passes.png",
        "size-over-passes.png",
    }
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(plt.imread(tmp_path / name).std() > 0.01 for name in names), "none is blank"
    assert plt.get_fignums() == [], "and none stays in memory"


def test_the_bars_are_as_high_as_the_labels_accuracies() -> None:
    _, panel = plt.subplots()
    plot_bars(panel, two_histories(every=False)[0])
    heights = [round(bar.get_height(), 6) for bar in panel.patches if isinstance(bar, Rectangle)]
    plt.close("all")
    assert heights == [0.8, 1.0, 0.9, 1.0], (
        "first those after the passes, label by label, then those of the simple model"
    )


def test_plans_that_differ_in_params_share_no_results() -> None:
    plans = [
        Plan("replay_ewc", "surrogate"),
        Plan("replay_ewc", "surrogate", forget_params={"surrogate": "never_learned"}),
        Plan("replay_ewc", "surrogate", learn_params={"schedule_labels": 5}),
        Plan("replay_ewc", "surrogate", resize="auto"),
        Plan("replay_ewc", "surrogate", step_divisor=2),
    ]
    cache, setting = Cache(Path("unused")), Setting(Path("unused"), 3)
    names = {make_trial(plan, 0, setting, cache).name for plan in plans}
    assert len(names) == len(plans)
