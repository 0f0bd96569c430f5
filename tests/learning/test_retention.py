"""What is forgotten stays as it was left, whatever is learnt, forgotten or resized afterwards."""

import pytest
import torch

from tests.learning.tiny import asked, examples, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.networks import build, frozen
from worker.learning.replay import replay
from worker.learning.retention import still_drawn

CPU = torch.device("cpu")
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
    """Rows are forgotten; columns and a frame are held, and a blot has a network of its own."""
    three = run("learn", "replay_ewc", two_labels, examples("frame"))
    gone = run("forget", "surrogate", three, asked("rows"), surrogate="uniform_noise")
    return run("learn", "isolated", gone, examples("blot"))


def moved(before: Checkpoint, operation: str, name: str) -> float:
    """How much darker or lighter a pixel of what rows draw has become, on average."""
    start = before if name == "merge" else before.without_isolated(["blot"])
    given = {"learn": examples("blot"), "forget": asked("frame"), "resize": asked()}[operation]
    after = run(operation, name, start, asked("blot") if name == "merge" else given)
    drawn, drew = (draw(one, "rows", 300, seed=1) for one in (after, before))
    return (drawn - drew).abs().mean().item()


@pytest.mark.parametrize(("operation", "name"), LATER)
def test_a_label_forgotten_before_goes_on_drawing_what_it_drew(rows_forgotten, operation, name):
    assert moved(rows_forgotten, operation, name) < 0.1


def test_with_nothing_to_hold_it_there_it_would_not(rows_forgotten):
    assert moved(rows_forgotten, "learn", "finetune") > 0.12


def test_holding_what_is_drawn_asks_nothing_of_the_encoder(two_labels):
    network, teacher = build(two_labels, CPU), frozen(two_labels, CPU)
    batch = replay(teacher, [0], torch.Generator().manual_seed(0))(50)
    cost = still_drawn(network)(batch, {}).mean()
    gradients = torch.autograd.grad(cost, list(network.parameters()), allow_unused=True)
    reached = {
        name
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None
    }
    assert reached
    assert all(name.startswith("decoder.") for name in reached)
    entropy = torch.nn.functional.binary_cross_entropy(batch.images, batch.images, reduction="none").sum(1)
    assert torch.allclose(still_drawn(teacher)(batch, {}), entropy, atol=1e-3), "the least it can cost"
