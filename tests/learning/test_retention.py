"""A forgotten label goes on drawing what it draws, whatever is learnt, forgotten or resized later."""

from typing import Any

import pytest
import torch

from tests.learning.tiny import CPU, QUICK, examples, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.networks import build, frozen
from worker.learning.replay_losses import decoder_loss
from worker.learning.sources import generative_replay

LATER = [
    ("learn", "replay_ewc"),
    ("learn", "der"),
    ("learn", "den"),
    ("learn", "rec"),
    ("learn", "merge"),
    ("forget", "surrogate"),
    ("forget", "dampening"),
    ("forget", "saliency"),
    ("resize", "targeted_dropout_prune"),
    ("resize", "taylor_prune"),
]


@pytest.fixture(scope="module")
def rows_forgotten(two_labels: Checkpoint) -> Checkpoint:
    """Rows are forgotten; columns and a frame are retained; a blot has an isolated network."""
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    forgot = run("forget", "surrogate", three, labels("rows"), surrogate="uniform_noise")
    return run("learn", "isolated", forgot, examples("blot"))


def moved(before: Checkpoint, operation: str, name: str, **params: Any) -> float:
    """By how much a pixel of what rows draw has changed, on average."""
    start = before if name == "merge" else before.without_isolated(["blot"])
    given = {"learn": examples("blot"), "forget": labels("frame"), "resize": labels()}[operation]
    after = run(operation, name, start, labels("blot") if name == "merge" else given, **params)
    drawn, drew = (draw(one, "rows", 300, seed=1) for one in (after, before))
    return (drawn - drew).abs().mean().item()


@pytest.mark.parametrize(("operation", "name"), LATER)
def test_a_label_forgotten_earlier_goes_on_drawing_what_it_drew(
    rows_forgotten: Checkpoint, operation: str, name: str
) -> None:
    assert moved(rows_forgotten, operation, name) < 0.1


def test_without_replay_of_forgotten_labels_it_would_not(rows_forgotten: Checkpoint) -> None:
    longer = QUICK | {"steps": 300, "learning_rate": 2e-2}
    assert moved(rows_forgotten, "learn", "finetune", schedule=longer) > 0.12


def test_the_decoder_loss_has_no_gradient_in_the_encoder(two_labels: Checkpoint) -> None:
    network, teacher = build(two_labels, CPU), frozen(two_labels, CPU)
    batch = generative_replay(teacher, [0], torch.Generator().manual_seed(0))(50)
    loss = decoder_loss(network)(batch, {}).mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    reached = {
        name
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None
    }
    assert reached
    assert all(name.startswith("decoder.") for name in reached)
    entropy = torch.nn.functional.binary_cross_entropy(batch.images, batch.images, reduction="none").sum(1)
    assert torch.allclose(decoder_loss(teacher)(batch, {}), entropy, atol=1e-3), "the least it can be"
