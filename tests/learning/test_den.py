"""Dynamically expandable networks: what may move, what is added, what is split."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.learning.tiny import QUICK, context, examples, run
from worker.learning.continual.den import (
    DenParams,
    Lesson,
    group_lasso,
    learn,
    movable,
    put_back,
    reached_units,
    soft_threshold,
    split,
    touching,
    without_silent,
)
from worker.learning.drawing import draw
from worker.learning.networks import blank, build, outline
from worker.learning.resizing.units import duplicate, grow, grow_by, seams_of, width
from worker.learning.slots import with_slots
from worker.learning.training import Schedule, fit, one_cycle

CPU = torch.device("cpu")


def learnt_by(checkpoint, **params):
    worker = context(0, checkpoint.spec.architecture)
    given = DenParams(schedule=QUICK, fisher_examples=100, probe_steps=30, **params)
    return learn(checkpoint, examples("frame"), given, worker), worker.findings["subnetwork"]


def test_a_unit_is_reached_from_the_label_columns_through_large_weights(two_labels):
    network = build(with_slots(two_labels, ["frame"], "stripes", "permanent"), CPU)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        parameters["decoder.0.label"][2, 5] = 0.1
        parameters["decoder.1.weight"].fill_(0.01)
        parameters["decoder.1.weight"][7, 5] = 10
        parameters["decoder.1.weight"][9, 6] = 10
    reached = reached_units(network, two_labels, [2], reach=3.0)
    assert reached["decoder.0"].nonzero().flatten().tolist() == [5]
    assert reached["decoder.1"].nonzero().flatten().tolist() == [7]
    assert not reached["encoder.0"].any()
    moving = movable(network, two_labels, reached, [2])
    assert moving["decoder.1.weight"].nonzero().tolist() == [[7, 5]]
    assert moving["decoder.1.bias"].nonzero().flatten().tolist() == [7]
    assert moving["decoder.0.label"].nonzero().tolist() == [[2, 5]]
    assert moving["decoder.2.weight"].nonzero()[:, 1].unique().tolist() == [7]


def test_without_room_to_add_or_to_split_only_the_subnetwork_moves(learnt):
    after, found = learnt_by(learnt, added_units=0, drift=100, column_l1=10)
    assert after.spec.encoder_widths == learnt.spec.encoder_widths
    for seam in seams_of(learnt):
        was, now = (one.weights[f"{seam.layer}.bias"].view(-1, seam.rows) for one in (learnt, after))
        moved = (was != now).any(dim=1)
        assert int(moved.sum()) <= found["reached"][seam.layer] < width(learnt, seam)


def test_units_are_added_where_the_loss_stays_and_only_those_that_are_needed(learnt):
    some, found = learnt_by(learnt, tolerance=0, column_l1=100, added_units=4, group_lasso=0.0, drift=100)
    assert set(found["added"].values()) == {4}
    assert some.parameters > learnt.parameters
    none, found = learnt_by(learnt, tolerance=0, column_l1=100, added_units=4, group_lasso=100, drift=100)
    assert set(found["added"].values()) == {0}, "a strong penalty leaves no unit standing"
    assert none.widths == learnt.widths


def test_units_that_drift_are_split_into_what_they_were_and_what_they_became(learnt):
    after, found = learnt_by(learnt, drift=0.01, added_units=0, column_l1=0)
    assert sum(found["split"].values()) > 0
    for seam in seams_of(learnt):
        assert width(after, seam) == width(learnt, seam) + found["split"][seam.layer]


def test_a_split_puts_the_original_back_and_keeps_a_silent_copy(learnt):
    moved = {name: tensor + 1 for name, tensor in learnt.weights.items()}
    trained = type(learnt)(learnt.spec, moved, learnt.labels)
    units = {seam.layer: torch.tensor([1]) for seam in seams_of(learnt)}
    doubled = put_back(duplicate(trained, units), learnt, units)
    for seam in seams_of(learnt):
        rows = slice(seam.rows, 2 * seam.rows)
        was, now = (one.weights[f"{seam.layer}.weight"] for one in (learnt, doubled))
        assert torch.equal(now[rows, : was.shape[1]], was[rows])
        assert torch.equal(now[-seam.rows :, : was.shape[1]], moved[f"{seam.layer}.weight"][rows])
        assert (doubled.weights[f"{seam.following}.weight"][:, -seam.columns :] == 0).all()


def test_proximal_steps_shrink_towards_zero_and_stop_there(two_labels):
    network = build(two_labels, CPU)
    moving = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in network.named_parameters()}
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        soft_threshold(moving, 0.4)(network, 0.25)
    for name, tensor in network.named_parameters():
        expected = before[name].sign() * (before[name].abs() - 0.1).clamp(min=0)
        assert torch.allclose(tensor, expected)


def test_a_training_at_twice_the_rate_takes_twice_as_much_off_what_nothing_pulls(two_labels):
    schedule, taken = Schedule(steps=20, learning_rate=1e-4), []
    for given in (schedule, schedule.model_copy(update={"learning_rate": 2e-4})):
        network = build(two_labels, CPU)
        every = {name: torch.ones_like(one, dtype=torch.bool) for name, one in network.named_parameters()}
        step = partial(soft_threshold(every, 0.5), network)
        weight = network.get_parameter("decoder.2.weight").data.fill_(1.0)
        nothing = partial(no_pull, network)
        fit(network, nothing, itertools.repeat([]), given, context(), phase="shrinking", proximal=step)
        taken.append(1 - weight.mean().item())
    assert taken[0] == pytest.approx(0.5 * sum(1e-4 * one_cycle(n / 20) for n in range(20)), rel=1e-2)
    assert taken[1] == pytest.approx(2 * taken[0], rel=1e-2)


def no_pull(network, parts, done):
    return sum(0 * tensor.sum() for tensor in network.parameters())


@pytest.mark.parametrize("strength", [0.1, 1e6])
def test_group_lasso_shortens_all_that_enters_a_unit_as_one_vector(learnt, strength):
    network = build(learnt, CPU)
    first = {seam.layer: torch.arange(width(learnt, seam)) == 0 for seam in seams_of(learnt)}
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        group_lasso(learnt, first, 4 * strength)(network, 0.25)
    after = dict(network.named_parameters())
    for seam in seams_of(learnt):
        was, now = (entering(tensors, seam) for tensors in (before, after))
        assert torch.equal(now[1:], was[1:])
        assert now[0].norm().item() == pytest.approx(max(0.0, (was[0].norm() - strength).item()), abs=1e-5)
        assert torch.allclose(now[0] * was[0].norm(), was[0] * now[0].norm(), atol=1e-5), "another direction"


def test_an_added_unit_is_dropped_only_if_it_says_nothing_and_then_no_draw_changes(learnt):
    """Of three units a layer, one without weights but with a bias, one with weights, one with neither."""
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    larger = grow_by(target, dict.fromkeys(seams_of(target), 3), torch.Generator().manual_seed(0))
    weights = {name: tensor.clone() for name, tensor in larger.weights.items()}
    fresh, generator = {}, torch.Generator().manual_seed(1)
    for seam in seams_of(larger):
        old = width(target, seam)
        fresh[seam.layer] = torch.arange(old + 3) >= old
        biased, _, silent = (slice(unit * seam.rows, (unit + 1) * seam.rows) for unit in range(old, old + 3))
        weights[f"{seam.layer}.weight"][biased] = 0
        weights[f"{seam.layer}.weight"][silent] = 0
        weights[f"{seam.layer}.bias"][biased] = 1
        outgoing = weights[f"{seam.following}.weight"][:, old * seam.columns :]
        outgoing.normal_(0, 0.1, generator=generator)
    speaking = replace(larger, weights=weights)
    after, stayed = without_silent(speaking, fresh)
    assert set(stayed.values()) == {2}
    for label in ("rows", "columns", "frame"):
        assert torch.allclose(draw(after, label, 20, seed=0), draw(speaking, label, 20, seed=0), atol=1e-5)


def entering(tensors, seam):
    """All that enters each unit, [units, ...]: weights, bias, label columns."""
    parts = [tensors[f"{seam.layer}.weight"], tensors[f"{seam.layer}.bias"]]
    if f"{seam.layer}.label" in tensors:
        parts.append(tensors[f"{seam.layer}.label"].T)
    units = len(parts[1]) // seam.rows
    return torch.cat([part.detach().reshape(units, -1) for part in parts], dim=1)


def test_a_unit_that_never_moved_is_not_split_because_the_layer_before_it_grew(learnt):
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    grown = grow(target, 0.5, torch.Generator().manual_seed(0))
    every = {seam.layer: torch.ones(width(learnt, seam), dtype=torch.bool) for seam in seams_of(learnt)}
    lesson = Lesson(target, [0, 1], examples("frame"), DenParams(drift=0), context())
    after, found = split(grown, target, every, lesson)
    assert set(found.values()) == {0}
    assert after is grown


def test_what_may_move_is_where_the_network_is_though_the_units_are_counted_on_the_cpu(learnt):
    """The meta device computes nothing, but refuses as a GPU does to mix with the CPU."""
    elsewhere = outline(learnt.spec)
    first = {seam.layer: torch.arange(width(learnt, seam)) == 0 for seam in seams_of(learnt)}
    found = touching(elsewhere, learnt, first, [1])
    assert {tensor.device.type for tensor in found.values()} == {"meta"}
    with torch.no_grad():
        soft_threshold(found, 0.1)(elsewhere, 1.0)
        group_lasso(learnt, first, 0.1)(elsewhere, 1.0)


def test_what_belongs_to_a_unit_is_its_weights_both_ways_its_bias_and_its_new_columns(learnt):
    network = build(learnt, CPU)
    first = {seam.layer: torch.arange(width(learnt, seam)) == 0 for seam in seams_of(learnt)}
    found = touching(network, learnt, first, [1])
    for seam in seams_of(learnt):
        entering = {one.following: one.columns for one in seams_of(learnt)}.get(seam.layer, 0)
        weight = found[f"{seam.layer}.weight"]
        assert weight[: seam.rows].all()
        assert weight[:, :entering].all()
        assert not weight[seam.rows :, entering:].any()
        assert found[f"{seam.layer}.bias"].nonzero().flatten().tolist() == list(range(seam.rows))
        if f"{seam.layer}.label" in found:
            assert found[f"{seam.layer}.label"].nonzero().tolist() == [[1, row] for row in range(seam.rows)]


def test_as_many_units_are_added_and_split_as_a_layer_has_room_for():
    start = blank({"encoder_widths": (4094,), "decoder_widths": (8,), "latent": 2}, seed=0, pixels=64)
    brief = {"schedule": {"steps": 20}, "fisher_examples": 10}
    full = run("learn", "replay_ewc", start, examples("rows"), **brief)
    forced = {"tolerance": 0, "column_l1": 0, "drift": 0, "added_units": 5, "probe_steps": 2}
    after = run("learn", "den", full, examples("frame"), **brief, **forced)
    assert 4094 <= after.spec.encoder_widths[0] <= 4096
    assert after.spec.decoder_widths[0] > 8
