"""Adding and removing hidden units, with their Fisher information, and targeted dropout."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.learning.tiny import CPU, NETWORKS, context, examples, fisher_of, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import with_fisher_over
from worker.learning.elbo import negative_elbo
from worker.learning.networks import blank, build
from worker.learning.slots import with_slots
from worker.learning.strategy import Batch
from worker.learning.units.resize import (
    TooWide,
    duplicate,
    grow,
    grow_by,
    prunable_layers,
    replicate,
    shrink,
    width,
)
from worker.learning.units.targeted_dropout import (
    TargetedDropout,
    mean_activations,
    remove_dropped_units,
    with_weights_masked,
    zero_dropped_weights,
)

Grow = Callable[[Checkpoint, float, torch.Generator], Checkpoint]


def functions(checkpoint: Checkpoint, count: int = 1000) -> tuple[Tensor, Tensor]:
    """Decoder means on 1,000 (z, c), and the posterior on 1,000 (x, c)."""
    network = build(checkpoint, CPU).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    slots = torch.randint(checkpoint.spec.slots, (count,), generator=generator)
    images = torch.rand(count, checkpoint.spec.pixels, generator=generator)
    drawn = network.decode(network.noise(slots, generator), slots).sigmoid()
    return drawn, torch.cat(network.encode(images, slots), dim=1)


def assert_same_function(one: Checkpoint, other: Checkpoint, atol: float = 1e-6) -> None:
    (drawn, posterior), (drawn_too, posterior_too) = functions(one), functions(other)
    assert (drawn - drawn_too).abs().max() <= atol
    assert torch.allclose(posterior, posterior_too, rtol=1e-6, atol=atol)


def gradient_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


@st.composite
def untrained(draw: st.DrawFn) -> Checkpoint:
    """A network of either architecture and any widths, with two labels and random weights."""
    architecture = draw(st.sampled_from(sorted(NETWORKS)))
    depth = st.just(3) if architecture == "conv" else st.integers(1, 3)
    encoder, decoder = ([draw(st.integers(1, 9)) for _ in range(draw(depth))] for _ in range(2))
    widths = {"encoder_widths": encoder, "decoder_widths": decoder}
    start = blank({"architecture": architecture, **widths, "latent": 2}, seed=3, pixels=16)
    return with_slots(start, ["a", "b"], "none", "permanent")


@settings(max_examples=30, deadline=None)
@given(start=untrained(), share=st.floats(0.01, 2.0), larger_by=st.sampled_from([grow, replicate]))
def test_expansion_changes_no_output_beyond_rounding(
    start: Checkpoint, share: float, larger_by: Grow
) -> None:
    larger = larger_by(start, share, torch.Generator().manual_seed(0))
    assert larger.parameters > start.parameters
    assert_same_function(larger, start)


@pytest.mark.parametrize("larger_by", [grow, replicate])
def test_expansion_of_kernels_changes_no_output_beyond_rounding(larger_by: Grow) -> None:
    network = NETWORKS["conv"]
    start = with_slots(blank(network, seed=3, pixels=64), ["a", "b"], "none", "permanent")
    larger = larger_by(start, 0.5, torch.Generator().manual_seed(0))
    assert larger.widths == {"encoder": [12, 12, 24], "decoder": [24, 12, 12]}
    assert_same_function(larger, start)


@pytest.mark.parametrize("method", ["zero_outgoing", "net2net"])
def test_expansion_of_a_trained_network_changes_no_output_beyond_rounding(
    method: str, two_labels: Checkpoint
) -> None:
    larger = run("resize", "expand", two_labels, labels(), share=0.5, method=method)
    assert larger.widths == {"encoder": [36, 18], "decoder": [18, 36]}
    assert_same_function(larger, two_labels)


@pytest.mark.parametrize("larger_by", [grow, replicate])
def test_every_new_parameter_has_gradient_within_two_steps(larger_by: Grow, two_labels: Checkpoint) -> None:
    larger = larger_by(two_labels, 0.5, torch.Generator().manual_seed(0))
    network = build(larger, CPU)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    images, slots = torch.rand(64, 64, generator=generator), torch.arange(64) % 2
    moved = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    for _ in range(2):
        optimiser.zero_grad()
        negative_elbo(network, images, slots, network.noise(slots, generator)).mean().backward()
        for name, tensor in network.named_parameters():
            moved[name] += gradient_of(tensor).abs()
        optimiser.step()
    for layer in prunable_layers(two_labels):
        old = width(two_labels, layer)
        assert (moved[f"{layer.name}.weight"][old:].sum(dim=1) > 0).all(), layer
        assert (moved[f"{layer.name}.bias"][old:] > 0).all(), layer
        assert (moved[f"{layer.following}.weight"][:, old:].sum(dim=0) > 0).all(), layer


def test_expansion_keeps_the_fisher_of_every_old_parameter(two_labels: Checkpoint) -> None:
    """The mapped Fisher against the one that is computed anew after the resize."""
    slots = list(two_labels.retained.values())
    before = with_fisher_over(two_labels, slots, context(), examples=300)
    mapped = grow(before, 0.5, torch.Generator().manual_seed(0))
    anew = with_fisher_over(mapped, slots, context(), examples=300)
    for name, tensor in fisher_of(before).items():
        old = tuple(slice(0, size) for size in tensor.shape)
        assert torch.allclose(
            fisher_of(anew)[name][old], fisher_of(mapped)[name][old], rtol=1e-3, atol=1e-8
        ), name
    for layer in prunable_layers(before):
        new = slice(width(before, layer), None)
        assert fisher_of(anew)[f"{layer.name}.weight"][new].abs().sum() == 0, (
            "incoming weights have no effect yet"
        )
        assert fisher_of(anew)[f"{layer.following}.weight"][:, new].sum() > 0, "outgoing ones would"


@settings(max_examples=30, deadline=None)
@given(start=untrained(), seed=st.integers(0, 1000), share=st.floats(0.1, 0.8))
def test_removing_units_is_zeroing_their_outgoing_weights(start: Checkpoint, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept, nothing, zeroed = {}, {}, dict(start.weights)
    for layer in prunable_layers(start):
        units = width(start, layer)
        stays = torch.rand(units, generator=generator) >= share
        stays[0] = True
        kept[layer.name], nothing[layer.name] = (
            stays.nonzero().flatten(),
            torch.zeros(units * layer.columns_per_unit),
        )
        outgoing = zeroed[f"{layer.following}.weight"]
        columns = stays.repeat_interleave(layer.columns_per_unit).view(-1, *[1] * (outgoing.dim() - 2))
        zeroed[f"{layer.following}.weight"] = outgoing * columns
    expected = replace(start, weights=zeroed)
    assert_same_function(shrink(start, kept, nothing), expected, atol=3e-6)


def test_a_unit_that_never_varies_is_removed_for_free_by_the_bias(two_labels: Checkpoint) -> None:
    """Its mean activation, added to the next bias, is all that it contributed."""
    weights, layers = dict(two_labels.weights), ("encoder.1", "decoder.1")
    for layer in layers:
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"].clone()
        weights[f"{layer}.weight"][0] = 0
    constant = replace(two_labels, weights=weights)
    network = build(constant, CPU)
    batch = Batch(torch.rand(50, 64), torch.arange(50) % 2)
    kept = {layer: torch.arange(1, len(constant.weights[f"{layer}.bias"])) for layer in layers}
    smaller = shrink(constant, kept, mean_activations(network, [batch]))
    assert smaller.widths == {"encoder": [24, 11], "decoder": [12, 23]}
    assert_same_function(smaller, constant, atol=1e-5)


def test_mean_activations_are_those_at_the_latents_that_the_draws_were_drawn_from(
    two_labels: Checkpoint,
) -> None:
    network = build(two_labels, CPU).requires_grad_(False)
    slots = torch.arange(50) % 2
    latents = network.sample_prior(network.prior_noise(slots, torch.Generator().manual_seed(0)), slots)
    images = network.decode(latents, slots).sigmoid()
    found = mean_activations(network, [Batch(images, slots, latents)])
    layer = network.get_submodule("decoder.0")
    hidden = torch.nn.functional.silu(layer(latents, slots))
    assert torch.allclose(found["decoder.0"], hidden.mean(dim=0), atol=1e-6)
    inferred = mean_activations(network, [Batch(images, slots)])
    assert not torch.allclose(inferred["decoder.0"], found["decoder.0"], atol=1e-4)


def test_pruning_selects_the_fisher_of_the_units_that_stay(two_labels: Checkpoint) -> None:
    kept = {"encoder.0": torch.tensor([0, 3, 5])}
    before = with_fisher_over(two_labels, [0, 1], context(), examples=300)
    smaller = shrink(before, kept, {"encoder.0": torch.zeros(24)})
    for name, tensor in smaller.weights.items():
        if name in fisher_of(smaller):
            assert fisher_of(smaller)[name].shape == tensor.shape, name
    assert torch.equal(
        fisher_of(smaller)["encoder.0.weight"], fisher_of(before)["encoder.0.weight"][[0, 3, 5]]
    )
    assert torch.equal(
        fisher_of(smaller)["encoder.1.weight"], fisher_of(before)["encoder.1.weight"][:, [0, 3, 5]]
    )


def test_targeted_dropout_drops_only_the_weakest_units_and_whole_units(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.25, 0.5, torch.Generator().manual_seed(0))
    for layer in network.prunable_layers():
        norms = network.get_parameter(f"{layer.name}.weight").norm(dim=1)
        weakest = set(norms.argsort()[: int(0.25 * len(norms))].tolist())
        dropped = [dropout.masks(0.9)[layer.name].eq(0).nonzero().flatten().tolist() for _ in range(100)]
        assert set().union(*dropped) == weakest
        often = sum(map(len, dropped)) / (100 * len(weakest))
        assert often == pytest.approx(0.5, abs=0.1)


def test_targeted_dropout_starts_gently_and_reaches_its_full_share(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.5, 1.0, torch.Generator().manual_seed(0))
    dropped = [int(dropout.masks(done)["encoder.0"].eq(0).sum()) for done in (0.0, 0.5, 0.9)]
    assert dropped == [0, 12, 12]


def test_units_that_are_always_dropped_are_removed_without_changing_a_draw(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.25, 1.0, torch.Generator().manual_seed(0))
    masks = dropout.masks(0.9)
    smaller = remove_dropped_units(two_labels, network, dropout, context())
    slots = torch.arange(100) % 2
    noise = network.noise(slots, torch.Generator().manual_seed(0))
    pruned = build(smaller, CPU).decode(noise, slots)
    assert torch.allclose(network.decode(noise, slots, masks), pruned, atol=1e-5)


def test_a_training_too_short_to_drop_a_unit_keeps_its_mean_contribution(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.25, 1.0, torch.Generator().manual_seed(0))
    dropout.masks(0.0)
    smaller = remove_dropped_units(two_labels, network, dropout, context())
    folded = smaller.weights["decoder.2.bias"] - two_labels.weights["decoder.2.bias"]
    assert folded.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("architecture", "widths", "most"), [("mlp", (4093, 4), 4096), ("conv", (509, 4, 6), 512)]
)
@pytest.mark.parametrize("way", ["share", "copies", "units", "split"])
def test_no_network_grows_beyond_the_limit_whatever_makes_it_grow(
    way: str, architecture: str, widths: tuple[int, ...], most: int
) -> None:
    """The widest layer has room for three units (of a convolution, channels) more."""
    spec = {"architecture": architecture, "encoder_widths": widths, "decoder_widths": widths[::-1]}
    full = blank(spec | {"latent": 2}, seed=0, pixels=16)
    generator, layers = torch.Generator().manual_seed(0), prunable_layers(full)
    ways: dict[str, Callable[[int], Checkpoint]] = {
        "share": lambda more: grow(full, more / widths[0], generator),
        "copies": lambda more: replicate(full, more / widths[0], generator),
        "units": lambda more: grow_by(full, dict.fromkeys(layers, more), generator),
        "split": lambda more: duplicate(
            full, {layer.name: torch.arange(more if width(full, layer) > 9 else 1) for layer in layers}
        ),
    }
    assert ways[way](3).spec.encoder_widths[0] == most
    with pytest.raises(TooWide, match=f"at most {most} are allowed"):
        ways[way](4)


def test_learning_goes_on_where_no_layer_can_grow_further() -> None:
    start = blank({"encoder_widths": (4090,), "decoder_widths": (20,), "latent": 2}, seed=0, pixels=64)
    for name in ("rows", "columns", "frame"):
        start = run("learn", "replay_ewc", start, examples(name), schedule={"steps": 1}, fisher_examples=1)
    assert (start.spec.encoder_widths, start.spec.decoder_widths) == ((4096,), (25,))


def test_the_width_follows_the_number_of_labels_held_and_not_the_number_of_jobs() -> None:
    """A cycle is one forget, which shrinks the network, and three learns, which grow it."""
    one_step: dict[str, Any] = {"schedule": {"steps": 1, "batch_size": 8}}
    names, forgotten = ("rows", "columns", "frame", "blot", "dot", "spot"), ("blot", "dot", "spot")
    start = blank(NETWORKS["mlp"], seed=0, pixels=64)
    held = run("learn", "replay_ewc", start, examples(*names), **one_step)
    assert held.widths == start.widths, "the first job learns at the width of the blank network"
    for _ in range(2):
        held = run("forget", "surrogate", held, labels(*forgotten), **one_step, naive_steps=1)
        assert held.widths == {"encoder": [21, 10], "decoder": [10, 21]}
        for name in forgotten:
            held = run("learn", "replay_ewc", held, examples(name), **one_step)
        assert held.widths == start.widths


def test_pruning_maps_the_fisher_as_computing_it_anew_would(two_labels: Checkpoint) -> None:
    """Units whose outgoing weights are zero have no effect: without them every other Fisher stays."""
    weights, kept, nothing = dict(two_labels.weights), {}, {}
    for layer in prunable_layers(two_labels):
        units = width(two_labels, layer)
        kept[layer.name], nothing[layer.name] = torch.arange(2, units), torch.zeros(units)
        weights[f"{layer.following}.weight"] = weights[f"{layer.following}.weight"].clone()
        weights[f"{layer.following}.weight"][:, :2] = 0
    before = with_fisher_over(replace(two_labels, weights=weights), [0, 1], context(), examples=300)
    mapped = shrink(before, kept, nothing)
    anew = with_fisher_over(mapped, [0, 1], context(), examples=300)
    for name, tensor in fisher_of(mapped).items():
        assert torch.allclose(fisher_of(anew)[name], tensor, rtol=1e-3, atol=1e-8), name


def test_pruning_removes_the_requested_share(two_labels: Checkpoint) -> None:
    smaller = run("resize", "targeted_dropout_prune", two_labels, labels(), share=0.25)
    assert smaller.widths == {"encoder": [18, 9], "decoder": [9, 18]}
    assert smaller.parameters < two_labels.parameters


def test_weight_mode_drops_only_the_weakest_weights_of_each_unit_one_by_one(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.5, 0.5, torch.Generator().manual_seed(0), "weight")
    masks = [dropout.masks(0.9) for _ in range(100)]
    assert set(masks[0]) == {layer.name for layer in network.prunable_layers()}, (
        "no head, no output layer, no labels"
    )
    for layer in masks[0]:
        weight = network.get_parameter(f"{layer}.weight").detach().abs()
        dropped = torch.stack([mask[layer] == 0 for mask in masks]).float().mean(dim=0)
        count = weight.shape[1] // 2
        for row, often in zip(weight, dropped, strict=True):
            weakest = row.argsort()[:count]
            assert set(often.nonzero().flatten().tolist()) == set(weakest.tolist())
        assert dropped.sum() / (count * len(weight)) == pytest.approx(0.5, abs=0.05)


def test_a_masked_weight_is_a_weight_at_zero_that_gets_no_gradient(two_labels: Checkpoint) -> None:
    network, zeroed = build(two_labels, CPU), build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.5, 0.5, torch.Generator().manual_seed(0), "weight")
    masks = dropout.masks(0.9)
    generator = torch.Generator().manual_seed(0)
    images, slots = torch.rand(20, 64, generator=generator), torch.arange(20) % 2
    noise = network.noise(slots, generator)

    def bound() -> torch.Tensor:
        return negative_elbo(network, images, slots, noise).mean()

    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    masked = with_weights_masked(network, masks, bound)
    masked.backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    with torch.no_grad():
        for layer, mask in masks.items():
            zeroed.get_parameter(f"{layer}.weight").mul_(mask)
    expected = negative_elbo(zeroed, images, slots, noise).mean()
    expected.backward()
    assert masked.item() == pytest.approx(expected.item(), rel=1e-6) != bound().item()
    gradients = dict(zeroed.named_parameters())
    for name, parameter in network.named_parameters():
        kept = masks.get(name.removesuffix(".weight"), torch.ones(1)) if name.endswith("weight") else 1
        expected_gradient = gradient_of(gradients[name]) * kept
        assert torch.allclose(gradient_of(parameter), expected_gradient, atol=1e-6), name


def test_weights_that_are_always_dropped_are_zeroed_without_changing_a_draw(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    dropout = TargetedDropout(network, 0.25, 1.0, torch.Generator().manual_seed(0), "weight")
    masks = dropout.masks(0.9)
    sparser = build(zero_dropped_weights(two_labels, network, dropout), CPU)
    slots = torch.arange(100) % 2
    noise = network.noise(slots, torch.Generator().manual_seed(0))
    masked = with_weights_masked(network, masks, network.decode, noise, slots)
    assert torch.allclose(masked, sparser.decode(noise, slots), atol=1e-6)
    assert not torch.allclose(masked, network.decode(noise, slots), atol=1e-2)


def test_weight_mode_keeps_the_shape_and_zeroes_its_share_of_every_row(two_labels: Checkpoint) -> None:
    sparser = run("resize", "targeted_dropout_prune", two_labels, labels(), share=0.25, mode="weight")
    assert sparser.spec == two_labels.spec
    hidden = {layer.name for layer in prunable_layers(two_labels)}
    for name, tensor in sparser.weights.items():
        if name.removesuffix(".weight") in hidden:
            assert (tensor.eq(0).sum(dim=1) == int(0.25 * tensor.shape[1])).all(), name
        elif name.endswith(".weight"):
            assert not tensor.eq(0).any(), name


@pytest.mark.parametrize("share", [0.3, 1.0, 2.5])
def test_replication_maps_the_fisher_as_computing_it_anew_would(share: float, two_labels: Checkpoint) -> None:
    before = with_fisher_over(two_labels, [0, 1], context(), examples=300)
    mapped = replicate(before, share, torch.Generator().manual_seed(0))
    anew = with_fisher_over(mapped, [0, 1], context(), examples=300)
    for name, tensor in fisher_of(mapped).items():
        assert torch.allclose(fisher_of(anew)[name], tensor, rtol=1e-3, atol=1e-8), name


def test_copies_start_alike_and_do_not_stay_so(two_labels: Checkpoint) -> None:
    larger = replicate(two_labels, 1.0, torch.Generator().manual_seed(0))
    network = build(larger, CPU)
    generator = torch.Generator().manual_seed(0)
    images, slots = torch.rand(64, 64, generator=generator), torch.arange(64) % 2
    negative_elbo(network, images, slots, network.noise(slots, generator)).mean().backward()
    for layer in prunable_layers(two_labels):
        weight = network.get_parameter(f"{layer.name}.weight")
        twin = torch.cdist(weight.detach(), weight.detach()).fill_diagonal_(torch.inf).argmin(dim=1)
        assert (weight == weight[twin]).all(), layer
        assert ((gradient_of(weight) - gradient_of(weight)[twin]).norm(dim=1) > 0).all(), layer


def test_no_unit_is_copied_again_before_all_others_are(two_labels: Checkpoint) -> None:
    larger = replicate(two_labels, 1.5, torch.Generator().manual_seed(0))
    for layer in prunable_layers(two_labels)[:1]:
        rows = larger.weights[f"{layer.name}.weight"]
        _, times = rows.unique(dim=0, return_counts=True)
        assert sorted(set(times.tolist())) == [2, 3]
