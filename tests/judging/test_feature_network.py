"""The feature network is a classifier of its own: not the judge, good enough to follow, the same bytes each time."""

import json
import subprocess
import sys

import pytest
import torch

from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import Dataset
from worker.learning.drawing import draw
from worker.learning.judging import train as judging
from worker.learning.judging.feature_network import (
    FEATURES,
    WEIGHTS,
    FeatureNetworkUnavailable,
    load_feature_network,
    restored,
    trained,
)
from worker.learning.judging.judge import classify, load_judge, restored_network
from worker.learning.judging.training_batches import Training
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext, find

BRIEF = Training(seed=5, steps=2, real=16, impostors=10)


def images() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {label: torch.randint(0, 256, (30, 784), dtype=torch.uint8, generator=rng) for label in "ab"}


def test_the_same_lessons_give_the_same_bytes_and_leave_others_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = trained(images(), BRIEF)
    assert torch.equal(torch.rand(3), expected)
    assert trained(images(), BRIEF) == first


def test_it_is_small_names_real_test_images_and_is_described_by_its_recipe():
    mnist, feature_network = real_mnist(), load_feature_network("mnist")
    recipe = json.loads((WEIGHTS / "mnist.features.json").read_text())
    assert (WEIGHTS / "mnist.features.safetensors").stat().st_size <= 200_000
    assert feature_network.version == recipe["weights_sha256"]
    some = {label: test[:100] for label, test in mnist.test.items()}
    assert feature_network.accuracy(some) > 0.95
    assert recipe["data_sha256"] == mnist.sha256()


def test_it_is_not_the_judge():
    feature_network, judge = load_feature_network("mnist"), load_judge("mnist")
    shapes = [{tuple(one.shape) for one in each.network.parameters()} for each in (feature_network, judge)]
    assert shapes[0] != shapes[1]
    assert feature_network.embedded(torch.zeros(3, 784)).shape == (3, FEATURES)


def test_its_disbelief_is_minus_the_log_of_what_it_gives_the_label_and_has_a_gradient():
    feature_network = restored(trained(images(), BRIEF), ("a", "b"))
    shown = torch.rand(4, 784, requires_grad=True)
    found = feature_network.disbelief(shown, "b")
    assert torch.allclose(found, -feature_network.network(shown).softmax(dim=1)[:, 1].log(), atol=1e-5)
    found.sum().backward()
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0


def test_where_there_is_none_it_says_which_command_makes_one():
    with pytest.raises(FeatureNetworkUnavailable, match=r"judging\.feature_network --dataset letters"):
        load_feature_network("letters")


def test_an_attack_loads_without_the_judge():
    attacks = "recovery, relearning, membership, feature network, references"
    judge = "worker.learning.judging.judge"
    probe = f"import sys; from worker.learning.judging import {attacks}; print({judge!r} in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


@pytest.mark.slow
def test_a_fresh_judge_of_another_seed_agrees_within_a_point_on_test_images_and_on_draws():
    """Nothing is tuned to the judge that is committed: another one says the same (docs/decisions/0031)."""
    mnist: Dataset = real_mnist()
    network = restored_network(judging.trained(mnist, Training(seed=11)), len(mnist.labels))
    learn = find("learn", "replay_ewc")
    context = TrainingContext(torch.device("cpu"), 0)
    learnt = learn.run(
        blank({}, seed=0), Examples(mnist.labels, "mnist", mnist.train), learn.Params(), context
    )
    forget = find("forget", "surrogate")
    gone = ("4", "9")
    forgot = forget.run(learnt, Examples(gone, "mnist"), forget.Params(), context)
    shown = {
        "test images": mnist.test,
        "draws": {label: 255 * draw(learnt, label, 500, 1) for label in mnist.labels},
        "draws of what stays": {label: 255 * draw(forgot, label, 500, 1) for label in forgot.held},
        "draws of what was forgotten": {label: 255 * draw(forgot, label, 2000, 1) for label in gone},
    }
    for kind, images_of in shown.items():
        seen = torch.cat([each.float() / 255 for each in images_of.values()])
        sizes = torch.tensor([len(each) for each in images_of.values()])
        right = torch.tensor([mnist.labels.index(label) for label in images_of]).repeat_interleave(sizes)
        fresh, committed = (
            (answers == right).float().mean().item()
            for answers in (classify(network, seen), load_judge("mnist").classify(seen))
        )
        assert fresh == pytest.approx(committed, abs=0.01), kind
