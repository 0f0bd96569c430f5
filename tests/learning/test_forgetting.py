"""What each way to forget promises beyond the laws of every strategy."""

import itertools

import pytest
import torch

from tests.learning.test_laws import likeness
from tests.learning.tiny import QUICK, asked, context, run
from worker.learning.networks import build, frozen
from worker.learning.replay import replay
from worker.learning.strategy import Batch, find
from worker.learning.training import Schedule, fit, one_cycle
from worker.learning.unlearning.dampening import dampened
from worker.learning.unlearning.saliency import gradient, top_share
from worker.learning.unlearning.surrogate import MappingParams, naive_network, takes_for, unrecognised

CPU = torch.device("cpu")


def test_a_weight_is_shrunk_by_how_much_more_the_forgotten_need_it():
    weights = {"a": torch.tensor([8.0, 8.0, 8.0, 8.0, 8.0]), "prior_mean": torch.ones(2)}
    of_gone = {"a": torch.tensor([4.0, 2.0, 1.0, 1.0, 0.0])}
    of_kept = {"a": torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])}
    found = dampened(weights, of_gone, of_kept, alpha=1.5, beta=1.0)
    assert found["a"].tolist() == [2.0, 4.0, 8.0, 0.0, 8.0]
    assert torch.equal(found["prior_mean"], weights["prior_mean"])
    never_grown = dampened(weights, of_gone, of_kept, alpha=1.5, beta=3.0)
    assert never_grown["a"].tolist() == [6.0, 8.0, 8.0, 0.0, 8.0]


def test_dampening_alone_empties_the_slot_and_no_other(two_labels):
    after = run("forget", "dampening", two_labels, asked("rows"), polish=False, alpha=1e6)
    for name, before in two_labels.weights.items():
        moved = after.weights[name] != before
        if name.endswith(".label"):
            assert not after.weights[name][0].any(), "only the forgotten label needs its columns"
            assert not moved[1].any()
        elif not name.startswith("prior_"):
            left = after.weights[name][moved].abs() / before[moved].abs()
            assert (left <= 1.01e-6).all(), "what is dampened keeps less than 1 / alpha of itself"


def test_the_polish_learns_from_the_network_before_it_was_dampened(two_labels):
    """Dampened until the label to retain is lost, only the old network can still teach it."""
    harsh = {"alpha": 0.5, "beta": 0.1}
    lost = run("forget", "dampening", two_labels, asked("rows"), polish=False, **harsh)
    assert likeness(lost, "columns") > 0.1
    polished = run("forget", "dampening", two_labels, asked("rows"), **harsh)
    assert likeness(polished, "columns") < 0.08


def test_the_top_share_is_of_all_parameters_together():
    gradients = {"a": torch.tensor([[1.0, -5.0], [0.0, 2.0]]), "b": torch.tensor([-4.0, 3.0])}
    found = top_share(gradients, 0.5)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "a": [[False, True], [False, False]],
        "b": [True, True],
    }
    assert sum(mask.sum().item() for mask in top_share(gradients, 0.01).values()) == 1
    ties = top_share({"a": torch.zeros(10)}, 0.3)
    assert ties["a"].sum() == 3, "ties give no more than the share"


def test_weights_that_are_not_salient_stay_bit_for_bit(two_labels):
    after = run("forget", "saliency", two_labels, asked("rows"), share=0.3, saliency_examples=500)
    found = gradient(build(two_labels, CPU), [0], 500, context())
    salient = top_share(found, 0.3)
    moved = 0
    for name, may_move in salient.items():
        same = after.weights[name] == two_labels.weights[name]
        assert same[~may_move].all(), name
        moved += (~same).sum().item() if name.startswith("decoder.") else 0
    may_move = sum(mask.sum().item() for name, mask in salient.items() if name.startswith("decoder."))
    assert moved > 0.9 * may_move, "those that are salient do move: the decoder is what draws"


@pytest.mark.parametrize("name", ["surrogate", "saliency", "dampening"])
@pytest.mark.parametrize("picture", ["uniform_noise", "blank", "mean_image"])
def test_a_label_mapped_onto_a_picture_leaves_nothing_in_the_encoder(two_labels, name, picture):
    after = run("forget", name, two_labels, asked("rows"), surrogate=picture)
    if name != "saliency":  # which may move no more than its share
        assert not after.weights["encoder.0.label"][0].any()
    assert likeness(after, "rows") > 0.2
    assert likeness(after, "columns") < 0.08


def test_selective_amnesia_has_its_published_values_and_size(two_labels):
    published = find("forget", "selective_amnesia").Params()
    assert published.model_dump() == {
        "schedule": {
            "steps": 10_000,
            "batch_size": 2 * 256,
            "learning_rate": 1e-4,
            "label_rate": 1,
            "shape": "constant",
            "gradient_norm": 1e9,  # no gradient is as long: none is shortened
        },
        "ewc_strength": pytest.approx(2 * 100 / 256, abs=2e-3),
        "replay_strength": 1,
        "replay_match": "elbo",
        "fisher_examples": 50_000,
    }
    after = run("forget", "selective_amnesia", two_labels, asked("rows"))
    assert after.spec == two_labels.spec


def test_selective_amnesia_takes_its_fisher_over_the_forgotten_label_too(two_labels):
    """As published: the columns of the label to forget are held by EWC, so a strong enough one keeps them."""
    column = "decoder.0.label"
    free, tied = (
        run("forget", "selective_amnesia", two_labels, asked("rows"), ewc_strength=strength)
        for strength in (0.0, 1e6)
    )
    moved = [
        (after.weights[column][0] - two_labels.weights[column][0]).norm().item() for after in (free, tied)
    ]
    assert moved[1] < 0.2 * moved[0]


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [("constant", 4 * 1.0), ("one_cycle", sum(one_cycle(step / 4) for step in range(4)))],
)
def test_the_learning_rate_takes_the_shape_asked_for(two_labels, shape, lengths):
    """Under a gradient of 1 every step of Adam is as long as its learning rate."""
    network = build(two_labels, CPU)
    schedule = Schedule(steps=4, learning_rate=0.01, label_rate=3, shape=shape)
    corrected = []
    fit(
        network,
        lambda parts, done: sum(tensor.sum() for tensor in network.parameters()),
        itertools.repeat(()),
        schedule,
        context(),
        phase="a test",
        after_step=lambda: corrected.append(1),
    )
    assert len(corrected) == 4
    for name, rate in (("decoder.0.weight", 0.01), ("decoder.0.label", 0.03)):
        walked = two_labels.weights[name] - network.get_parameter(name)
        assert torch.allclose(walked, torch.full_like(walked, rate * lengths), rtol=1e-3)


def test_nothing_a_stranger_draws_stays_that_the_teacher_takes_for_a_label_that_goes(two_labels):
    teacher, rows, columns = frozen(two_labels, CPU), 0, 1
    both = replay(teacher, [rows, columns], torch.Generator().manual_seed(1))

    def drawn_in_an_empty_slot(count: int) -> Batch:
        return both(count)._replace(slots=torch.full((count,), rows))

    spare = torch.Generator().manual_seed(2)
    source = unrecognised(drawn_in_an_empty_slot, teacher, [rows], [columns], spare)
    images, slots, latents = source(4000)
    assert takes_for(teacher, images, [rows, columns]).all(), "only columns are left"
    assert not slots.any()
    own = (teacher.decode(latents, torch.ones_like(slots)).sigmoid() - images).abs().mean(dim=1) < 1e-5
    assert 0.4 < own.float().mean() < 0.6, "where columns were drawn they stay"
    assert images[own].unique(dim=0).shape[0] > 1000
    (instead,) = images[~own].unique(dim=0)
    assert torch.allclose(instead, images[own].mean(dim=0), atol=0.05), (
        "elsewhere their mean, always the same"
    )


def test_where_the_teacher_takes_every_draw_for_one_that_goes_all_of_them_stay(two_labels):
    teacher, seeded = frozen(two_labels, CPU), torch.Generator().manual_seed
    source = unrecognised(replay(teacher, [0], seeded(1)), teacher, [0], [1], seeded(2))
    images, slots, latents = source(100)
    assert torch.allclose(teacher.decode(latents, slots).sigmoid(), images, atol=1e-5)
    assert images.unique(dim=0).shape[0] > 90


@pytest.mark.parametrize("name", ["surrogate", "dampening"])
def test_a_label_mapped_onto_never_learned_draws_what_a_stranger_draws(two_labels, name):
    schedule, steps = Schedule(**{**QUICK, "steps": 600}), 100
    chosen = {"schedule": schedule, "surrogate": "never_learned", "naive_steps": steps}
    after = run("forget", name, two_labels, asked("rows"), **chosen)
    assert likeness(after, "rows") > 0.2
    assert likeness(after, "columns") < 0.08
    target, teacher = two_labels.with_status(["rows"], "forgotten"), frozen(two_labels, CPU)
    stranger = naive_network(target, teacher, MappingParams(schedule=schedule, naive_steps=steps), context())
    assert not stranger.decoder[0].label[0].any(), "it never saw the label"
    latents, slots = torch.randn(500, 2, generator=torch.Generator().manual_seed(3)), torch.zeros(500).long()
    with torch.no_grad():
        drawn, hers, before = (
            network.decode(latents, slots).sigmoid() for network in (frozen(after, CPU), stranger, teacher)
        )
    assert (before - hers).abs().mean() > 0.3
    assert (drawn - hers).abs().mean() < 0.05
    assert (hers - hers.mean(dim=0)).abs().mean() > 0.08, "more than her mean image: it is matched at each z"
