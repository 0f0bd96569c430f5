"""What removing units is predicted to cost, against removing them and against the Hessian."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.learning.tiny import CPU, context, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import build, frozen
from worker.learning.replay_losses import distillation_loss, latents_of
from worker.learning.strategy import Batch, Progress, Stopped
from worker.learning.units.removal import (
    Curvature,
    _root_curvature,
    least_important_units,
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    removal_order,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import UnitMask, prunable_layers, width


@pytest.fixture(scope="module")
def draws(two_labels: Checkpoint) -> Sequence[Batch]:
    return replay_sample(two_labels, 1000, context())


@pytest.fixture(scope="module")
def measured(two_labels: Checkpoint, draws: Sequence[Batch]) -> Curvature:
    return measure_curvature(build(two_labels, CPU), draws, context())


def test_measuring_the_curvature_can_be_stopped_between_batches(
    two_labels: Checkpoint, draws: Sequence[Batch]
) -> None:
    seen: list[Progress] = []
    stopping = context(on_progress=seen.append, should_stop=lambda: len(seen) == 2)
    with pytest.raises(Stopped, match="curvature, at step 2 of 4"):
        measure_curvature(build(two_labels, CPU), draws, stopping)


def test_a_posterior_narrower_than_the_loss_imitates_weighs_as_little_as_in_the_loss(
    two_labels: Checkpoint,
) -> None:
    """Where the log variance is -8, the loss imitates -6: an error of the mean counts e^6 times, not e^8."""
    weights = dict(two_labels.weights)
    layer = max(name for name in weights if name.startswith("encoder.") and name.endswith(".weight"))[:-7]
    heads = weights[f"{layer}.weight"].clone(), weights[f"{layer}.bias"].clone()
    heads[0][2:], heads[1][2:] = 0.0, 10 * math.atanh(-0.8)
    narrow = replace(two_labels, weights=weights | {f"{layer}.weight": heads[0], f"{layer}.bias": heads[1]})
    draws = replay_sample(narrow, 500, context())
    network = build(narrow, CPU)
    _, logvar = network.encode(draws[0].images, draws[0].slots)
    assert torch.allclose(logvar, torch.full_like(logvar, -8.0))
    moved = build(narrow, CPU)
    moved.get_parameter(f"{layer}.bias").data[:2] += 1e-2
    change = distillation_loss(moved, network, draws[0]) - distillation_loss(network, network, draws[0])
    of_mean, of_logvar, _ = _root_curvature(logvar, network.decode(latents_of(draws[0]), draws[0].slots))
    assert torch.allclose(0.5 * (of_mean * 1e-2).square().sum(dim=1), change, rtol=1e-2)
    assert torch.allclose(of_logvar.square(), torch.full_like(of_logvar, 0.5 * math.exp(-2)))


def some_units(checkpoint: Checkpoint, seed: int, share: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    removed = {}
    for layer in prunable_layers(checkpoint):
        removed[layer.name] = torch.rand(width(checkpoint, layer), generator=generator) < share
        removed[layer.name][-1] = False
    return removed


def displaced(
    checkpoint: Checkpoint, removed: UnitMask, means: Mapping[str, Tensor], step: float
) -> Checkpoint:
    """The checkpoint a step of the way to the removal of the units: the displacement d, written out."""
    weights = dict(checkpoint.weights)
    for layer in prunable_layers(checkpoint):
        outgoing = weights[f"{layer.following}.weight"]
        lost = outgoing * removed[layer.name]
        weights[f"{layer.following}.weight"] = outgoing - step * lost
        fold = step * lost @ means[layer.name]
        weights[f"{layer.following}.bias"] = weights[f"{layer.following}.bias"] + fold
    return replace(checkpoint, weights=weights)


def test_the_whole_displacement_is_the_removal_of_the_units(
    two_labels: Checkpoint, measured: Curvature, draws: Sequence[Batch]
) -> None:
    removed = some_units(two_labels, 0, 0.3)
    one = remove_units(two_labels, removed, measured)
    other = displaced(two_labels, removed, measured.mean_activation, 1.0)
    expected = measured_loss_change(two_labels, other, draws, CPU)
    assert measured_loss_change(two_labels, one, draws, CPU) == pytest.approx(expected, rel=1e-3)


def exact_second_order(
    checkpoint: Checkpoint, removed: UnitMask, means: Mapping[str, Tensor], batches: Iterable[Batch]
) -> float:
    """g.d + 1/2 d'Hd by a backward pass and a Hessian-vector product over all parameters: the slow oracle."""
    end = displaced(checkpoint, removed, means, 1.0).weights
    network, teacher = build(checkpoint, CPU).double(), frozen(checkpoint, CPU).double()
    parameters = dict(network.named_parameters())
    move = [(end[name] - checkpoint.weights[name]).double() for name in parameters]
    exact = []
    for batch in batches:
        latents = latents_of(batch).double()
        exact.append(Batch(teacher.decode(latents, batch.slots).sigmoid(), batch.slots, latents))
    loss = torch.cat([distillation_loss(network, teacher, batch) for batch in exact]).mean()
    first = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    along = torch.stack([(g * d).sum() for g, d in zip(first, move, strict=True)]).sum()
    second = torch.autograd.grad(along, list(parameters.values()))
    assert along.item() == pytest.approx(0, abs=1e-9), "the network is its own teacher"
    return along.item() + 0.5 * sum((h * d).sum().item() for h, d in zip(second, move, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_prediction_is_the_second_order_expansion_of_the_loss(
    seed: int, two_labels: Checkpoint, measured: Curvature, draws: Sequence[Batch]
) -> None:
    removed = some_units(two_labels, seed, 0.25)
    exact = exact_second_order(two_labels, removed, measured.mean_activation, draws)
    assert predicted_loss_change(measured, removed) == pytest.approx(exact, rel=0.15)


def test_the_prediction_ranks_sets_of_units_as_their_removal_does(
    two_labels: Checkpoint, measured: Curvature, draws: Sequence[Batch]
) -> None:
    sets = [some_units(two_labels, seed, 0.2) for seed in range(30)]
    predicted = torch.tensor([predicted_loss_change(measured, removed) for removed in sets])
    smaller = [remove_units(two_labels, removed, measured) for removed in sets]
    costs = torch.tensor([measured_loss_change(two_labels, one, draws, CPU) for one in smaller])
    ranks = torch.stack([values.argsort().argsort().double() for values in (predicted, costs)])
    assert torch.corrcoef(ranks)[0, 1] >= 0.8


def test_removing_nothing_costs_nothing(
    two_labels: Checkpoint, measured: Curvature, draws: Sequence[Batch]
) -> None:
    nothing = some_units(two_labels, 0, 0.0)
    assert predicted_loss_change(measured, nothing) == 0
    assert measured_loss_change(two_labels, remove_units(two_labels, nothing, measured), draws, CPU) == 0


def test_the_order_of_removal_adds_up_to_the_prediction_of_the_whole_set(measured: Curvature) -> None:
    order = removal_order(measured, measured.widths)
    for count in (1, 7, len(order.units)):
        removed = order.first(count, measured.widths)
        assert sum(int(units.sum()) for units in removed.values()) == count
        assert order.changes[count - 1] == pytest.approx(predicted_loss_change(measured, removed), rel=1e-3)


def test_every_removal_is_the_cheapest_of_those_left(measured: Curvature) -> None:
    """Against trying all of them, one by one."""
    order = removal_order(measured, measured.widths, 5)
    for count, named in enumerate(order.units):
        trials = {}
        for other, units in measured.widths.items():
            for index in range(units):
                trial = order.first(count, measured.widths)
                if not trial[other][index]:
                    trial[other][index] = True
                    trials[other, index] = predicted_loss_change(measured, trial)
        assert named == min(trials, key=trials.__getitem__)


def test_a_layer_always_keeps_a_unit_and_no_more_are_taken_than_allowed(measured: Curvature) -> None:
    assert len(removal_order(measured, measured.widths).units) == sum(measured.widths.values()) - len(
        measured.widths
    )
    most = {layer: index for index, layer in enumerate(measured.widths)}
    order = removal_order(measured, most)
    assert Counter(layer for layer, _ in order.units) == Counter(most)


def test_units_that_serve_only_a_forgotten_label_go_first(two_labels: Checkpoint) -> None:
    """A unit that no retained label activates is missed by none of the replay."""
    weights = {name: tensor.clone() for name, tensor in two_labels.weights.items()}
    weights["decoder.0.weight"][:3] = 0
    weights["decoder.0.bias"][:3] = -20  # silu(-20) is nothing
    weights["decoder.0.label"][0, :3] = 30  # ... unless label 0 is drawn
    weights["decoder.1.weight"][:, :3] = 5
    only_rows = replace(two_labels, weights=weights).with_status(["rows"], "forgotten")
    measured = measure_curvature(build(only_rows, CPU), replay_sample(only_rows, 500, context()), context())
    removed = least_important_units(measured, 0.25, "layer")["decoder.0"]
    assert removed.nonzero().flatten().tolist() == [0, 1, 2]


def test_taylor_pruning_removes_the_share_of_every_layer_or_of_all_units_together(
    two_labels: Checkpoint,
) -> None:
    each = run("resize", "taylor_prune", two_labels, labels(), share=0.25)
    assert each.widths == {"encoder": [18, 9], "decoder": [9, 18]}
    together = run("resize", "taylor_prune", two_labels, labels(), share=0.25, scope="network")
    widths = [units for side in together.widths.values() for units in side]
    assert sum(widths) == 54
    assert widths != [18, 9, 9, 18]
