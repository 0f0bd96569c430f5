"""Regularize, Expand and Compress: the larger network that learns, its penalty, and the size it ends with."""

import pytest
import torch

from tests.learning.tiny import CPU, context, examples, quick
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.rec import RecParams, consolidation_penalty, learn, split_tenth
from worker.learning.networks import build
from worker.learning.slots import with_slots
from worker.learning.strategy import find
from worker.learning.units.resize import grow, prunable_layers


def test_the_network_learns_in_a_larger_child_and_ends_at_the_size_it_had(learnt: Checkpoint) -> None:
    worker = context(0, learnt.spec.architecture)
    params = RecParams.model_validate(quick(find("learn", "rec")) | {"mu": 0.0})
    after = learn(learnt, examples("frame"), params, worker)
    assert worker.findings["search"]["chosen"] > 0, "parameters are free here"
    assert after.widths == learnt.widths
    assert set(after.retained) == {"rows", "columns", "frame"}


def test_the_children_are_compared_on_images_they_have_not_learnt_from() -> None:
    train, validation = split_tenth({"many": torch.arange(40).view(20, 2), "one": torch.arange(2).view(1, 2)})
    assert {name: len(one) for name, one in train.items()} == {"many": 18, "one": 1}
    assert {name: len(one) for name, one in validation.items()} == {"many": 2, "one": 1}
    assert not set(train["many"].flatten().tolist()) & set(validation["many"].flatten().tolist())


def test_the_penalty_groups_old_and_new_rows_and_sums_new_weights(learnt: Checkpoint) -> None:
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    child = grow(target, 0.5, torch.Generator().manual_seed(0))
    network = build(child, CPU)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.1)
    grouped = RecParams(common_subset=1.0, new_l1=0.0)
    summed = RecParams(common_subset=0.0, new_l1=1.0)
    parameters, expected, expected_new = dict(network.named_parameters()), 0.0, 0.0
    for layer in prunable_layers(target):
        name = f"{layer.name}.weight"
        rows = len(target.weights[name])
        for row in range(rows):
            both = [*child.weights[name][row].flatten().tolist(), *parameters[name][row].flatten().tolist()]
            expected += sum(value**2 for value in both) ** 0.5
        expected_new += parameters[name][rows:].abs().sum().item()
    for name in ("encoder.0.label", "decoder.0.label"):
        expected_new += parameters[name][2].abs().sum().item()
    found, new = (consolidation_penalty(target, child, [2], one)(network) for one in (grouped, summed))
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert new.item() == pytest.approx(expected_new, rel=1e-4)
