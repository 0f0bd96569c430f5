"""Dynamically Expandable Networks: what may change, what is added, what is split."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.learning.tiny import CPU, QUICK, context, examples, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.den import (
    DenParams,
    NewLabels,
    learn,
    reached_units,
    remove_zero_units,
    restore_incoming,
    split_drifted,
)
from worker.learning.drawing import draw
from worker.learning.networks import blank, build, structure_of
from worker.learning.networks.network import Network, PrunableLayer
from worker.learning.slots import with_slots
from worker.learning.training import Parts, Schedule, fit, rate_share
from worker.learning.units.resize import duplicate, grow, grow_by, prunable_layers, width
from worker.learning.units.sparsity import clear_small_embeddings, group_lasso, soft_threshold
from worker.learning.units.weight_masks import weights_between, weights_touching


@pytest.fixture
def learnt_with_columns(learnt: Checkpoint) -> Checkpoint:
    """A network in which labels enter some units directly."""
    if learnt.spec.architecture == "hyper":
        pytest.skip("a hypernetwork's embeddings reach every unit: test_hypernetworks.py")
    return learnt


def learnt_by(checkpoint: Checkpoint, **params: Any) -> tuple[Checkpoint, dict[str, dict[str, int]]]:
    worker = context(0, checkpoint.spec.architecture)
    given = DenParams.model_validate({"schedule": QUICK, "fisher_examples": 100, "probe_steps": 30, **params})
    after = learn(checkpoint, examples("frame"), given, worker)
    found: dict[str, dict[str, int]] = worker.findings["subnetwork"]
    return after, found


def first_units(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The first unit of every hidden layer."""
    return {layer.name: torch.arange(width(checkpoint, layer)) == 0 for layer in prunable_layers(checkpoint)}


def test_a_unit_is_reached_from_the_label_columns_through_large_weights(two_labels: Checkpoint) -> None:
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
    subnetwork = weights_between(network, two_labels, reached, [2])
    assert subnetwork["decoder.1.weight"].nonzero().tolist() == [[7, 5]]
    assert subnetwork["decoder.1.bias"].nonzero().flatten().tolist() == [7]
    assert subnetwork["decoder.0.label"].nonzero().tolist() == [[2, 5]]
    assert subnetwork["decoder.2.weight"].nonzero()[:, 1].unique().tolist() == [7]


def test_a_layer_with_a_part_called_scale_is_not_taken_for_one_of_a_hypernetwork(
    two_labels: Checkpoint,
) -> None:
    network = build(two_labels, CPU)
    network.get_submodule("decoder.1").scale = torch.nn.Linear(1, 1)
    reached = reached_units(network, two_labels, [0], reach=1e9)
    assert not reached["decoder.1"].any()


def test_where_labels_enter_the_fewest_units_that_hold_the_share_are_reached(
    learnt_with_columns: Checkpoint,
) -> None:
    target = with_slots(learnt_with_columns, ["frame"], "stripes", "permanent")
    network = build(target, CPU)
    for layer in prunable_layers(learnt_with_columns):
        if f"{layer.name}.label" in dict(network.named_parameters()):
            of_unit = torch.zeros(width(learnt_with_columns, layer), layer.rows_per_unit)
            of_unit[:4] = torch.tensor([3.0, 1.0, 2.0, 0.5])[:, None]  # squares: 9, 1, 4, 0.25 of 14.25
            network.get_parameter(f"{layer.name}.label").data[2] = of_unit.flatten()
    untouched = network.get_parameter("encoder.0.label")[:2].clone()
    for share, expected in ((0.6, [0]), (0.9, [0, 2]), (0.95, [0, 1, 2]), (1.0, [0, 1, 2, 3])):
        found = build(target, CPU)
        found.load_state_dict(network.state_dict())
        clear_small_embeddings(found, learnt_with_columns, [2], share)
        reached = reached_units(found, learnt_with_columns, [2], reach=1e9)
        for layer in prunable_layers(learnt_with_columns):
            if f"{layer.name}.label" in dict(network.named_parameters()):
                assert reached[layer.name].nonzero().flatten().tolist() == expected
        assert torch.equal(found.get_parameter("encoder.0.label")[:2], untouched)


def test_with_nothing_to_add_or_to_split_only_the_subnetwork_changes(learnt_with_columns: Checkpoint) -> None:
    after, found = learnt_by(learnt_with_columns, added_units=0, drift=100, column_l1=1)
    assert after.spec.encoder_widths == learnt_with_columns.spec.encoder_widths
    for layer in prunable_layers(learnt_with_columns):
        old, new = (
            one.weights[f"{layer.name}.bias"].view(-1, layer.rows_per_unit)
            for one in (learnt_with_columns, after)
        )
        moved = (old != new).any(dim=1)
        assert int(moved.sum()) <= found["reached"][layer.name] < width(learnt_with_columns, layer)


def test_units_are_added_where_the_loss_stays_high_and_only_those_that_are_needed(
    learnt_with_columns: Checkpoint,
) -> None:
    some, found = learnt_by(
        learnt_with_columns, tolerance=0, column_l1=10, added_units=4, group_lasso=0.0, drift=100
    )
    assert set(found["added"].values()) == {4}
    assert some.parameters > learnt_with_columns.parameters
    none, found = learnt_by(
        learnt_with_columns, tolerance=0, column_l1=10, added_units=4, group_lasso=100, drift=100
    )
    assert set(found["added"].values()) == {0}, "a strong penalty sets all of them to zero"
    assert none.widths == learnt_with_columns.widths


def test_units_that_drift_are_split_into_an_old_and_a_new_one(learnt: Checkpoint) -> None:
    after, found = learnt_by(learnt, drift=0.01, added_units=0, column_l1=0)
    assert sum(found["split"].values()) > 0
    for layer in prunable_layers(learnt):
        assert width(after, layer) == width(learnt, layer) + found["split"][layer.name]


def test_a_split_puts_the_original_back_and_keeps_a_copy_that_is_not_used_yet(learnt: Checkpoint) -> None:
    moved = {name: tensor + 1 for name, tensor in learnt.weights.items()}
    trained = Checkpoint(learnt.spec, moved, learnt.labels)
    units = {layer.name: torch.tensor([1]) for layer in prunable_layers(learnt)}
    doubled = restore_incoming(duplicate(trained, units), learnt, units)
    for layer in prunable_layers(learnt):
        rows = slice(layer.rows_per_unit, 2 * layer.rows_per_unit)
        old, new = (one.weights[f"{layer.name}.weight"] for one in (learnt, doubled))
        assert torch.equal(new[rows, : old.shape[1]], old[rows])
        assert torch.equal(new[-layer.rows_per_unit :, : old.shape[1]], moved[f"{layer.name}.weight"][rows])
        assert (doubled.weights[f"{layer.following}.weight"][:, -layer.columns_per_unit :] == 0).all()


def test_proximal_steps_shrink_towards_zero_and_stop_there(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    every = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in network.named_parameters()}
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        soft_threshold(every, 0.4)(network, 0.25)
    for name, tensor in network.named_parameters():
        expected = before[name].sign() * (before[name].abs() - 0.1).clamp(min=0)
        assert torch.allclose(tensor, expected)


def test_a_training_at_twice_the_rate_shrinks_weights_without_gradient_twice_as_much(
    two_labels: Checkpoint,
) -> None:
    schedule, taken = Schedule(steps=20, learning_rate=1e-4), []
    for given in (schedule, schedule.model_copy(update={"learning_rate": 2e-4})):
        network = build(two_labels, CPU)
        every = {name: torch.ones_like(one, dtype=torch.bool) for name, one in network.named_parameters()}
        step = partial(soft_threshold(every, 0.5), network)
        weight = network.get_parameter("decoder.2.weight").data.fill_(1.0)
        zero = partial(zero_loss, network)
        fit(network, zero, itertools.repeat([]), given, context(), phase="shrinking", proximal=step)
        taken.append(1 - weight.mean().item())
    assert taken[0] == pytest.approx(
        0.5 * sum(1e-4 * rate_share("one_cycle", n / 20) for n in range(20)), rel=1e-2
    )
    assert taken[1] == pytest.approx(2 * taken[0], rel=1e-2)


def zero_loss(network: Network, parts: Parts, progress: float) -> Tensor:
    return torch.stack([0 * tensor.sum() for tensor in network.parameters()]).sum()


@pytest.mark.parametrize("strength", [0.1, 1e6])
def test_group_lasso_shortens_all_that_enters_a_unit_as_one_vector(
    learnt: Checkpoint, strength: float
) -> None:
    network = build(learnt, CPU)
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        group_lasso(learnt, first_units(learnt), 4 * strength)(network, 0.25)
    after = dict(network.named_parameters())
    for layer in prunable_layers(learnt):
        old, new = (entering(tensors, layer) for tensors in (before, after))
        assert torch.equal(new[1:], old[1:])
        assert new[0].norm().item() == pytest.approx(max(0.0, (old[0].norm() - strength).item()), abs=1e-5)
        assert torch.allclose(new[0] * old[0].norm(), old[0] * new[0].norm(), atol=1e-5), "another direction"


def entering(tensors: Mapping[str, Tensor], layer: PrunableLayer) -> Tensor:
    """All that enters each unit, [units, ...]: every parameter of its layer."""
    of_layer = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{layer.name}.")}
    parts = [tensor.T if name.endswith(".label") else tensor for name, tensor in of_layer.items()]
    units = len(tensors[f"{layer.name}.bias"]) // layer.rows_per_unit
    return torch.cat([part.detach().reshape(units, -1) for part in parts], dim=1)


def test_an_added_unit_is_removed_only_if_nothing_enters_it_and_then_no_draw_changes(
    learnt: Checkpoint,
) -> None:
    """Of three units a layer, one has a bias but no weights, one has weights, one has neither."""
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    larger = grow_by(target, dict.fromkeys(prunable_layers(target), 3), torch.Generator().manual_seed(0))
    weights = {name: tensor.clone() for name, tensor in larger.weights.items()}
    new, generator = {}, torch.Generator().manual_seed(1)
    for layer in prunable_layers(larger):
        old = width(target, layer)
        new[layer.name] = torch.arange(old + 3) >= old
        biased, _, zero = (
            slice(unit * layer.rows_per_unit, (unit + 1) * layer.rows_per_unit)
            for unit in range(old, old + 3)
        )
        weights[f"{layer.name}.weight"][biased] = 0
        weights[f"{layer.name}.weight"][zero] = 0
        weights[f"{layer.name}.bias"][biased] = 1
        outgoing = weights[f"{layer.following}.weight"][:, old * layer.columns_per_unit :]
        outgoing.normal_(0, 0.1, generator=generator)
    connected = replace(larger, weights=weights)
    after, stayed = remove_zero_units(connected, new)
    assert set(stayed.values()) == {2}
    for label in ("rows", "columns", "frame"):
        assert torch.allclose(draw(after, label, 20, seed=0), draw(connected, label, 20, seed=0), atol=1e-5)


def test_a_unit_that_never_moved_is_not_split_because_the_layer_before_it_grew(learnt: Checkpoint) -> None:
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    larger = grow(target, 0.5, torch.Generator().manual_seed(0))
    every = {
        layer.name: torch.ones(width(learnt, layer), dtype=torch.bool) for layer in prunable_layers(learnt)
    }
    task = NewLabels(target, [0, 1], examples("frame"), DenParams(drift=0), context())
    after, found = split_drifted(larger, target, every, task)
    assert set(found.values()) == {0}
    assert after is larger


def test_masks_are_on_the_networks_device_though_the_units_are_counted_on_the_cpu(learnt: Checkpoint) -> None:
    """The meta device computes nothing, but refuses as a GPU does to mix with the CPU."""
    elsewhere, first = structure_of(learnt.spec), first_units(learnt)
    found = weights_touching(elsewhere, learnt, first, [1])
    assert {tensor.device.type for tensor in found.values()} == {"meta"}
    with torch.no_grad():
        soft_threshold(found, 0.1)(elsewhere, 1.0)
        group_lasso(learnt, first, 0.1)(elsewhere, 1.0)


def test_what_belongs_to_a_unit_is_its_weights_both_ways_its_bias_and_its_new_columns(
    learnt: Checkpoint,
) -> None:
    network = build(learnt, CPU)
    found = weights_touching(network, learnt, first_units(learnt), [1])
    for layer in prunable_layers(learnt):
        columns = {one.following: one.columns_per_unit for one in prunable_layers(learnt)}.get(layer.name, 0)
        weight = found[f"{layer.name}.weight"]
        assert weight[: layer.rows_per_unit].all()
        assert weight[:, :columns].all()
        assert not weight[layer.rows_per_unit :, columns:].any()
        assert found[f"{layer.name}.bias"].nonzero().flatten().tolist() == list(range(layer.rows_per_unit))
        for name in found:
            if name.startswith(f"{layer.name}.") and not name.endswith(".label"):
                assert found[name][: layer.rows_per_unit].all()
        if f"{layer.name}.label" in found:
            assert found[f"{layer.name}.label"].nonzero().tolist() == [
                [1, row] for row in range(layer.rows_per_unit)
            ]


def test_as_many_units_are_added_and_split_as_a_layer_has_room_for() -> None:
    start = blank({"encoder_widths": (4094,), "decoder_widths": (8,), "latent": 2}, seed=0, pixels=64)
    brief: dict[str, Any] = {"schedule": {"steps": 20}, "fisher_examples": 10}
    full = run("learn", "replay_ewc", start, examples("rows"), **brief)
    forced = {"tolerance": 0, "column_l1": 0, "drift": 0, "added_units": 5, "probe_steps": 2}
    after = run("learn", "den", full, examples("frame"), **brief, **forced)
    assert 4094 <= after.spec.encoder_widths[0] <= 4096
    assert after.spec.decoder_widths[0] > 8
