"""The architecture `hyper`: its weights are made for each label from an embedding."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.learning.tiny import BRIEF, CPU, NETWORKS, context, examples, labels, run, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.den import DenParams
from worker.learning.continual.den import learn as learn_by_den
from worker.learning.drawing import draw
from worker.learning.generated_weights import Retention, noise_loss
from worker.learning.judging.unit_probe import reconstruct_from_units
from worker.learning.networks import blank, build, frozen
from worker.learning.networks.hyper import SIDES, Hyper
from worker.learning.slots import with_slots
from worker.learning.strategy import NotForArchitecture, find
from worker.learning.transition import apply_strategy
from worker.learning.units.removal import (
    least_important_units,
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import prunable_layers, width
from worker.learning.units.weight_masks import weights_between
from worker.learning.unlearning.noise_alignment import replace_embeddings


@pytest.fixture(scope="module")
def learnt_hyper() -> Checkpoint:
    start = blank(NETWORKS["hyper"], seed=0, pixels=64)
    return run("learn", "replay_ewc", start, examples("rows", "columns", "frame"))


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    """A network that has learnt rows and columns."""
    empty = blank(NETWORKS["hyper"], seed=0, pixels=64)
    return run("learn", "hypernetwork", empty, examples("rows", "columns"))


def hypernetwork(checkpoint: Checkpoint) -> Hyper:
    network = frozen(checkpoint, CPU)
    assert isinstance(network, Hyper)
    return network


def written_out(network: Hyper, side: str, slot: int) -> list[tuple[Tensor, Tensor]]:
    """The weights of every layer of a side for one label, as matrices."""
    made = network.make_weights(network.embeddings(torch.tensor([slot])))
    return [
        (one.scale[0][:, None] * layer.weight, one.scale[0] * layer.bias + one.shift[0])
        for (name, layer) in network.generated_layers()
        for one in [made[name]]
        if name.startswith(side)
    ]


def test_a_batch_of_several_labels_is_decoded_by_the_weights_made_for_each(learnt_hyper: Checkpoint) -> None:
    network, slots = hypernetwork(learnt_hyper), torch.tensor([2, 0, 1, 0, 2, 2])
    latents = torch.randn(len(slots), 2, generator=torch.Generator().manual_seed(0))
    expected = []
    for latent, slot in zip(latents, slots.tolist(), strict=True):
        *hidden, last = written_out(network, "decoder", slot)
        for weight, bias in hidden:
            latent = functional.silu(weight @ latent + bias)
        expected.append(last[0] @ latent + last[1])
    assert torch.allclose(network.decode(latents, slots), torch.stack(expected), atol=1e-4)


def test_each_label_has_weights_of_its_own(learnt_hyper: Checkpoint) -> None:
    network = hypernetwork(learnt_hyper)
    for first, second in ((0, 1), (1, 2)):
        for (weight, _), (other, _) in zip(
            *(written_out(network, "decoder", slot) for slot in (first, second)), strict=True
        ):
            assert (weight - other).norm() > 0.1 * weight.norm()


def test_a_network_has_as_many_parameters_as_an_mlp_within_a_hundredth() -> None:
    hyper, mlp = (
        with_slots(blank({"architecture": name}, seed=0), [*"0123456789"], "mnist", "permanent").parameters
        for name in ("hyper", "mlp")
    )
    assert 0.99 * mlp < hyper <= mlp


def test_growth_changes_no_output_of_any_label(learnt_hyper: Checkpoint) -> None:
    draws = replay_sample(learnt_hyper, 200, context())
    for method in ("zero_outgoing", "net2net"):
        larger = run("resize", "expand", learnt_hyper, labels(), share=0.5, method=method)
        assert larger.widths == {"encoder": [36, 18], "decoder": [18, 36]}
        assert abs(measured_loss_change(learnt_hyper, larger, draws, CPU)) < 1e-3


def test_the_cost_of_removing_units_is_predicted_for_all_labels(learnt_hyper: Checkpoint) -> None:
    draws = replay_sample(learnt_hyper, 1000, context())
    curvature = measure_curvature(build(learnt_hyper, CPU), draws, context())
    removed = least_important_units(curvature, 0.1, "layer")
    smaller = remove_units(learnt_hyper, removed, curvature)
    measured = measured_loss_change(learnt_hyper, smaller, draws, CPU)
    assert predicted_loss_change(curvature, removed) == pytest.approx(measured, rel=0.5)


def test_units_that_never_vary_are_removed_for_free(learnt_hyper: Checkpoint) -> None:
    """Their means go into the next shared bias, which every label's factors multiply."""
    weights = {name: tensor.clone() for name, tensor in learnt_hyper.weights.items()}
    for part in ("weight", "scale.weight", "shift.weight"):
        weights[f"decoder.1.{part}"][:2] = 0
    weights["decoder.1.bias"][:2] = torch.tensor([1.0, -1.0])
    constant = replace(learnt_hyper, weights=weights)
    draws = replay_sample(constant, 200, context())
    curvature = measure_curvature(build(constant, CPU), draws, context())
    removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in curvature.widths.items()}
    removed["decoder.1"][:2] = True
    smaller = remove_units(constant, removed, curvature)
    assert smaller.widths["decoder"] == [12, 22]
    assert abs(measured_loss_change(constant, smaller, draws, CPU)) < 1e-3


def test_an_embedding_reaches_every_unit(learnt_hyper: Checkpoint) -> None:
    worker = context(0, "hyper")
    params = DenParams.model_validate({"schedule": BRIEF, "probe_steps": 5})
    learn_by_den(learnt_hyper, examples("blot"), params, worker)
    found = worker.findings["subnetwork"]
    assert set(found["reached_share"].values()) == {1.0}
    assert found["trained_share"] > 0.9


def test_a_subnetwork_has_the_factors_and_shifts_of_its_units_and_of_no_others(
    learnt_hyper: Checkpoint,
) -> None:
    layers = prunable_layers(learnt_hyper)
    units = {layer.name: torch.arange(width(learnt_hyper, layer)) == 3 for layer in layers}
    found = weights_between(hypernetwork(learnt_hyper), learnt_hyper, units, [0])
    for layer in layers:
        for part in ("scale.weight", "scale.bias", "shift.weight", "shift.bias"):
            mask = found[f"{layer.name}.{part}"]
            assert mask[3].all()
            assert not mask[units[layer.name].logical_not()].any()


def test_units_that_draw_another_picture_for_each_label_are_not_probed(learnt_hyper: Checkpoint) -> None:
    images = torch.zeros((3, 64), dtype=torch.uint8)
    assert reconstruct_from_units(hypernetwork(learnt_hyper), images) is None


def test_learning_keeps_the_weights_of_other_labels_without_images_or_draws(start: Checkpoint) -> None:
    kept = run("learn", "hypernetwork", start, examples("frame"))
    free = run("learn", "hypernetwork", start, examples("frame"), retention_strength=0)
    assert drift(start, kept, ["rows", "columns"]) < 0.1 * drift(start, free, ["rows", "columns"])
    assert all(likeness(kept, label) < 0.08 for label in ("rows", "columns", "frame"))


def test_the_losses_give_the_embeddings_of_other_labels_no_gradient(start: Checkpoint) -> None:
    for after in (
        run("learn", "hypernetwork", start, examples("frame"), schedule=BRIEF),
        run("forget", "noise_alignment", start, labels("rows"), schedule=BRIEF),
    ):
        for side in ("encoder", "decoder"):
            name = f"{side}.embedding.label"
            assert torch.equal(after.weights[name][1], start.weights[name][1])


def test_the_retention_loss_is_the_squared_change_of_the_weights_that_are_made(start: Checkpoint) -> None:
    moved = run("learn", "hypernetwork", start, examples("frame"), retention_strength=0)
    before, now = hypernetwork(start).double(), hypernetwork(moved).double()
    for side, table in now.embedding_tables().items():
        table.data[:2] = before.embedding_tables()[side]
    now.requires_grad_(True)
    expected = torch.zeros((), dtype=torch.float64)
    for slot, side in itertools.product((0, 1), SIDES):
        for made, old in zip(written_out(now, side, slot), written_out(before, side, slot), strict=True):
            for one, other in zip(made, old, strict=True):
                expected = expected + (one - other).square().sum() / 2
    loss, parameters = (
        Retention(now, before, [0, 1]).loss(),
        [tensor for name, tensor in now.named_parameters() if not name.endswith(".label")],
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found, slow = (torch.autograd.grad(one, parameters) for one in (loss, expected))
    for one, other in zip(found, slow, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    assert Retention(now, before, []).loss().item() == 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_where_nothing_has_moved_the_retention_loss_has_no_gradient_at_all(
    start: Checkpoint, precision: torch.dtype
) -> None:
    network = hypernetwork(start).requires_grad_(True)
    network.precision = precision
    loss = Retention(network, hypernetwork(start), [0, 1]).loss()
    trained = [tensor for name, tensor in network.named_parameters() if not name.endswith(".label")]
    assert loss.item() == 0
    assert all(not one.any() for one in torch.autograd.grad(loss, trained))


def test_the_noise_loss_is_the_squared_distance_to_noise_but_for_a_constant(start: Checkpoint) -> None:
    """Between two sets of weights and the same noise, the difference is that of the squared distances."""
    network = hypernetwork(start).double()
    rows = [network.embeddings(torch.tensor([slot])) for slot in (0, 1)]
    first, second = (noise_loss(network, one, 4, torch.Generator().manual_seed(5)).item() for one in rows)
    generator, squares = torch.Generator().manual_seed(5), [0.0, 0.0]
    for name, layer in network.generated_layers():
        drawn = torch.randn((layer.out_features, layer.in_features + 1), generator=generator)
        noise = (2 / layer.in_features / 4) ** 0.5 * drawn
        side, index = name.split(".")
        for slot in (0, 1):
            weight, bias = written_out(network, side, slot)[int(index)]
            distance = (weight - noise[:, :-1]).square().sum() + (bias - noise[:, -1]).square().sum()
            squares[slot] += float(distance)
    assert first - second == pytest.approx(squares[0] - squares[1], rel=1e-6)


def test_forgetting_makes_noise_from_the_old_embedding_too_and_keeps_the_other_weights(
    start: Checkpoint,
) -> None:
    after = run("forget", "noise_alignment", start, labels("rows"))
    assert likeness(after, "rows") > 0.2
    assert drift(start, after, ["columns"]) < 1e-2 * size(start, "columns")
    restored = with_embeddings_of(start, after, "rows")
    assert likeness(restored, "rows") > 0.2
    emptied = run("forget", "noise_alignment", start, labels("rows"), noise_strength=0)
    assert likeness(with_embeddings_of(start, emptied, "rows"), "rows") < 0.08, (
        "without noise it is still there"
    )


def test_new_embeddings_are_as_long_as_those_of_the_retained_labels(start: Checkpoint) -> None:
    target = with_slots(start, ["frame"], "stripes", "permanent")
    for retained in ([1], []):
        found = []
        for factor in (1, 1000):
            network = hypernetwork(target)
            for table in network.embedding_tables().values():
                table[0] *= factor
            replace_embeddings(network, [0], retained, torch.Generator().manual_seed(0))
            found.append(network.embedding_tables())
        for table, of_longer in zip(*(one.values() for one in found), strict=True):
            assert torch.equal(table, of_longer), "it depends on nothing of the forgotten label"
            assert table[0].norm().item() == pytest.approx(table[retained].norm().item(), rel=0.5)


def test_nothing_of_a_forgotten_label_is_left_in_its_slot(start: Checkpoint) -> None:
    """Its new embedding is a function of the seed and of how long the other embeddings are."""
    after = run("forget", "noise_alignment", start, labels("rows"))
    for side in ("encoder", "decoder"):
        old, new = (one.weights[f"{side}.embedding.label"][0] for one in (start, after))
        assert abs(functional.cosine_similarity(old, new, dim=0)) < 0.7
        assert not torch.equal(old, new)


def test_a_forgotten_label_does_not_come_back_as_others_are_learnt_and_forgotten(start: Checkpoint) -> None:
    after = run("forget", "noise_alignment", start, labels("rows"))
    for label in ("frame", "blot"):
        after = run("learn", "hypernetwork", after, examples(label))
    after = run("forget", "noise_alignment", after, labels("frame"))
    assert likeness(after, "rows") > 0.2
    assert all(likeness(after, label) < 0.08 for label in ("columns", "blot"))


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize(("operation", "name"), [("learn", "hypernetwork"), ("forget", "noise_alignment")])
def test_a_strategy_for_hypernetworks_is_refused_for_other_networks(
    operation: str, name: str, architecture: str
) -> None:
    blank_model = blank(NETWORKS[architecture], seed=0, pixels=64)
    two = with_slots(blank_model, ["rows", "columns"], "stripes", "permanent")
    given, found = examples("frame") if operation == "learn" else labels("rows"), find(operation, name)
    with pytest.raises(NotForArchitecture, match=f"hyper, and this model has {architecture}"):
        apply_strategy(two, found, given, found.Params(), context())
    with pytest.raises(NotForArchitecture, match="architecture `hyper`"):
        found.run(two, given, found.Params(), context())


def drift(before: Checkpoint, after: Checkpoint, names: list[str]) -> float:
    """The squared change of the weights made for these labels."""
    slots = [before.retained[name] for name in names]
    return float(Retention(hypernetwork(after), hypernetwork(before), slots).loss())


def size(checkpoint: Checkpoint, name: str) -> float:
    """The squared norm of the weights made for a label."""
    network = hypernetwork(checkpoint)
    made = [written_out(network, side, checkpoint.retained[name]) for side in SIDES]
    return sum(float(weight.square().sum()) for side in made for weight, _ in side)


def with_embeddings_of(other: Checkpoint, checkpoint: Checkpoint, name: str) -> Checkpoint:
    """The checkpoint with the embeddings and the prior that a label has in another one."""
    slot, weights = checkpoint.label(name).slot, dict(checkpoint.weights)
    for key in weights:
        if key.endswith(".label") or key.startswith("prior_"):
            weights[key] = weights[key].clone()
            weights[key][slot] = other.weights[key][slot]
    return replace(checkpoint, weights=weights)


def likeness(checkpoint: Checkpoint, label: str) -> float:
    """How far a label's mean draw is from its mean picture: mean absolute difference, in [0, 1]."""
    picture = stripes(label).float().mean(dim=0) / 255
    return (draw(checkpoint, label, 200, seed=1).mean(dim=0) - picture).abs().mean().item()
