"""Units of several entries, as a channel of pixels is: every resize keeps what it promises."""

from dataclasses import replace

import pytest
import torch

from tests.learning.tiny import context
from worker.learning import networks
from worker.learning.networks import Architecture, blank, build
from worker.learning.networks.mlp import Mlp, MlpParams
from worker.learning.resizing.taylor import (
    curvature,
    measured_change,
    predicted_change,
    removal_order,
    without,
)
from worker.learning.resizing.units import entries, grow, replicate, seams_of, shrink, width
from worker.learning.slots import with_slots
from worker.learning.strategy import Batch

CPU = torch.device("cpu")


class Paired(Mlp):
    """An mlp whose units are pairs of neighbours."""

    def __init__(self, spec):
        twice = {side: tuple(2 * width for width in getattr(spec, side)) for side in SIDES}
        super().__init__(replace(spec, **twice))

    def seams(self):
        return [seam._replace(rows=2, columns=2) for seam in super().seams()]


SIDES = ("encoder_widths", "decoder_widths")


@pytest.fixture
def pairs(monkeypatch):
    architecture = Architecture("paired", Paired, MlpParams, "Pairs of units.")
    monkeypatch.setitem(networks.ARCHITECTURES, "paired", architecture)
    small = {"architecture": "paired", "encoder_widths": (7, 5), "decoder_widths": (5, 7), "latent": 2}
    start = with_slots(blank(small, seed=0, pixels=16), ["a", "b"], "none", "permanent")
    fisher = {name: tensor.abs() for name, tensor in start.weights.items() if not name.startswith("prior_")}
    return replace(start, fisher=fisher)


def draws(checkpoint) -> list[Batch]:
    network = build(checkpoint, CPU).requires_grad_(False)
    slots = torch.arange(400) % 2
    latents = network.noise(slots, torch.Generator().manual_seed(0))
    return [Batch(network.decode(latents, slots).sigmoid(), slots, latents)]


def assert_whole(checkpoint):
    build(checkpoint, CPU)  # raises where a shape is not the spec's
    assert all(tensor.shape == checkpoint.weights[name].shape for name, tensor in checkpoint.fisher.items())


@pytest.mark.parametrize("larger_by", [grow, replicate])
def test_growth_changes_no_output(larger_by, pairs):
    larger = larger_by(pairs, 0.5, torch.Generator().manual_seed(0))
    assert larger.widths == {"encoder": [11, 8], "decoder": [8, 11]}
    assert_whole(larger)
    assert abs(measured_change(pairs, larger, draws(pairs), CPU)) < 1e-4
    [batch] = draws(pairs)
    drawn, before = (build(one, CPU).decode(batch.latents, batch.slots) for one in (larger, pairs))
    assert torch.allclose(drawn, before, atol=1e-5)


def test_removing_a_unit_removes_all_its_entries(pairs):
    kept = {seam.layer: torch.arange(1, width(pairs, seam)) for seam in seams_of(pairs)}
    smaller = shrink(
        pairs, kept, {seam.layer: torch.zeros(2 * width(pairs, seam)) for seam in seams_of(pairs)}
    )
    assert smaller.widths == {"encoder": [6, 4], "decoder": [4, 6]}
    assert_whole(smaller)
    assert torch.equal(smaller.weights["encoder.0.weight"], pairs.weights["encoder.0.weight"][2:])
    assert torch.equal(smaller.weights["encoder.2.weight"], pairs.weights["encoder.2.weight"][:, 2:])


def test_the_cost_of_removing_a_unit_is_that_of_all_its_entries(pairs):
    batches = draws(pairs)
    around = curvature(build(pairs, CPU), batches * 5, context())
    order = removal_order(around, around.widths, 3)
    assert around.widths == {"encoder.0": 7, "encoder.1": 5, "decoder.0": 5, "decoder.1": 7}
    removed = order.first(3, around.widths)
    measured = measured_change(pairs, without(pairs, removed, around), batches, CPU)
    assert predicted_change(around, removed) == pytest.approx(measured, rel=0.3)


def test_the_entries_of_units():
    assert entries(torch.tensor([0, 3]), 3).tolist() == [0, 1, 2, 9, 10, 11]


def test_each_entry_of_a_removed_unit_leaves_its_own_mean_behind(pairs):
    """Entries that never vary are removed for free, though they differ."""
    weights = {name: tensor.clone() for name, tensor in pairs.weights.items()}
    weights["decoder.1.weight"][:2] = 0
    weights["decoder.1.bias"][:2] = torch.tensor([1.0, -1.0])
    constant = replace(pairs, weights=weights)
    batches = draws(constant)
    around = curvature(build(constant, CPU), batches, context())
    removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in around.widths.items()}
    removed["decoder.1"][0] = True
    assert measured_change(constant, without(constant, removed, around), batches, CPU) < 1e-4
    assert predicted_change(around, removed) < 1e-6
