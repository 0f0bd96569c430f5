import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.learning.tiny import asked, context, run
from worker.learning.networks import build, frozen
from worker.learning.resizing.taylor import (
    Curvature,
    _root_curvature,
    curvature,
    measured_change,
    predicted_change,
    removal_order,
    without,
)
from worker.learning.resizing.taylor_prune import least_missed, replay_set
from worker.learning.resizing.units import seams_of, width
from worker.learning.retention import distillation
from worker.learning.strategy import Stopped

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def draws(two_labels):
    return replay_set(two_labels, 1000, context())


@pytest.fixture(scope="module")
def around(two_labels, draws) -> Curvature:
    return curvature(build(two_labels, CPU), draws, context())


def test_the_curvature_can_be_stopped_between_batches(two_labels, draws):
    seen = []
    attentive = context(on_progress=seen.append, should_stop=lambda: len(seen) == 2)
    with pytest.raises(Stopped, match="curvature at step 2 of 4"):
        curvature(build(two_labels, CPU), draws, attentive)


def test_a_posterior_narrower_than_is_imitated_weighs_as_little_as_in_the_loss(two_labels):
    """Where the log variance is -8, the loss is that of imitating -6: a mean counts e^6 times, not e^8."""
    weights = dict(two_labels.weights)
    layer = max(name for name in weights if name.startswith("encoder.") and name.endswith(".weight"))[:-7]
    heads = weights[f"{layer}.weight"].clone(), weights[f"{layer}.bias"].clone()
    heads[0][2:], heads[1][2:] = 0.0, 10 * math.atanh(-0.8)
    narrow = replace(two_labels, weights=weights | {f"{layer}.weight": heads[0], f"{layer}.bias": heads[1]})
    draws = replay_set(narrow, 500, context())
    network = build(narrow, CPU)
    _, logvar = network.encode(draws[0].images, draws[0].slots)
    assert torch.allclose(logvar, torch.full_like(logvar, -8.0))
    moved = build(narrow, CPU)
    moved.encoder[-1].bias.data[:2] += 1e-2
    change = distillation(moved, network, draws[0]) - distillation(network, network, draws[0])
    of_mean, of_logvar, _ = _root_curvature(logvar, network.decode(draws[0].latents, draws[0].slots))
    assert torch.allclose(0.5 * (of_mean * 1e-2).square().sum(dim=1), change, rtol=1e-2)
    assert torch.allclose(of_logvar.square(), torch.full_like(of_logvar, 0.5 * math.exp(-2)))


def some_units(checkpoint, seed: int, share: float):
    generator = torch.Generator().manual_seed(seed)
    removed = {}
    for seam in seams_of(checkpoint):
        removed[seam.layer] = torch.rand(width(checkpoint, seam), generator=generator) < share
        removed[seam.layer][-1] = False
    return removed


def displaced(checkpoint, removed, means, step: float):
    """The checkpoint a step of the way to being without the units: the displacement d, written out."""
    weights = dict(checkpoint.weights)
    for seam in seams_of(checkpoint):
        outgoing = weights[f"{seam.following}.weight"]
        gone = outgoing * removed[seam.layer]
        weights[f"{seam.following}.weight"] = outgoing - step * gone
        fold = step * gone @ means[seam.layer]
        weights[f"{seam.following}.bias"] = weights[f"{seam.following}.bias"] + fold
    return replace(checkpoint, weights=weights)


def test_the_whole_displacement_is_the_removal_of_the_units(two_labels, around, draws):
    removed = some_units(two_labels, 0, 0.3)
    one = without(two_labels, removed, around)
    other = displaced(two_labels, removed, around.mean_activation, 1.0)
    expected = measured_change(two_labels, other, draws, CPU)
    assert measured_change(two_labels, one, draws, CPU) == pytest.approx(expected, rel=1e-3)


def exact_second_order(checkpoint, removed, means, batches) -> float:
    """g.d + 1/2 d'Hd by one backward and one Hessian-vector product over all parameters: the slow oracle."""
    end = displaced(checkpoint, removed, means, 1.0).weights
    network, teacher = build(checkpoint, CPU).double(), frozen(checkpoint, CPU).double()
    parameters = dict(network.named_parameters())
    move = [(end[name] - checkpoint.weights[name]).double() for name in parameters]
    doubles = [
        batch._replace(images=batch.images.double(), latents=batch.latents.double()) for batch in batches
    ]
    exact = [batch._replace(images=teacher.decode(batch.latents, batch.slots).sigmoid()) for batch in doubles]
    loss = torch.cat([distillation(network, teacher, batch) for batch in exact]).mean()
    first = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    along = sum((g * d).sum() for g, d in zip(first, move, strict=True))
    second = torch.autograd.grad(along, list(parameters.values()))
    assert along.item() == pytest.approx(0, abs=1e-9), "the network is its own teacher"
    return along.item() + 0.5 * sum((h * d).sum() for h, d in zip(second, move, strict=True)).item()


@pytest.mark.parametrize("seed", range(4))
def test_the_prediction_is_the_second_order_expansion_of_the_loss(seed, two_labels, around, draws):
    removed = some_units(two_labels, seed, 0.25)
    exact = exact_second_order(two_labels, removed, around.mean_activation, draws)
    assert predicted_change(around, removed) == pytest.approx(exact, rel=0.15)


def test_the_prediction_ranks_sets_of_units_as_their_removal_does(two_labels, around, draws):
    sets = [some_units(two_labels, seed, 0.2) for seed in range(30)]
    predicted = torch.tensor([predicted_change(around, removed) for removed in sets])
    measured = torch.tensor(
        [measured_change(two_labels, without(two_labels, one, around), draws, CPU) for one in sets]
    )
    ranks = torch.stack([values.argsort().argsort().double() for values in (predicted, measured)])
    assert torch.corrcoef(ranks)[0, 1] >= 0.8


def test_removing_nothing_costs_nothing(two_labels, around, draws):
    nothing = some_units(two_labels, 0, 0.0)
    assert predicted_change(around, nothing) == 0
    assert measured_change(two_labels, without(two_labels, nothing, around), draws, CPU) == 0


def test_the_order_of_removal_adds_up_to_the_prediction_of_the_whole_set(around):
    order = removal_order(around, around.widths)
    for count in (1, 7, len(order.units)):
        removed = order.first(count, around.widths)
        assert sum(int(gone.sum()) for gone in removed.values()) == count
        assert order.changes[count - 1] == pytest.approx(predicted_change(around, removed), rel=1e-3)


def test_every_removal_is_the_cheapest_of_those_left(around):
    """Against trying them all, one by one."""
    order = removal_order(around, around.widths, 5)
    for count, named in enumerate(order.units):
        trials = {}
        for other, width_ in around.widths.items():
            for index in range(width_):
                trial = order.first(count, around.widths)
                if not trial[other][index]:
                    trial[other][index] = True
                    trials[other, index] = predicted_change(around, trial)
        assert named == min(trials, key=trials.get)


def test_a_layer_always_keeps_a_unit_and_no_more_are_taken_than_allowed(around):
    assert len(removal_order(around, around.widths).units) == sum(around.widths.values()) - len(around.widths)
    most = {layer: index for index, layer in enumerate(around.widths)}
    order = removal_order(around, most)
    assert Counter(layer for layer, _ in order.units) == Counter(most)


def test_units_that_serve_only_a_forgotten_label_go_first(two_labels):
    """A unit that speaks for no label held is missed by none of the replay."""
    weights = {name: tensor.clone() for name, tensor in two_labels.weights.items()}
    weights["decoder.0.weight"][:3] = 0
    weights["decoder.0.bias"][:3] = -20  # silu(-20) is nothing
    weights["decoder.0.label"][0, :3] = 30  # ... unless label 0 is asked for
    weights["decoder.1.weight"][:, :3] = 5
    only_rows = replace(two_labels, weights=weights).with_status(["rows"], "forgotten")
    around = curvature(build(only_rows, CPU), replay_set(only_rows, 500, context()), context())
    gone = least_missed(around, 0.25, "layer")["decoder.0"]
    assert gone.nonzero().flatten().tolist() == [0, 1, 2]


def test_taylor_pruning_removes_the_share_of_every_layer_or_of_all_units_together(two_labels):
    each = run("resize", "taylor_prune", two_labels, asked(), share=0.25)
    assert each.widths == {"encoder": [18, 9], "decoder": [9, 18]}
    together = run("resize", "taylor_prune", two_labels, asked(), share=0.25, scope="network")
    widths = [units for side in together.widths.values() for units in side]
    assert sum(widths) == 54
    assert widths != [18, 9, 9, 18]
