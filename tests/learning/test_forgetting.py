"""What each strategy for forgetting promises beyond the laws of every strategy."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.learning.test_laws import likeness
from tests.learning.tiny import CPU, QUICK, context, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.distillation import match_others
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.replay_losses import decoder_loss, latents_of
from worker.learning.slots import with_slots
from worker.learning.sources import generative_replay
from worker.learning.strategy import Batch, find
from worker.learning.streams import Stream
from worker.learning.surrogates import SURROGATE_DRAWS, most_likely_slot, naive_network, unrecognised
from worker.learning.training import RateShape, Schedule, fit
from worker.learning.unlearning.dampening import dampen
from worker.learning.unlearning.saliency import mean_gradient, top_share


def test_a_weight_shrinks_by_how_much_more_the_forgotten_labels_need_it() -> None:
    weights = {"a": torch.tensor([8.0, 8.0, 8.0, 8.0, 8.0]), "prior_mean": torch.ones(2)}
    forget_fisher = {"a": torch.tensor([4.0, 2.0, 1.0, 1.0, 0.0])}
    retain_fisher = {"a": torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])}
    found = dampen(weights, forget_fisher, retain_fisher, alpha=1.5, beta=1.0)
    assert found["a"].tolist() == [2.0, 4.0, 8.0, 0.0, 8.0]
    assert torch.equal(found["prior_mean"], weights["prior_mean"])
    never_larger = dampen(weights, forget_fisher, retain_fisher, alpha=1.5, beta=3.0)
    assert never_larger["a"].tolist() == [6.0, 8.0, 8.0, 0.0, 8.0]


def test_dampening_without_repair_empties_the_slot_and_no_other(two_labels: Checkpoint) -> None:
    after = run("forget", "dampening", two_labels, labels("rows"), repair=False, alpha=1e6)
    for name, before in two_labels.weights.items():
        moved = after.weights[name] != before
        if name.endswith(".label"):
            assert not after.weights[name][0].any(), "only the forgotten label needs its columns"
            assert not moved[1].any()
        elif not name.startswith("prior_"):
            left = after.weights[name][moved].abs() / before[moved].abs()
            assert (left <= 1.01e-6).all(), "what is dampened keeps less than 1 / alpha of itself"


def test_the_repair_learns_from_the_network_before_it_was_dampened(two_labels: Checkpoint) -> None:
    """Dampened until the retained label is lost: only the old network can still teach it."""
    harsh: dict[str, Any] = {"alpha": 0.5, "beta": 0.1}
    lost = run("forget", "dampening", two_labels, labels("rows"), repair=False, **harsh)
    assert likeness(lost, "columns") > 0.1
    repaired = run("forget", "dampening", two_labels, labels("rows"), **harsh)
    assert likeness(repaired, "columns") < 0.6 * likeness(lost, "columns"), "as far as fixed weights allow"


def test_the_repair_of_a_dampened_network_asks_nothing_of_the_forgotten_label(
    two_labels: Checkpoint,
) -> None:
    """So it is the dampening alone that makes the network forget."""
    nothing_dampened = match_others(
        two_labels, ["rows"], two_labels.with_status(["rows"], "forgotten"), Schedule(**QUICK), context()
    )
    assert likeness(nothing_dampened, "rows") < 0.08, "the repair alone leaves it as it was"
    dampened, repaired = (
        run("forget", "dampening", two_labels, labels("rows"), repair=repair) for repair in (False, True)
    )
    for name, tensor in build(two_labels, CPU).named_parameters():
        shrunk = dampened.weights[name] != tensor
        assert torch.equal(repaired.weights[name][shrunk], dampened.weights[name][shrunk]), "as it was left"
    for name in ("encoder.0.label", "decoder.0.label"):
        assert not repaired.weights[name][0].any(), "the emptied slot stays empty"


def test_the_top_share_is_of_all_parameters_together() -> None:
    gradients = {"a": torch.tensor([[1.0, -5.0], [0.0, 2.0]]), "b": torch.tensor([-4.0, 3.0])}
    found = top_share(gradients, 0.5)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "a": [[False, True], [False, False]],
        "b": [True, True],
    }
    assert sum(mask.sum().item() for mask in top_share(gradients, 0.01).values()) == 1
    ties = top_share({"a": torch.zeros(10)}, 0.3)
    assert ties["a"].sum() == 3, "ties give no more than the share"


def surrogate_of(checkpoint: Checkpoint, network: Network) -> Stream:
    """What a naive network draws for rows, and the loss that maps rows onto it."""
    target, teacher = checkpoint.with_status(["rows"], "forgotten"), frozen(checkpoint, CPU)
    replayed = generative_replay(teacher, [1], torch.Generator().manual_seed(2))
    naive = naive_network(target, replayed, 50, 32, context())
    return Stream(generative_replay(naive, [0], torch.Generator().manual_seed(1)), 1.0, decoder_loss(network))


def test_the_gradient_of_forgetting_is_that_of_the_loss_that_maps_the_label_elsewhere(
    two_labels: Checkpoint,
) -> None:
    """Its mean does not vanish with more examples, as that of the label's own draws does."""
    network = build(two_labels, CPU)

    def half(seed: int) -> dict[str, Tensor]:
        return mean_gradient(network, surrogate_of(two_labels, network), 500, context(seed))

    first, second = (torch.cat([one.flatten() for one in half(seed).values()]) for seed in (1, 2))
    assert torch.nn.functional.cosine_similarity(first, second, dim=0) > 0.95, "noise would not agree"
    assert not any(one.any() for name, one in half(1).items() if name.startswith("encoder."))


@pytest.mark.parametrize("mask", ["gradient", "random"])
def test_weights_outside_the_mask_stay_bit_for_bit(two_labels: Checkpoint, mask: str) -> None:
    share = 0.1
    after = run("forget", "saliency", two_labels, labels("rows"), share=share, mask=mask)
    moved, total = 0, 0
    for name, tensor in build(two_labels, CPU).named_parameters():
        if name == "encoder.0.label":
            assert not after.weights[name][0].any(), "nothing trains it, so it is emptied"
            continue
        moved += int((after.weights[name] != two_labels.weights[name]).sum())
        total += tensor.numel()
    assert 0 < moved <= share * (total + 24 * 2), "no more than the share moved"
    if mask == "gradient":
        assert moved > 0.9 * share * total, "those that are salient do move"


@pytest.mark.parametrize("name", ["surrogate", "saliency"])
@pytest.mark.parametrize("picture", ["uniform_noise", "blank", "mean_image"])
def test_a_label_mapped_onto_a_picture_leaves_nothing_in_the_encoder(
    two_labels: Checkpoint, name: str, picture: str
) -> None:
    after = run("forget", name, two_labels, labels("rows"), surrogate=picture)
    assert not after.weights["encoder.0.label"][0].any()
    assert likeness(after, "rows") > 0.2
    assert likeness(after, "columns") < 0.08


def test_selective_amnesia_has_its_published_values_and_size(two_labels: Checkpoint) -> None:
    published = find("forget", "selective_amnesia").Params()
    assert published.model_dump() == {
        "schedule": {
            "steps": 10_000,
            "batch_size": 2 * 256,
            "learning_rate": 1e-4,
            "label_rate": 1,
            "encoder_rate": 1,
            "shape": "constant",
            "beta2": 0.999,
            "gradient_norm": 1e9,  # no gradient is as long, so none is scaled down
        },
        "ewc_strength": pytest.approx(2 * 100 / 256, abs=2e-3),
        "replay_strength": 1,
        "replay_match": "elbo",
        "fisher_examples": 50_000,
    }
    after = run("forget", "selective_amnesia", two_labels, labels("rows"))
    assert after.spec == two_labels.spec


def test_selective_amnesia_takes_its_fisher_over_the_forgotten_label_too(two_labels: Checkpoint) -> None:
    """As published: EWC holds the columns of the label to forget too, so a strong penalty keeps them."""
    column = "decoder.0.label"
    free, tied = (
        run("forget", "selective_amnesia", two_labels, labels("rows"), ewc_strength=strength)
        for strength in (0.0, 1e6)
    )
    moved = [
        (after.weights[column][0] - two_labels.weights[column][0]).norm().item() for after in (free, tied)
    ]
    assert moved[1] < 0.2 * moved[0]


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        ("constant", 4.0),
        ("one_cycle", 0.04 + sum(0.5 + 0.5 * math.cos(math.pi * (n / 4 - 0.1) / 0.9) for n in (1, 2, 3))),
        ("linear", 0.04 + sum((1 - n / 4) / 0.9 for n in (1, 2, 3))),
    ],
)
def test_the_learning_rate_takes_the_requested_shape(
    two_labels: Checkpoint, shape: RateShape, lengths: float
) -> None:
    """Under a gradient of 1 every step of Adam is as long as its learning rate."""
    network = build(two_labels, CPU)
    schedule = Schedule(steps=4, learning_rate=0.01, label_rate=3, encoder_rate=2, shape=shape)
    corrected: list[int] = []
    fit(
        network,
        lambda parts, done: torch.stack([tensor.sum() for tensor in network.parameters()]).sum(),
        itertools.repeat(()),
        schedule,
        context(),
        phase="testing",
        after_step=lambda: corrected.append(1),
    )
    assert len(corrected) == 4
    rates = {
        "decoder.0.weight": 0.01,
        "decoder.0.label": 0.03,
        "encoder.0.weight": 0.02,
        "encoder.0.label": 0.06,
    }
    for name, rate in rates.items():
        walked = two_labels.weights[name] - network.get_parameter(name)
        assert torch.allclose(walked, torch.full_like(walked, rate * lengths), rtol=1e-3)


def test_no_draw_of_a_naive_network_stays_that_the_teacher_takes_for_a_label_to_forget(
    two_labels: Checkpoint,
) -> None:
    teacher, rows, columns = frozen(two_labels, CPU), 0, 1
    both = generative_replay(teacher, [rows, columns], torch.Generator().manual_seed(1))

    def drawn_in_an_untrained_slot(count: int) -> Batch:
        return both(count)._replace(slots=torch.full((count,), rows))

    spare = torch.Generator().manual_seed(2)
    source = unrecognised(drawn_in_an_untrained_slot, teacher, [rows], [columns], spare)
    images, slots, *_ = batch = source(4000)
    assert most_likely_slot(teacher, images, [rows, columns]).all(), "only columns are left"
    assert not slots.any()
    own = (teacher.decode(latents_of(batch), torch.ones_like(slots)).sigmoid() - images).abs().mean(
        dim=1
    ) < 1e-5
    assert 0.4 < own.float().mean() < 0.6, "where columns were drawn they stay"
    assert images[own].unique(dim=0).shape[0] > SURROGATE_DRAWS / 3
    (replacement,) = images[~own].unique(dim=0)
    assert torch.allclose(replacement, images[own].mean(dim=0), atol=0.05), (
        "elsewhere their mean, always the same"
    )


def test_draws_of_each_slot_are_replaced_by_the_mean_of_its_own(two_labels: Checkpoint) -> None:
    teacher, rows, columns, empty = (
        frozen(with_slots(two_labels, ["empty"], "stripes", "forgotten"), CPU),
        0,
        1,
        2,
    )
    both = generative_replay(teacher, [rows, columns], torch.Generator().manual_seed(1))

    def drawn_in_two_slots(count: int) -> Batch:
        batch, slots = both(count), torch.tensor([rows, empty]).repeat(count)[:count]
        return batch._replace(images=torch.where(slots[:, None] == empty, 0.9, 1) * batch.images, slots=slots)

    found = drawn_in_two_slots(SURROGATE_DRAWS)
    taken = most_likely_slot(teacher, found.images, [rows, empty, columns]) < 2
    assert 0.3 < taken.float().mean() < 0.7
    source = unrecognised(drawn_in_two_slots, teacher, [rows, empty], [columns], torch.Generator())
    images, slots, *_ = source(4000)
    replacements = []
    for slot, brightest in ((rows, 1.0), (empty, 0.9)):
        pictures, counts = images[slots == slot].unique(dim=0, return_counts=True)
        replacements.append(pictures[counts.argmax()])
        assert counts.max() > 0.2 * counts.sum(), "the same picture for the whole slot"
        assert 0.7 * brightest < replacements[-1].max() <= brightest
    assert (replacements[0] - replacements[1]).abs().max() > 0.05


def test_if_the_teacher_takes_every_draw_for_a_label_to_forget_all_of_them_stay(
    two_labels: Checkpoint,
) -> None:
    teacher, seeded = frozen(two_labels, CPU), torch.Generator().manual_seed
    source = unrecognised(generative_replay(teacher, [0], seeded(1)), teacher, [0], [1], seeded(2))
    images, slots, *_ = batch = source(100)
    assert torch.allclose(teacher.decode(latents_of(batch), slots).sigmoid(), images, atol=1e-5)
    assert images.unique(dim=0).shape[0] > 90


def test_a_label_mapped_onto_never_learned_draws_what_a_naive_network_draws(two_labels: Checkpoint) -> None:
    schedule, steps = Schedule(**{**QUICK, "steps": 600}), 100
    chosen: dict[str, Any] = {"schedule": schedule, "surrogate": "never_learned", "naive_steps": steps}
    after = run("forget", "surrogate", two_labels, labels("rows"), **chosen)
    assert likeness(after, "rows") > 0.2
    assert likeness(after, "columns") < 0.08
    target, teacher = two_labels.with_status(["rows"], "forgotten"), frozen(two_labels, CPU)
    replayed = generative_replay(teacher, [1], torch.Generator().manual_seed(0))
    naive = naive_network(target, replayed, steps, schedule.batch_size, context())
    assert not naive.get_parameter("decoder.0.label")[0].any(), "it never saw the label"
    latents, slots = torch.randn(500, 2, generator=torch.Generator().manual_seed(3)), torch.zeros(500).long()
    with torch.no_grad():
        drawn, naively, before = (
            network.decode(latents, slots).sigmoid() for network in (frozen(after, CPU), naive, teacher)
        )
    assert (before - naively).abs().mean() > 0.3
    assert (drawn - naively).abs().mean() < 0.05
    assert (naively - naively.mean(dim=0)).abs().mean() > 0.08, "more than its mean image: each z is matched"
