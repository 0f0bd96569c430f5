"""Regularize, expand and compress: which child is taught, what holds it, and the size it ends with."""

import pytest
import torch

from tests.learning.tiny import context, examples, quick
from worker.learning.continual.rec import RecParams, consolidation, learn, set_apart
from worker.learning.networks import build
from worker.learning.resizing.units import grow, seams_of
from worker.learning.slots import with_slots
from worker.learning.strategy import find


def test_the_network_learns_in_a_larger_child_and_ends_at_the_size_it_had(learnt):
    worker = context(0, learnt.spec.architecture)
    params = RecParams(**quick(find("learn", "rec")) | {"mu": 0.0})
    after = learn(learnt, examples("frame"), params, worker)
    assert worker.findings["search"]["chosen"] > 0, "parameters are free here"
    assert after.widths == learnt.widths
    assert set(after.held) == {"rows", "columns", "frame"}


def test_the_children_are_compared_on_images_they_have_not_learnt_from():
    shown, validated = set_apart({"many": torch.arange(40).view(20, 2), "one": torch.arange(2).view(1, 2)})
    assert {name: len(one) for name, one in shown.items()} == {"many": 18, "one": 1}
    assert {name: len(one) for name, one in validated.items()} == {"many": 2, "one": 1}
    assert not set(shown["many"].flatten().tolist()) & set(validated["many"].flatten().tolist())


def test_the_regulariser_groups_old_and_new_rows_and_sums_what_is_new(learnt):
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    child = grow(target, 0.5, torch.Generator().manual_seed(0))
    network = build(child, torch.device("cpu"))
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.1)
    found = consolidation(target, child, [2], RecParams(common_subset=1.0, new_l1=0.0))(network)
    new = consolidation(target, child, [2], RecParams(common_subset=0.0, new_l1=1.0))(network)
    parameters, expected, expected_new = dict(network.named_parameters()), 0.0, 0.0
    for seam in seams_of(target):
        name = f"{seam.layer}.weight"
        rows = len(target.weights[name])
        for row in range(rows):
            both = [*child.weights[name][row].flatten().tolist(), *parameters[name][row].flatten().tolist()]
            expected += sum(value**2 for value in both) ** 0.5
        expected_new += parameters[name][rows:].abs().sum().item()
    for name in ("encoder.0.label", "decoder.0.label"):
        expected_new += parameters[name][2].abs().sum().item()
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert new.item() == pytest.approx(expected_new, rel=1e-4)
