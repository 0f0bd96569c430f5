"""Training from real images and exact forgetting: what may have a part in the result, and what may not."""

from collections.abc import Collection

import pytest
import torch
from torch import Tensor

from tests.learning.tiny import CPU, TinyArchive, context, examples, labels, quick, run
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.continual.der import squared_errors_and_negative_elbo
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build
from worker.learning.replay_losses import latents_of
from worker.learning.sources import generative_replay
from worker.learning.strategy import Outcome, TrainingContext, find
from worker.learning.units.capacity import units_needed


class Ancestry(TinyArchive):
    """An archive whose newest fitting ancestor is the one given; it records what is requested of it."""

    def __init__(self, ancestor: Checkpoint) -> None:
        super().__init__()
        self.ancestor = ancestor
        self.requests: list[str | list[str]] = []

    def images(self, label: Label) -> Tensor:
        self.requests.append(label.name)
        return super().images(label)

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        self.requests.append(sorted(names))
        return self.ancestor


def forget_exactly(
    checkpoint: Checkpoint, archive: Ancestry, *names: str, **params: float
) -> tuple[Checkpoint, TrainingContext]:
    found, training = find("forget", "retrain"), TrainingContext(CPU, 0, archive)
    sent = found.Params.model_validate(quick(found) | params)
    return found.run(checkpoint, labels(*names), sent, training), training


def with_scaled_weights(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    weights = {name: factor * tensor for name, tensor in checkpoint.weights.items()}
    return Checkpoint(checkpoint.spec, weights, checkpoint.labels)


def test_exact_forgetting_computes_no_fisher_where_there_is_nothing_to_learn_again(
    two_labels: Checkpoint,
) -> None:
    ancestor = two_labels.with_status(["rows"], "forgotten")
    after, _ = forget_exactly(two_labels, Ancestry(ancestor), "rows", ewc_strength=1.0)
    assert after.fisher is None, "no penalty uses it, and no version is stored with it"
    assert list(after.retained) == ["columns"]


def test_retraining_learns_nothing_from_the_weights_it_replaces(two_labels: Checkpoint) -> None:
    """Other weights with the same labels give the same reference."""
    starts = (two_labels, with_scaled_weights(two_labels, 2))
    one, same = (run("learn", "retrain", start, examples("frame")) for start in starts)
    assert one.to_bytes() == same.to_bytes()


def test_exact_forgetting_is_a_function_of_the_ancestor_and_the_real_images_alone(
    two_labels: Checkpoint,
) -> None:
    """Whatever the network that saw the label has become, not a bit of it is in the result."""
    ancestor = TinyArchive().newest_without([])
    starts = (two_labels, with_scaled_weights(two_labels, 3))
    (one, training), (same, _) = (forget_exactly(start, Ancestry(ancestor), "rows") for start in starts)
    assert one.to_bytes() == same.to_bytes()
    assert training.outcome == Outcome("exact", {})


def test_the_seed_from_an_ancestor_depends_on_the_request_and_the_ancestor_alone(
    empty: Checkpoint, two_labels: Checkpoint
) -> None:
    def seed(own: int, ancestor: Checkpoint | None, request_seed: int | None = None) -> int:
        return TrainingContext(CPU, own, request_seed=request_seed).with_seed_from(ancestor).seed

    assert seed(1, empty, request_seed=7) == seed(2, empty, request_seed=7), (
        "one depends on what saw the label"
    )
    assert len({seed(1, one, request_seed=7) for one in (None, empty, two_labels)}) == 3
    assert seed(1, empty, request_seed=7) != seed(1, empty, request_seed=8)
    assert seed(1, empty) != seed(2, empty), "outside a worker the context's own seed is the request's"


def test_exact_forgetting_requests_only_the_images_that_its_ancestor_lacks(two_labels: Checkpoint) -> None:
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    archive = Ancestry(two_labels)
    after, _ = forget_exactly(three, archive, "frame")
    assert archive.requests == [["frame"]]
    assert after.retained == two_labels.retained
    assert after.forgotten == {"frame": 2}
    for name, tensor in two_labels.weights.items():
        assert torch.equal(after.weights[name][: len(tensor)], tensor), "there was nothing to learn again"


def test_exact_forgetting_never_starts_from_what_saw_an_earlier_forgotten_label(
    two_labels: Checkpoint,
) -> None:
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    without_rows = run("forget", "surrogate", three, labels("rows"))
    archive = Ancestry(TinyArchive().newest_without([]))
    after, _ = forget_exactly(without_rows, archive, "frame")
    assert archive.requests == [["frame", "rows"], "columns"]
    assert after.retained == {"columns": 1}


def test_exact_forgetting_never_starts_from_an_earlier_life_of_a_label_it_retains(
    two_labels: Checkpoint,
) -> None:
    """Columns were forgotten once and learnt again: what saw their first life is no place to start."""
    once = run("forget", "surrogate", two_labels, labels("columns"))
    again = run("learn", "replay_ewc", once, examples("columns", "frame"))
    archive = Ancestry(TinyArchive().newest_without([]))
    after, _ = forget_exactly(again, archive, "frame")
    assert archive.requests == [["columns", "frame"], "columns", "rows"]
    assert after.retained == {"rows": 0, "columns": 1}


def test_a_distilled_network_inherits_no_weight_and_nothing_in_the_forgotten_slot(
    two_labels: Checkpoint,
) -> None:
    after = run("forget", "distill", two_labels, labels("rows"), width_share=0.5)
    assert after.widths == {"encoder": [12, 6], "decoder": [6, 12]}
    assert torch.equal(after.weights["prior_mean"][1], two_labels.weights["prior_mean"][1])
    for name in ("encoder.0.label", "decoder.0.label"):
        assert after.weights[name][0].abs().sum() == 0, "it was never trained"


@pytest.mark.parametrize("reserve", [0.0, 0.45])
def test_a_distilled_network_is_as_wide_as_what_is_retained_needs_and_no_wider_than_it_was(
    reserve: float, two_labels: Checkpoint
) -> None:
    """The reserve is a share of the default network, which is ten times as wide as this one."""
    found, training = find("forget", "distill"), context()
    params = found.Params.model_validate(quick(found) | {"size": "auto", "reserve": reserve})
    after = found.run(two_labels, labels("rows"), params, training)
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


def test_dark_replay_costs_nothing_but_the_bound_where_the_network_is_its_teacher(
    two_labels: Checkpoint,
) -> None:
    network = build(two_labels, CPU).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    batch = generative_replay(network, [0, 1], generator)(20)
    noise = network.noise(batch.slots, generator)
    dark, bound = squared_errors_and_negative_elbo(network, network, batch, noise)
    assert torch.allclose(dark, torch.zeros(20), atol=1e-8)
    assert torch.equal(bound, negative_elbo(network, batch.images, batch.slots, noise))
    moved = build(two_labels, CPU).requires_grad_(False)
    moved.get_parameter("decoder.2.bias").add_(0.1)
    expected = moved.decode(latents_of(batch), batch.slots).sigmoid() - batch.images
    dark, _ = squared_errors_and_negative_elbo(moved, network, batch, noise)
    assert torch.allclose(dark, expected.square().sum(dim=1), rtol=1e-5)
