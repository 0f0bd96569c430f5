"""The quick report says what was drawn, how often it was right, and what could not be measured."""

import json
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.datasets.real_mnist import real_mnist
from worker.learning import drawing
from worker.learning.checkpoint import Checkpoint, Label, Spec
from worker.learning.datasets import Dataset, load
from worker.learning.judging.figures import wilson
from worker.learning.judging.judge import load_judge
from worker.learning.judging.report import quick
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext, find

SPEC = Spec("mlp", (5, 4), (3, 6), latent=2, slots=4)
WEIGHTS = {"weight": torch.zeros(3, 4), "bias": torch.zeros(5)}


@lru_cache
def digits() -> Dataset:
    return load("digits", Path())


def checkpoint(*labels: Label) -> Checkpoint:
    return Checkpoint(SPEC, WEIGHTS, labels)


LABELS = (
    Label("3", 0, "digits"),
    Label("8", 1, "digits", "temporary"),
    Label("1", 2, "digits", "forgotten"),
)


def draw_real(_checkpoint: Checkpoint, label: str, n: int, seed: int) -> Tensor:
    """Real test images of a label not forgotten; uniform noise for the forgotten one."""
    rng = torch.Generator().manual_seed(seed)
    if label == "1":
        return torch.rand(n, 784, generator=rng)
    images = digits().test[label]
    return images[torch.randint(len(images), (n,), generator=rng)].float() / 255


def test_legible_draws_are_right_and_noise_is_rejected() -> None:
    report = quick(checkpoint(*LABELS), load_judge, n=200, seed=0, draw=draw_real)
    assert report["retained"]["accuracy"] > 0.95
    assert list(report["retained"]["labels"]) == ["3", "8"]
    assert list(report["forgotten"]["labels"]) == ["1"]
    assert report["forgotten"]["accuracy"] == 0
    assert report["forgotten"]["labels"]["1"] == {
        "accuracy": 0.0,
        "n": 200,
        "interval": list(wilson(0, 200)),
        "rejected": 1.0,
        "closed_accuracy": report["forgotten"]["closed_accuracy"],
        "coverage": None,
        "threshold": "<= 0.05",
        "verdict": "met",
    }


def test_draws_of_another_label_are_wrong_but_not_rejected() -> None:
    def draw_threes(of: Checkpoint, _label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, "3", n, seed)

    report = quick(checkpoint(*LABELS), load_judge, n=100, seed=0, draw=draw_threes)
    assert report["retained"]["labels"]["8"]["accuracy"] < 0.05
    assert report["retained"]["labels"]["8"]["rejected"] < 0.05
    assert report["forgotten"]["accuracy"] < 0.05


def test_a_group_is_the_mean_of_its_labels_with_the_interval_of_all_its_draws() -> None:
    group = quick(checkpoint(*LABELS), load_judge, n=50, seed=1, draw=draw_real)["retained"]
    accuracies = [figure["accuracy"] for figure in group["labels"].values()]
    assert group["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert group["n"] == 100
    assert group["interval"] == list(wilson(round(group["accuracy"] * 100), 100))


def test_it_is_json_and_the_same_for_the_same_seed() -> None:
    report = quick(checkpoint(*LABELS), load_judge, n=40, seed=7, draw=draw_real)
    assert json.loads(json.dumps(report)) == report
    assert quick(checkpoint(*LABELS), load_judge, n=40, seed=7, draw=draw_real) == report


def test_it_names_the_judge_and_the_capacity() -> None:
    report = quick(checkpoint(*LABELS), load_judge, n=10, seed=0, draw=draw_real)
    judge = load_judge("digits")
    assert (report["level"], report["n"], report["seed"]) == ("quick", 10, 0)
    told = {"version": judge.version, "test_accuracy": judge.test_accuracy, "missed": []}
    assert report["judge"] == {"digits": told}
    assert report["capacity"] == {
        "parameters": 17,
        "isolated_parameters": {},
        "encoder_widths": [5, 4],
        "decoder_widths": [3, 6],
    }


def test_it_says_which_bars_its_judge_misses() -> None:
    """A judge trained on an upload may be honest about its labels and still call noise one of them."""
    judge = replace(load_judge("digits"), missed=("uniform_noise_rejected",))
    report = quick(checkpoint(LABELS[0]), lambda _: judge, n=10, seed=0, draw=draw_real)
    assert report["judge"]["digits"]["missed"] == ["uniform_noise_rejected"]


def test_every_label_is_drawn_with_noise_of_its_own() -> None:
    seeds = {}

    def remember(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        seeds[label] = seed
        return draw_real(of, label, n, seed)

    quick(checkpoint(*LABELS), load_judge, n=5, seed=0, draw=remember)
    assert len(set(seeds.values())) == 3


def test_without_a_judge_the_accuracy_is_null_with_the_reason() -> None:
    labels = (*LABELS, Label("a", 3, "letters"))
    report = quick(checkpoint(*labels), load_judge, n=10, seed=0, draw=draw_real)
    for found in (report["retained"], report["retained"]["labels"]["a"]):
        assert found["accuracy"] is None
        assert "no judge for the dataset 'letters'" in found["reason"]
    assert "no judge" in report["judge"]["letters"]["reason"]
    assert report["retained"]["labels"]["3"]["accuracy"] is not None
    assert report["forgotten"]["accuracy"] == 0


def test_a_label_the_judge_does_not_know_is_not_measured() -> None:
    report = quick(checkpoint(Label("ten", 0, "digits")), load_judge, n=10, seed=0, draw=draw_real)
    assert report["retained"]["accuracy"] is None
    assert "does not know the label 'ten'" in report["retained"]["reason"]


def test_a_label_is_judged_as_what_its_dataset_calls_it() -> None:
    """Two names swapped: judged by its own name each would be wrong throughout."""
    swapped = checkpoint(Label("8", 0, "digits", renamed_from="3"), Label("3", 1, "digits", renamed_from="8"))

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, of.label(label).source, n, seed)

    report = quick(swapped, load_judge, n=100, seed=0, draw=draw)
    assert report["retained"]["accuracy"] > 0.95
    assert list(report["retained"]["labels"]) == ["8", "3"]


def test_a_model_that_forgot_nothing_has_nothing_to_say_of_it() -> None:
    report = quick(checkpoint(LABELS[0]), load_judge, n=10, seed=0, draw=draw_real)
    assert report["forgotten"] == {
        "accuracy": None,
        "n": 0,
        "interval": None,
        "rejected": None,
        "closed_accuracy": None,
        "coverage": None,
        "threshold": None,
        "verdict": None,
        "reason": "there is no such label",
        "labels": {},
    }


def test_a_forgotten_label_that_is_drawn_again_has_relapsed() -> None:
    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, "3", n, seed)

    ghost = checkpoint(Label("8", 0, "digits"), Label("3", 1, "digits", "forgotten"))
    report = quick(ghost, load_judge, n=50, seed=0, draw=draw)["forgotten"]
    assert (report["verdict"], report["labels"]["3"]["verdict"]) == ("missed", "missed")


def test_one_relapse_among_many_labels_is_not_averaged_away() -> None:
    labels = [Label(name, slot, "digits", "forgotten") for slot, name in enumerate("123")]

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        real = draw_real(of, "3", n, seed)
        faint = torch.rand(n, 1, generator=rng) < 0.1
        return torch.where(faint, real, torch.rand(n, 784, generator=rng)) if label == "3" else real * 0

    report = quick(checkpoint(*labels), load_judge, n=200, seed=0, draw=draw)["forgotten"]
    assert report["accuracy"] < 0.05
    assert report["verdict"] == "missed"


def test_a_forgotten_label_is_not_found_gone_by_a_judge_that_does_not_know_it() -> None:
    """Its real test images are shown to the judge: here they are of another label."""
    model = checkpoint(*LABELS)

    def others(label: Label) -> Tensor:
        return digits().test["7" if label.name == "1" else label.source]

    unknown = quick(model, load_judge, n=50, seed=0, draw=draw_real, held_out=others)["forgotten"]
    assert (unknown["accuracy"], unknown["labels"]["1"]["verdict"]) == (None, None)
    assert unknown["labels"]["1"]["reason"].endswith("% of the real test images of '1'")
    known = quick(
        model, load_judge, n=50, seed=0, draw=draw_real, held_out=lambda label: digits().test[label.source]
    )
    assert known["forgotten"]["accuracy"] == 0


def test_closed_set_accuracy_counts_what_is_rejected_and_the_open_one_does_not() -> None:
    """A 3 over another digit: the judge rejects most such blends, their likeliest label is often 3."""

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return 0.55 * draw_real(of, "3", n, seed) + 0.45 * draw_real(of, "8", n, seed)

    figure = quick(checkpoint(Label("3", 0, "digits")), load_judge, n=100, seed=0, draw=draw)["retained"]
    assert figure["closed_accuracy"] >= figure["accuracy"] + 0.3


def test_coverage_is_measured_where_real_test_images_are_at_hand() -> None:
    def held_out(label: Label) -> Tensor:
        return digits().test[label.source]

    def draw_one(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, label, n, seed)[:1].expand(n, 784)

    one = checkpoint(LABELS[0])
    varied = quick(one, load_judge, n=200, seed=0, draw=draw_real, held_out=held_out)
    collapsed = quick(one, load_judge, n=200, seed=0, draw=draw_one, held_out=held_out)
    assert varied["retained"]["coverage"] > 0.95
    assert collapsed["retained"]["coverage"] < 0.5 < collapsed["retained"]["accuracy"]
    assert quick(one, load_judge, n=200, seed=0, draw=draw_real)["retained"]["coverage"] is None


@pytest.mark.slow
def test_the_quick_report_of_ten_labels_of_mnist_takes_at_most_fifteen_seconds_of_one_core() -> None:
    """How well they were learnt makes no difference: one step."""
    mnist, learn = real_mnist(), find("learn", "retrain")
    asked = Examples(mnist.labels, "mnist", mnist.train)
    params = learn.Params(schedule={"steps": 1}, fisher_examples=1)
    learnt = learn.run(blank({}, seed=0), asked, params, TrainingContext(torch.device("cpu"), 0))
    began = time.process_time()
    report = quick(
        learnt, load_judge, seed=0, draw=drawing.draw, held_out=lambda label: mnist.test[label.source]
    )
    assert time.process_time() - began <= 15
    assert report["retained"]["n"] == 10_000
    assert report["retained"]["coverage"] is not None
