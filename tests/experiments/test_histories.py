"""Random histories: what a pass may do, what is measured after it, and what is made of many."""

import random

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments import critic, history_plots
from experiments.histories import Plan, Setting, drawn_pass, history, params_of
from experiments.history_plots import draw_histories
from experiments.random_passes import summary
from experiments.running import Kept
from tests.experiments.made_up import two_histories
from tests.learning.tiny import TINY
from worker.learning.strategy import find

EVERY = set("0123456789")


@pytest.mark.parametrize("held", [set("3"), set("0123"), EVERY])
def test_a_pass_learns_what_is_missing_or_forgets_some_of_what_is_held(held):
    chance = random.Random(0)
    drawn = [drawn_pass(chance, EVERY, held) for _ in range(200)]
    for operation, chosen in drawn:
        assert chosen
        assert set(chosen) <= (EVERY - held if operation == "learn" else held)
        assert operation == "learn" or set(chosen) != held, "one label stays"
    operations = {operation for operation, _ in drawn}
    assert operations == (
        {"learn"} if len(held) == 1 else {"forget"} if held == EVERY else {"learn", "forget"}
    )


def test_a_quick_history_trains_a_fifth_of_the_steps_and_keeps_other_params():
    learn = find("learn", "replay_ewc")
    full, quick = (params_of(learn, {"expand_share": 0.3}, quick=quick) for quick in (False, True))
    assert quick.schedule.steps == full.schedule.steps // 5
    assert quick.schedule.learning_rate == full.schedule.learning_rate
    assert quick.expand_share == full.expand_share == 0.3


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Two passes over the bundled digits, with tiny networks and few draws."""
    folder = tmp_path_factory.mktemp("kept")
    brief = {"schedule": {"steps": 3}, "fisher_examples": 20}
    plan = Plan("replay_ewc", "surrogate", learn_params=brief, forget_params=brief, quick=True)
    setting = Setting(folder, passes=2, dataset="digits", network=TINY)
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic, "DRAWS", 20)
        patch.setattr("experiments.histories.QUICKER", 300)
        found = history(plan, 1, setting, Kept(folder), told.append)
    return {"history": found, "told": told, "kept": sorted(file.name for file in folder.iterdir())}


def test_every_pass_is_judged_label_by_label_beside_its_simple_model(short):
    assert len(short["told"]) == len(short["history"]["passes"]) == 2
    for row in short["history"]["passes"]:
        assert len(row["by_label"]) == row["held"]
        assert row["simple"]["by_label"].keys() == row["by_label"].keys()
        assert row["simple"]["unfilled"].keys() == set("0123456789")
        assert row["closed"] == pytest.approx(np.mean([one["closed"] for one in row["by_label"].values()]))
        assert row["relapse"] == max(row["gone"].values(), default=None)
        assert not set(row["gone"]) & set(row["by_label"])
    assert short["history"]["simple"] == short["history"]["passes"][-1]["simple"]


def test_a_simple_model_is_kept_by_its_seed_and_labels(short):
    held = {"_".join(sorted(row["by_label"])) for row in short["history"]["passes"]}
    assert short["kept"] == sorted(f"digits-simple-quick-1-{labels}.json" for labels in held)


def test_the_summary_of_two_histories():
    found = summary(two_histories(every=True))
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


def test_with_a_simple_model_after_every_pass_the_gap_is_over_all_of_them():
    every = summary(two_histories(every=True))["every_pass"]
    assert every["open_gap"]["mean"] == pytest.approx(((0 + 0 + 0 + 0.1) / 4 + 0) / 2)
    assert every["coverage_ratio"]["mean"] == pytest.approx(((3 + 8 / 9) / 4 + 1) / 2)
    assert every["simple_seconds"] == 3.0
    assert every["relapse_above_simple"]["mean"] == pytest.approx(0.05), "the other history forgot nothing"
    assert every["relapses_over_2_pp"] == 1.0, "of the forgotten labels there are"
    chance = {"n": 4, "relapses_over_2_pp": 1.0, "another_simple_over_2_pp": 0.0}
    assert every["by_chance"] == chance, "5 pp above its own simple model, which is 1 pp under the other's"
    assert summary(two_histories(every=False))["every_pass"] is None


@pytest.mark.parametrize("every", [True, False], ids=["simple every", "simple last"])
def test_every_picture_of_the_histories_is_drawn(every, tmp_path):
    draw_histories({"surrogate": two_histories(every=every)}, tmp_path)
    names = {
        "accuracy-over-passes.png",
        "labels-against-simple.png",
        "relapse-over-passes.png",
        "size-over-passes.png",
    }
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(plt.imread(tmp_path / name).std() > 0.01 for name in names), "none is blank"
    assert plt.get_fignums() == [], "and none stays in memory"


def test_the_bars_are_as_high_as_the_labels_accuracies():
    _, panel = plt.subplots()
    history_plots._bars(panel, two_histories(every=False)[0])
    heights = [round(bar.get_height(), 6) for bar in panel.patches]
    plt.close("all")
    assert heights == [0.8, 1.0, 0.9, 1.0], "ours, label by label, then simple's"
