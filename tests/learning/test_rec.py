"""Regularize, Expand and Compress: the larger network that learns, its penalty, and the size it ends with."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.learning.tiny import CPU, context, examples, quick
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.rec import RecParams, consolidation_step, learn, split_tenth
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


def test_the_step_shrinks_rows_beside_their_old_ones_and_empties_added_units(learnt: Checkpoint) -> None:
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    child = grow(target, 0.5, torch.Generator().manual_seed(0))
    network = build(child, CPU)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.1)
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    strength, rate = 2.0, 0.1
    with torch.no_grad():
        params = RecParams(common_subset=strength, new_l1=0)
        consolidation_step(target, child, [2], params)(network, rate)
    for layer in prunable_layers(target):
        name = f"{layer.name}.weight"
        old = len(target.weights[name])
        for row, (was, now) in enumerate(
            zip(before[name].flatten(1), network.get_parameter(name).flatten(1), strict=True)
        ):
            anchor = child.weights[name].flatten(1)[row] if row < old else torch.zeros_like(was)
            assert now.tolist() == pytest.approx(proximal_point(was, anchor, rate * strength), abs=2e-4)
    for name, was in before.items():
        if not (
            name.endswith(".weight")
            and name.rpartition(".")[0] in {one.name for one in prunable_layers(target)}
        ):
            assert torch.equal(was, network.get_parameter(name))


def proximal_point(row: Tensor, anchor: Tensor, strength: float) -> list[float]:
    """The slow way: of a fine grid of multiples of the row, the one with the smallest objective."""
    factors = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    size, beside = row.double().norm(), anchor.double().norm()
    objective = 0.5 * ((1 - factors) * size) ** 2 + strength * (beside**2 + (factors * size) ** 2).sqrt()
    found: list[float] = (factors[objective.argmin()] * row).tolist()
    return found


def test_l1_moves_new_weights_to_zero_and_no_others(learnt: Checkpoint) -> None:
    target = with_slots(learnt, ["frame"], "stripes", "permanent")
    child = grow(target, 0.5, torch.Generator().manual_seed(0))
    network = build(child, CPU)
    params = RecParams(common_subset=0, new_l1=100)
    embeddings = next(tensor for name, tensor in network.named_parameters() if name.endswith(".label"))
    with torch.no_grad():
        embeddings.fill_(0.1)
        consolidation_step(target, child, [2], params)(network, 1.0)
    assert embeddings[:, 0].tolist() == pytest.approx([0.1, 0.1, 0])
    for layer in prunable_layers(target):
        weight, old = network.get_parameter(f"{layer.name}.weight"), len(target.weights[f"{layer.name}.bias"])
        assert torch.equal(weight[:old], child.weights[f"{layer.name}.weight"][:old])
        assert not weight[old:].any()


def test_strong_penalties_leave_exact_zeros_which_the_findings_count(learnt: Checkpoint) -> None:
    found = {}
    for strength in (0.0, 1.0):
        worker = context(0, learnt.spec.architecture)
        given = quick(find("learn", "rec")) | {"mu": 0.0, "common_subset": strength, "new_l1": strength}
        learn(learnt, examples("frame"), RecParams.model_validate(given), worker)
        found[strength] = worker.findings["zeros"]
    assert found[1.0]["added_units"] > 0
    assert found[1.0]["share_of_new_values"] > 0.5
    assert found[0.0] == {"added_units": 0, "share_of_new_values": 0.0}


@pytest.mark.parametrize("name", ["rec", "den"])
def test_an_encoder_that_learns_at_another_rate_is_refused_where_penalties_have_one(name: str) -> None:
    with pytest.raises(ValidationError, match="encoder_rate must be 1"):
        find("learn", name).Params.model_validate({"schedule": {"encoder_rate": 0.5}})
