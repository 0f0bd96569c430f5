"""Units of several entries, as channels of several pixels: every resize keeps what it promises."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.learning.tiny import CPU, context, fisher_of
from worker.learning import networks
from worker.learning.checkpoint import Checkpoint, Spec
from worker.learning.networks import Architecture, blank, build
from worker.learning.networks.mlp import Mlp, MlpParams
from worker.learning.networks.network import PrunableLayer
from worker.learning.replay_losses import latents_of
from worker.learning.slots import with_slots
from worker.learning.strategy import Batch
from worker.learning.units.removal import (
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    removal_order,
    remove_units,
)
from worker.learning.units.resize import entries, grow, prunable_layers, replicate, shrink, width

SIDES = ("encoder_widths", "decoder_widths")


class Paired(Mlp):
    """An mlp whose units are pairs of entries."""

    def __init__(self, spec: Spec) -> None:
        encoder, decoder = (tuple(2 * width for width in getattr(spec, side)) for side in SIDES)
        super().__init__(replace(spec, encoder_widths=encoder, decoder_widths=decoder))

    def prunable_layers(self) -> list[PrunableLayer]:
        return [layer._replace(rows_per_unit=2, columns_per_unit=2) for layer in super().prunable_layers()]


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    architecture = Architecture("paired", Paired, MlpParams, "Pairs of units.")
    monkeypatch.setitem(networks.ARCHITECTURES, "paired", architecture)
    small = {"architecture": "paired", "encoder_widths": (7, 5), "decoder_widths": (5, 7), "latent": 2}
    start = with_slots(blank(small, seed=0, pixels=16), ["a", "b"], "none", "permanent")
    fisher = {name: tensor.abs() for name, tensor in start.weights.items() if not name.startswith("prior_")}
    return replace(start, fisher=fisher)


class Damped(Mlp):
    """An mlp with a parameter in each layer that has no row for each unit."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        for layer in self.prunable_layers():
            self.get_submodule(layer.name).register_parameter("damping", torch.nn.Parameter(torch.ones(())))


def test_only_the_parameters_that_a_layer_names_are_resized_with_its_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    architecture = Architecture("damped", Damped, MlpParams, "A scalar in each layer.")
    monkeypatch.setitem(networks.ARCHITECTURES, "damped", architecture)
    small = {"architecture": "damped", "encoder_widths": (7, 5), "decoder_widths": (5, 7), "latent": 2}
    start = with_slots(blank(small, seed=0, pixels=16), ["a", "b"], "none", "permanent")
    larger = replicate(grow(start, 0.5, torch.Generator()), 0.5, torch.Generator())
    smaller = shrink(larger, {"decoder.0": torch.tensor([1, 3])}, {"decoder.0": torch.zeros(12)})
    for resized in (larger, smaller):
        build(resized, CPU)  # raises if a shape is not the spec's
        assert resized.weights["decoder.0.damping"].shape == ()


def draws(checkpoint: Checkpoint) -> list[Batch]:
    network = build(checkpoint, CPU).requires_grad_(False)
    slots = torch.arange(400) % 2
    latents = network.noise(slots, torch.Generator().manual_seed(0))
    return [Batch(network.decode(latents, slots).sigmoid(), slots, latents)]


def assert_complete(checkpoint: Checkpoint) -> None:
    build(checkpoint, CPU)  # raises if a shape is not the spec's
    for name, tensor in fisher_of(checkpoint).items():
        assert tensor.shape == checkpoint.weights[name].shape


@pytest.mark.parametrize("larger_by", [grow, replicate])
def test_growth_changes_no_output(
    larger_by: Callable[[Checkpoint, float, torch.Generator], Checkpoint], pairs: Checkpoint
) -> None:
    larger = larger_by(pairs, 0.5, torch.Generator().manual_seed(0))
    assert larger.widths == {"encoder": [11, 8], "decoder": [8, 11]}
    assert_complete(larger)
    assert abs(measured_loss_change(pairs, larger, draws(pairs), CPU)) < 1e-4
    [batch] = draws(pairs)
    latents = latents_of(batch)
    drawn, before = (build(one, CPU).decode(latents, batch.slots) for one in (larger, pairs))
    assert torch.allclose(drawn, before, atol=1e-5)


def test_removing_a_unit_removes_all_its_entries(pairs: Checkpoint) -> None:
    kept = {layer.name: torch.arange(1, width(pairs, layer)) for layer in prunable_layers(pairs)}
    smaller = shrink(
        pairs, kept, {layer.name: torch.zeros(2 * width(pairs, layer)) for layer in prunable_layers(pairs)}
    )
    assert smaller.widths == {"encoder": [6, 4], "decoder": [4, 6]}
    assert_complete(smaller)
    assert torch.equal(smaller.weights["encoder.0.weight"], pairs.weights["encoder.0.weight"][2:])
    assert torch.equal(smaller.weights["encoder.2.weight"], pairs.weights["encoder.2.weight"][:, 2:])


def test_the_cost_of_removing_a_unit_is_that_of_all_its_entries(pairs: Checkpoint) -> None:
    batches = draws(pairs)
    curvature = measure_curvature(build(pairs, CPU), batches * 5, context())
    order = removal_order(curvature, curvature.widths, 3)
    assert curvature.widths == {"encoder.0": 7, "encoder.1": 5, "decoder.0": 5, "decoder.1": 7}
    removed = order.first(3, curvature.widths)
    measured = measured_loss_change(pairs, remove_units(pairs, removed, curvature), batches, CPU)
    assert predicted_loss_change(curvature, removed) == pytest.approx(measured, rel=0.3)


def test_the_entries_of_units() -> None:
    assert entries(torch.tensor([0, 3]), 3).tolist() == [0, 1, 2, 9, 10, 11]


def test_each_entry_of_a_removed_unit_leaves_its_own_mean_behind(pairs: Checkpoint) -> None:
    """Entries that never vary are removed for free, though they differ from each other."""
    weights = {name: tensor.clone() for name, tensor in pairs.weights.items()}
    weights["decoder.1.weight"][:2] = 0
    weights["decoder.1.bias"][:2] = torch.tensor([1.0, -1.0])
    constant = replace(pairs, weights=weights)
    batches = draws(constant)
    curvature = measure_curvature(build(constant, CPU), batches, context())
    removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in curvature.widths.items()}
    removed["decoder.1"][0] = True
    assert measured_loss_change(constant, remove_units(constant, removed, curvature), batches, CPU) < 1e-4
    assert predicted_loss_change(curvature, removed) < 1e-6
