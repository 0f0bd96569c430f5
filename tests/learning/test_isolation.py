"""Temporary labels: learnt in isolated networks, dropped exactly, made permanent by a merge (CLPU)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.learning.test_laws import files, likeness
from tests.learning.tiny import NETWORKS, brief, context, examples, labels, quick, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.networks import blank
from worker.learning.slots import LabelConflict, in_slot
from worker.learning.strategy import Examples, Outcome, Strategy, derive_seed, find
from worker.learning.transition import apply_strategy


def applied(
    checkpoint: Checkpoint,
    operation: str,
    strategy: str,
    given: Examples,
    params_of: Callable[[Strategy], dict[str, Any]] = quick,
) -> tuple[Checkpoint, Outcome]:
    """The result and its outcome, with a seed derived as a worker does: from request and main network."""
    chosen = find(operation, strategy)
    isolated = chosen.retention == "temporary" and operation == "learn"
    key = ("temporary",) if isolated else (sorted(given.labels), checkpoint.to_bytes())
    worker = context(derive_seed(operation, *key))
    params = chosen.Params.model_validate(params_of(chosen))
    return apply_strategy(checkpoint, chosen, given, params, worker), worker.outcome


@pytest.fixture
def untrained(network: str) -> Checkpoint:
    return blank(NETWORKS[network], seed=0, pixels=64)


def after(checkpoint: Checkpoint, script: list[str]) -> Checkpoint:
    """R learns labels permanently (briefly), T temporarily, F forgets them: the scripts of the CLPU paper."""
    steps = {
        "R": ("learn", "replay_ewc", examples),
        "T": ("learn", "isolated", examples),
        "F": ("forget", "drop", labels),
    }
    for step in script:
        operation, strategy, given = steps[step[0]]
        checkpoint, _ = applied(checkpoint, operation, strategy, given(*step[1:].split("+")), brief)
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
def test_after_a_temporary_label_is_dropped_every_byte_is_as_if_it_had_never_been_learnt(
    untrained: Checkpoint, script: str
) -> None:
    assert files(after(untrained, script.split())) == files(after(untrained, ["Rrows", "Rcolumns"]))


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_an_isolated_network_is_the_same_whatever_else_is_learnt_before_or_with_it(
    untrained: Checkpoint,
) -> None:
    by_itself = after(untrained, ["Tframe"]).temporary["frame"].to_bytes()
    for script in (["Rrows", "Tframe"], ["Tblot+frame", "Fblot"]):
        assert after(untrained, script).temporary["frame"].to_bytes() == by_itself


def test_a_temporary_label_is_drawn_by_its_own_network(
    two_labels: Checkpoint, with_frame: Checkpoint
) -> None:
    assert with_frame.retained == two_labels.retained
    assert likeness(with_frame, "frame") < 0.08
    assert torch.equal(draw(with_frame, "rows", 5, seed=0), draw(two_labels, "rows", 5, seed=0))


def test_an_isolated_network_draws_the_same_in_another_slot(with_frame: Checkpoint) -> None:
    isolated = with_frame.temporary["frame"]
    moved = in_slot(isolated, 3, 5)
    assert (moved.spec.slots, moved.retained) == (5, {"frame": 3})
    assert torch.equal(draw(moved, "frame", 5, seed=0), draw(isolated, "frame", 5, seed=0))


def test_a_merged_label_is_drawn_by_the_main_network_as_by_its_own_before(with_frame: Checkpoint) -> None:
    merged, outcome = applied(with_frame, "learn", "merge", labels("frame"))
    assert outcome.findings["promoted"] == ["frame"]
    assert (merged.retained, merged.isolated) == ({"rows": 0, "columns": 1, "frame": 2}, ())
    before, now = draw(with_frame, "frame", 200, seed=1), draw(merged, "frame", 200, seed=1)
    assert (before - now).abs().mean() < 0.05


def test_a_temporary_label_that_is_learnt_permanently_loses_its_own_network(with_frame: Checkpoint) -> None:
    learnt, outcome = applied(with_frame, "learn", "replay_ewc", examples("frame"))
    assert (learnt.retained["frame"], learnt.isolated, outcome.findings["promoted"]) == (2, (), ["frame"])


def test_a_forget_of_both_kinds_drops_the_temporary_label_and_unlearns_the_permanent_one(
    with_frame: Checkpoint,
) -> None:
    result, outcome = applied(with_frame, "forget", "surrogate", labels("frame", "rows"))
    assert (result.isolated, result.retained, result.forgotten) == ((), {"columns": 1}, {"rows": 0})
    assert outcome == Outcome("approximate", {"dropped": ["frame"]}), "the guarantee of the permanent label"


def test_dropping_is_exact_only_for_labels_that_the_main_network_never_learnt(two_labels: Checkpoint) -> None:
    forgot, _ = applied(two_labels, "forget", "surrogate", labels("rows"))
    both = after(forgot, ["Trows", "Tframe"])
    _, of_frame = applied(both, "forget", "drop", labels("frame"))
    _, of_rows = applied(both, "forget", "drop", labels("rows"))
    assert of_frame == Outcome("exact", {"dropped": ["frame"]})
    assert of_rows == Outcome("approximate", {"dropped": ["rows"]})


def test_with_no_permanent_label_left_the_main_network_starts_again(with_frame: Checkpoint) -> None:
    forgot, outcome = applied(with_frame, "forget", "surrogate", labels("rows", "columns"))
    assert (forgot.retained, set(forgot.forgotten)) == ({}, {"rows", "columns"})
    assert (outcome.guarantee, forgot.fisher) == ("exact", None)
    assert likeness(forgot, "rows") > 0.2
    again, _ = applied(forgot, "learn", "replay_ewc", examples("rows"))
    assert likeness(again, "rows") < 0.08
    assert likeness(again, "frame") < 0.08


@pytest.mark.parametrize("name", ["rows", "frame"])
def test_a_label_that_is_learnt_already_gets_no_isolated_network(name: str, with_frame: Checkpoint) -> None:
    with pytest.raises(LabelConflict, match=f"already learnt.*{name}"):
        run("learn", "isolated", with_frame, examples(name))


@pytest.mark.parametrize(("operation", "strategy"), [("learn", "merge"), ("forget", "drop")])
def test_a_strategy_for_isolated_networks_refuses_a_permanent_label(
    operation: str, strategy: str, two_labels: Checkpoint
) -> None:
    with pytest.raises(LabelConflict, match=r"not temporary.*rows"):
        run(operation, strategy, two_labels, labels("rows"))


@pytest.mark.parametrize("network", ["mlp"])
def test_a_network_that_forgot_all_of_its_labels_has_the_widths_from_before_the_first(
    untrained: Checkpoint,
) -> None:
    checkpoint = untrained
    for name in ("rows", "columns"):
        checkpoint, _ = applied(checkpoint, "learn", "replay_ewc", examples(name), brief)
    assert checkpoint.widths != untrained.widths
    emptied, outcome = applied(checkpoint, "forget", "surrogate", labels("rows", "columns"), brief)
    assert emptied.widths == untrained.widths
    assert outcome.guarantee == "exact"
    again, _ = applied(emptied, "learn", "replay_ewc", examples("rows"), brief)
    assert again.widths == untrained.widths
