"""The feature network is a classifier of its own: not the judge, differentiable, the same bytes each time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import Dataset
from worker.learning.drawing import draw
from worker.learning.judging import feature_network as subject
from worker.learning.judging.classifier_training import train_weights
from worker.learning.judging.classifiers import (
    WEIGHTS,
    ClassifierUnavailable,
    read_classifier,
    restore_network,
)
from worker.learning.judging.feature_network import (
    FEATURE_NETWORK,
    FEATURES,
    FeatureNetwork,
    accuracy,
    load_feature_network,
)
from worker.learning.judging.judge import JUDGE, classify, load_judge
from worker.learning.judging.training_batches import Training
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext, find

SHORT = Training(seed=5, steps=2, real=16, negatives=10)


def random_images() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {label: torch.randint(0, 256, (30, 784), dtype=torch.uint8, generator=rng) for label in "ab"}


def test_the_same_training_gives_the_same_bytes_and_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = train_weights(FEATURE_NETWORK, random_images(), SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert train_weights(FEATURE_NETWORK, random_images(), SHORT) == first


def test_the_committed_one_is_small_accurate_and_described_by_its_recipe() -> None:
    mnist, feature_network = real_mnist(), load_feature_network("mnist")
    recipe = json.loads((WEIGHTS / "mnist.features.json").read_text())
    assert (WEIGHTS / "mnist.features.safetensors").stat().st_size <= 200_000
    assert feature_network.version == recipe["weights_sha256"]
    some = {label: test[:100] for label, test in mnist.test.items()}
    assert accuracy(feature_network.network, feature_network.labels, some) > 0.95
    assert recipe["data_sha256"] == mnist.sha256()


def test_it_is_not_the_judge() -> None:
    feature_network, judge = load_feature_network("mnist"), load_judge("mnist")
    shapes = [{tuple(one.shape) for one in each.network.parameters()} for each in (feature_network, judge)]
    assert shapes[0] != shapes[1]
    assert feature_network.embed(torch.zeros(3, 784)).shape == (3, FEATURES)


def test_the_negative_log_probability_is_that_of_the_softmax_and_has_a_gradient() -> None:
    weights = train_weights(FEATURE_NETWORK, random_images(), SHORT)
    network = restore_network(FEATURE_NETWORK, weights, labels=2)
    images = torch.rand(4, 784, requires_grad=True)
    found = FeatureNetwork(("a", "b"), network, "trained here", 0.5).negative_log_probability(images, "b")
    assert torch.allclose(found, -network(images).softmax(dim=1)[:, 1].log(), atol=1e-5)
    found.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_dataset_without_a_committed_one_says_how_to_train_one() -> None:
    with pytest.raises(ClassifierUnavailable, match=r"judging\.feature_network --dataset letters"):
        load_feature_network("letters")


def test_the_command_stores_it_beside_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["feature_network", "--dataset", "digits", "--data", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(subject, "TRAINING", SHORT)
    assert subject.main() == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe == json.loads((tmp_path / "digits.features.json").read_text())
    assert read_classifier(FEATURE_NETWORK, "digits", tmp_path).version == recipe["weights_sha256"]


def test_an_attack_loads_without_the_judge() -> None:
    attacks = "recovery, relearning, membership, feature_network, references"
    judge = "worker.learning.judging.judge"
    probe = f"import sys; from worker.learning.judging import {attacks}; print({judge!r} in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


@pytest.mark.slow
def test_a_judge_of_another_seed_agrees_within_a_point_on_test_images_and_on_draws() -> None:
    """Nothing is tuned to the judge that is committed: another one says the same (docs/decisions/0031)."""
    mnist: Dataset = real_mnist()
    weights = train_weights(JUDGE, mnist.train, Training(seed=11))
    network = restore_network(JUDGE, weights, len(mnist.labels))
    learn = find("learn", "replay_ewc")
    context = TrainingContext(torch.device("cpu"), 0)
    learnt = learn.run(
        blank({}, seed=0), Examples(mnist.labels, "mnist", mnist.train), learn.Params(), context
    )
    forget = find("forget", "surrogate")
    gone = ("4", "9")
    forgot = forget.run(learnt, Examples(gone, "mnist"), forget.Params(), context)
    images_by_source = {
        "test images": mnist.test,
        "draws": {label: 255 * draw(learnt, label, 500, 1) for label in mnist.labels},
        "draws of what stays": {label: 255 * draw(forgot, label, 500, 1) for label in forgot.retained},
        "draws of what was forgotten": {label: 255 * draw(forgot, label, 2000, 1) for label in gone},
    }
    for source, images_of in images_by_source.items():
        images = torch.cat([each.float() / 255 for each in images_of.values()])
        sizes = torch.tensor([len(each) for each in images_of.values()])
        right = torch.tensor([mnist.labels.index(label) for label in images_of]).repeat_interleave(sizes)
        fresh, committed = (
            (answers == right).float().mean().item()
            for answers in (classify(network, images), load_judge("mnist").classify(images))
        )
        assert fresh == pytest.approx(committed, abs=0.01), source
