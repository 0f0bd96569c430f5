"""The references: what training from real images, and never having seen a label, must mean."""

import pytest
import torch

from tests.learning.tiny import TinyArchive, asked, context, examples, quick, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.der import dark_and_bound
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build
from worker.learning.replay import replay
from worker.learning.resizing.capacity import units_needed
from worker.learning.strategy import TrainingContext, find

NAMES = ("rows", "columns", "frame")


class Ancestry(TinyArchive):
    """An archive whose newest fitting ancestor is the one given; it remembers what it was asked for."""

    def __init__(self, ancestor: Checkpoint) -> None:
        self.ancestor, self.asked = ancestor, []

    def images(self, label):
        self.asked.append(label.name)
        return super().images(label)

    def newest_without(self, names) -> Checkpoint:
        self.asked.append(sorted(names))
        return self.ancestor


def forget_exactly(
    checkpoint: Checkpoint, archive: Ancestry, *names: str
) -> tuple[Checkpoint, TrainingContext]:
    found = find("forget", "retrain")
    training = TrainingContext(torch.device("cpu"), 0, archive)
    return found.run(checkpoint, asked(*names), found.Params(**quick(found)), training), training


def test_exact_forgetting_remembers_what_is_held_though_there_was_nothing_to_learn_again(two_labels):
    """Without EWC too: whoever learns next finds a Fisher, as after every forgetting (a receipt says so)."""
    ancestor = two_labels.with_status(["rows"], "forgotten")
    found = find("forget", "retrain")
    params = found.Params(**{**quick(found), "ewc_strength": 0.0})
    after = found.run(
        two_labels, asked("rows"), params, TrainingContext(torch.device("cpu"), 0, Ancestry(ancestor))
    )
    assert after.fisher is not None
    assert list(after.held) == ["columns"]


def test_retraining_learns_nothing_from_the_weights_it_replaces(two_labels):
    """Other weights, the same labels: the same reference."""
    other = Checkpoint(
        two_labels.spec, {name: 2 * tensor for name, tensor in two_labels.weights.items()}, two_labels.labels
    )
    one, same = (run("learn", "retrain", start, examples("frame")) for start in (two_labels, other))
    assert one.to_bytes() == same.to_bytes()


def test_exact_forgetting_is_a_function_of_the_ancestor_and_the_real_images_alone(two_labels):
    """Whatever the network that saw the label has become, not a bit of it is in the result."""
    ancestor = TinyArchive().newest_without([])
    other = Checkpoint(
        two_labels.spec, {name: 3 * tensor for name, tensor in two_labels.weights.items()}, two_labels.labels
    )
    (one, training), (same, _) = (
        forget_exactly(start, Ancestry(ancestor), "rows") for start in (two_labels, other)
    )
    assert one.to_bytes() == same.to_bytes()
    assert training.findings == {"guarantee": "exact"}


def test_the_chances_since_an_ancestor_are_those_of_what_is_asked_and_of_the_ancestor_alone(
    empty, two_labels
):
    def chances(seed: int, ancestor: Checkpoint | None, asked: int | None = None) -> int:
        return TrainingContext(torch.device("cpu"), seed, asked=asked).with_seed_from(ancestor).seed

    assert chances(1, empty, asked=7) == chances(2, empty, asked=7), "a seed keyed by what saw the label"
    assert len({chances(1, one, asked=7) for one in (None, empty, two_labels)}) == 3
    assert chances(1, empty, asked=7) != chances(1, empty, asked=8)
    assert chances(1, empty) != chances(2, empty), "outside a worker, the seed is all that is asked"


def test_exact_forgetting_asks_only_for_the_images_its_ancestor_lacks(two_labels):
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    archive = Ancestry(two_labels)
    after, _ = forget_exactly(three, archive, "frame")
    assert archive.asked == [["frame"]]
    assert after.held == two_labels.held
    assert after.forgotten == {"frame": 2}
    for name, tensor in two_labels.weights.items():
        assert torch.equal(after.weights[name][: len(tensor)], tensor), "there was nothing to learn again"


def test_exact_forgetting_never_starts_from_what_saw_an_earlier_forgotten_label(two_labels):
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    gone = run("forget", "surrogate", three, asked("rows"))
    archive = Ancestry(TinyArchive().newest_without([]))
    after, _ = forget_exactly(gone, archive, "frame")
    assert archive.asked == [["frame", "rows"], "columns"]
    assert after.held == {"columns": 1}


def test_exact_forgetting_never_starts_from_an_earlier_life_of_a_label_it_holds(two_labels):
    """Columns were forgotten once and learnt again: what saw their first life is no place to start."""
    once = run("forget", "surrogate", two_labels, asked("columns"))
    again = run("learn", "replay_ewc", once, examples("columns", "frame"))
    archive = Ancestry(TinyArchive().newest_without([]))
    after, _ = forget_exactly(again, archive, "frame")
    assert archive.asked == [["columns", "frame"], "columns", "rows"]
    assert after.held == {"rows": 0, "columns": 1}


def test_a_distilled_network_inherits_no_weight_and_nothing_in_the_forgotten_slot(two_labels):
    after = run("forget", "distill", two_labels, asked("rows"), width_share=0.5)
    assert after.widths == {"encoder": [12, 6], "decoder": [6, 12]}
    assert torch.equal(after.weights["prior_mean"][1], two_labels.weights["prior_mean"][1])
    for name in ("encoder.0.label", "decoder.0.label"):
        assert after.weights[name][0].abs().sum() == 0, "it was never trained"


@pytest.mark.parametrize("reserve", [0.0, 0.45])
def test_a_distilled_network_is_as_wide_as_what_is_retained_needs_and_no_wider_than_it_was(
    reserve, two_labels
):
    """The reserve is a share of the default network, which is ten times as wide as this one."""
    found, training = find("forget", "distill"), context()
    params = found.Params(**quick(found), size="auto", reserve=reserve)
    after = found.run(two_labels, asked("rows"), params, training)
    width = training.findings["fresh_width"]
    ranks = width["signals"]["effective_rank"]
    assert width["signals"]["labels"] == 1
    needed = units_needed(sum(ranks.values()), two_labels.spec, reserve=reserve)
    assert width["signals"]["units_needed"] == needed
    units = sum((*after.spec.encoder_widths, *after.spec.decoder_widths))
    assert (needed < 72) == (reserve == 0.0)
    assert units == pytest.approx(min(needed, 72), abs=2), "four layers are rounded"
    assert width["chosen"] == after.widths
    assert "measured_loss_change" in width


def test_dark_replay_costs_nothing_but_the_bound_where_the_network_is_its_teacher(two_labels):
    network = build(two_labels, torch.device("cpu")).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    batch = replay(network, [0, 1], generator)(20)
    noise = network.noise(batch.slots, generator)
    dark, bound = dark_and_bound(network, network, batch, noise)
    assert torch.allclose(dark, torch.zeros(20), atol=1e-8)
    assert torch.equal(bound, negative_elbo(network, batch.images, batch.slots, noise))
    moved = build(two_labels, torch.device("cpu")).requires_grad_(False)
    moved.decoder[-1].bias += 0.1
    expected = moved.decode(batch.latents, batch.slots).sigmoid() - batch.images
    dark, _ = dark_and_bound(moved, network, batch, noise)
    assert torch.allclose(dark, expected.square().sum(dim=1), rtol=1e-5)
