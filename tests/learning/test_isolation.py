"""Temporary labels: learnt apart, dropped exactly, made permanent by a merge (CLPU's four cases)."""

import pytest
import torch

from tests.learning.test_laws import files, likeness
from tests.learning.tiny import NETWORKS, asked, context, examples, quick, run
from worker.learning.changing import change
from worker.learning.drawing import draw
from worker.learning.networks import blank
from worker.learning.slots import LabelConflict, placed
from worker.learning.strategy import Examples, derive_seed, find


def changed(checkpoint, operation, strategy, given: Examples, seed=None, **findings):
    """As a worker does it: chances keyed by what is asked and by the main network."""
    chosen = find(operation, strategy)
    beside = chosen.retention == "temporary" and operation == "learn"
    key = ("temporary",) if beside else (sorted(given.labels), checkpoint.to_bytes())
    worker = context(derive_seed(operation, *key))
    made = change(checkpoint, chosen, given, chosen.Params(**quick(chosen)), worker)
    return made, worker.findings


@pytest.fixture
def untaught(network):
    return blank(NETWORKS[network], seed=0, pixels=64)


def after(checkpoint, script):
    """R learns labels for good, T for a time, F forgets them: the CLPU paper's scripts."""
    steps = {
        "R": ("learn", "replay_ewc", examples),
        "T": ("learn", "isolated", examples),
        "F": ("forget", "drop", asked),
    }
    for step in script:
        operation, strategy, given = steps[step[0]]
        checkpoint, _ = changed(checkpoint, operation, strategy, given(*step[1:].split("+")))
    return checkpoint


@pytest.mark.parametrize(
    ("network", "script"),
    [
        ("mlp", "Rrows Tframe Fframe Rcolumns"),
        ("mlp", "Tframe Rrows Fframe Rcolumns"),
        ("mlp", "Rrows Rcolumns Tframe Fframe Tframe Fframe"),
        ("mlp", "Rrows Tframe Tblot Fframe Rcolumns Fblot"),
        ("mlp", "Rrows Tframe+blot Fframe Rcolumns Fblot"),
        ("conv", "Rrows Tframe Fframe Rcolumns"),
    ],
)
def test_after_a_temporary_label_is_dropped_every_byte_is_as_if_it_had_never_been(untaught, script):
    assert files(after(untaught, script.split())) == files(after(untaught, ["Rrows", "Rcolumns"]))


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_an_isolated_network_is_the_same_whatever_the_main_one_holds_and_is_learnt_with_it(untaught):
    alone = after(untaught, ["Tframe"]).temporary["frame"].to_bytes()
    for script in (["Rrows", "Tframe"], ["Tblot+frame", "Fblot"]):
        assert after(untaught, script).temporary["frame"].to_bytes() == alone


def test_a_temporary_label_is_drawn_by_its_own_network(two_labels, with_frame):
    assert with_frame.held == two_labels.held
    assert likeness(with_frame, "frame") < 0.08
    assert torch.equal(draw(with_frame, "rows", 5, seed=0), draw(two_labels, "rows", 5, seed=0))


def test_placed_in_other_slots_an_isolated_network_draws_the_same(with_frame):
    isolated = with_frame.temporary["frame"]
    moved = placed(isolated, 3, 5)
    assert (moved.spec.slots, moved.held) == (5, {"frame": 3})
    assert torch.equal(draw(moved, "frame", 5, seed=0), draw(isolated, "frame", 5, seed=0))


def test_a_merged_label_is_the_main_networks_and_matches_what_its_own_drew(with_frame):
    merged, findings = changed(with_frame, "learn", "merge", asked("frame"))
    assert findings["promoted"] == ["frame"]
    assert (merged.held, merged.isolated) == ({"rows": 0, "columns": 1, "frame": 2}, ())
    before, now = draw(with_frame, "frame", 200, seed=1), draw(merged, "frame", 200, seed=1)
    assert (before - now).abs().mean() < 0.05


def test_a_temporary_label_learnt_for_good_from_its_images_leaves_its_own_network(with_frame):
    learnt, findings = changed(with_frame, "learn", "replay_ewc", examples("frame"))
    assert (learnt.held["frame"], learnt.isolated, findings["promoted"]) == (2, (), ["frame"])


def test_forgetting_both_kinds_at_once_drops_the_one_and_unlearns_the_other(with_frame):
    forgot, findings = changed(with_frame, "forget", "surrogate", asked("frame", "rows"))
    assert (forgot.isolated, forgot.held, forgot.forgotten) == ((), {"columns": 1}, {"rows": 0})
    assert findings == {"dropped": ["frame"]}, "the guarantee is that of the weaker part: none"


def test_dropping_is_exact_only_of_what_the_main_network_never_learned(two_labels):
    forgot, _ = changed(two_labels, "forget", "surrogate", asked("rows"))
    both = after(forgot, ["Trows", "Tframe"])
    _, of_frame = changed(both, "forget", "drop", asked("frame"))
    _, of_rows = changed(both, "forget", "drop", asked("rows"))
    assert of_frame == {"dropped": ["frame"], "guarantee": "exact"}
    assert of_rows == {"dropped": ["rows"]}


def test_with_no_permanent_label_left_the_main_network_starts_again(with_frame):
    forgot, findings = changed(with_frame, "forget", "surrogate", asked("rows", "columns"))
    assert (forgot.held, set(forgot.forgotten)) == ({}, {"rows", "columns"})
    assert (findings["guarantee"], forgot.fisher) == ("exact", None)
    assert likeness(forgot, "rows") > 0.2
    again, _ = changed(forgot, "learn", "replay_ewc", examples("rows"))
    assert likeness(again, "rows") < 0.08
    assert likeness(again, "frame") < 0.08


@pytest.mark.parametrize("name", ["rows", "frame"])
def test_a_label_that_is_learnt_already_gets_no_network_of_its_own(name, with_frame):
    with pytest.raises(LabelConflict, match=f"already learnt.*{name}"):
        run("learn", "isolated", with_frame, examples(name))


@pytest.mark.parametrize(("operation", "strategy"), [("learn", "merge"), ("forget", "drop")])
def test_what_works_on_isolated_networks_refuses_a_permanent_label(operation, strategy, two_labels):
    with pytest.raises(LabelConflict, match=r"not temporary.*rows"):
        run(operation, strategy, two_labels, asked("rows"))
