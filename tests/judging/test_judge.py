"""The committed judges keep their thresholds, measured again from the committed weights."""

import json
import time
from pathlib import Path

import pytest
import torch

from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import Dataset, load
from worker.learning.judging.classifiers import WEIGHTS, ClassifierUnavailable
from worker.learning.judging.judge import REJECT, load_judge
from worker.learning.judging.judge_figures import measure_judge_figures, thresholds_of

DATASETS = ["mnist", "digits"]


def dataset_of(name: str) -> Dataset:
    return real_mnist() if name == "mnist" else load(name, Path())


@pytest.mark.parametrize("name", DATASETS)
def test_the_judge_meets_every_threshold_and_measures_what_its_recipe_says(name: str) -> None:
    recipe = json.loads((WEIGHTS / f"{name}.json").read_text())
    found = measure_judge_figures(load_judge(name).classify, dataset_of(name), seed=recipe["figures_seed"])
    assert found.keys() == recipe["figures"].keys()
    for figure, measured in found.items():
        # Another processor rounds otherwise: an image on the edge may fall to the other side.
        assert measured.value == pytest.approx(recipe["figures"][figure]["value"], abs=0.004), figure
    assert thresholds_of(name).keys() <= found.keys()
    assert [figure for figure, one in found.items() if one.verdict == "missed"] == []


def test_the_mnist_judge_was_trained_on_the_mnist_read_here() -> None:
    recipe = json.loads((WEIGHTS / "mnist.json").read_text())
    assert recipe["data_sha256"] == real_mnist().sha256()


@pytest.mark.parametrize("name", DATASETS)
def test_the_judge_is_small_and_knows_its_version_and_accuracy(name: str) -> None:
    judge = load_judge(name)
    recipe = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 300_000
    assert judge.labels == tuple("0123456789")
    assert judge.version == recipe["weights_sha256"]
    assert judge.test_accuracy == recipe["figures"]["test_accuracy"]["value"]


@pytest.mark.parametrize("name", DATASETS)
def test_blank_grey_white_and_not_a_number_are_rejected(name: str) -> None:
    images = torch.stack([torch.full((784,), value) for value in (0.0, 0.5, 1.0, float("nan"))])
    assert load_judge(name).classify(images).tolist() == [REJECT] * 4


def test_the_answer_to_an_image_does_not_depend_on_the_others() -> None:
    images = torch.cat([images[:30] for images in dataset_of("digits").test.values()]) / 255
    judge = load_judge("digits")
    one_by_one = torch.cat([judge.classify(image[None]) for image in images])
    assert torch.equal(judge.classify(images), one_by_one)


def test_no_images_give_no_answers() -> None:
    assert load_judge("digits").classify(torch.empty(0, 784)).shape == (0,)


def test_ten_thousand_images_take_seconds() -> None:
    judge = load_judge("digits")
    images = torch.rand(10_000, 784)
    started = time.process_time()
    judge.classify(images)
    assert time.process_time() - started < 10  # of CPU time; 1 s on one thread of an idle core


def test_a_dataset_without_a_committed_judge_says_how_to_train_one() -> None:
    with pytest.raises(
        ClassifierUnavailable, match=r"python -m worker\.learning\.judging\.train --dataset letters"
    ):
        load_judge("letters")
