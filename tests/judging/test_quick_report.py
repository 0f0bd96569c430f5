"""The quick report says what was drawn, how often it was right, and what could not be measured."""

import json
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reports import Capacity, JudgeSummary, LabelFigure, LabelGroup, at_most, read_report
from tests.datasets.real_mnist import real_mnist
from worker.learning import drawing
from worker.learning.checkpoint import Checkpoint, Label, Spec
from worker.learning.datasets import Dataset, load
from worker.learning.judging.estimates import wilson_interval
from worker.learning.judging.judge import load_judge
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.networks import blank
from worker.learning.strategy import Examples, TrainingContext, Unavailable, find

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


def own_test_images(label: Label) -> Tensor:
    return digits().test[label.source]


def unavailable(label: Label) -> Tensor:
    raise Unavailable(f"the images of {label.name} were deleted")


def test_readable_draws_are_right_and_noise_is_rejected() -> None:
    report = measure_quick_report(checkpoint(*LABELS), load_judge, n=200, seed=0, draw=draw_real)
    assert report.retained.measured_value > 0.95
    assert list(report.retained.labels) == ["3", "8"]
    assert report.forgotten.value == 0
    assert report.forgotten.labels == {
        "1": LabelFigure(
            value=0.0,
            n=200,
            interval=wilson_interval(0, 200),
            rejected=1.0,
            closed_accuracy=report.forgotten.closed_accuracy,
            threshold=at_most(0.05),
            verdict="met",
        )
    }


def test_draws_of_another_label_are_wrong_but_not_rejected() -> None:
    def draw_threes(of: Checkpoint, _label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, "3", n, seed)

    report = measure_quick_report(checkpoint(*LABELS), load_judge, n=100, seed=0, draw=draw_threes)
    eight = report.retained.labels["8"]
    assert eight.measured_value < 0.05
    assert (eight.rejected or 0) < 0.05
    assert report.forgotten.measured_value < 0.05


def test_a_group_is_the_mean_of_its_labels_with_the_interval_of_all_its_draws() -> None:
    group = measure_quick_report(checkpoint(*LABELS), load_judge, n=50, seed=1, draw=draw_real).retained
    accuracies = [figure.measured_value for figure in group.labels.values()]
    assert group.value == pytest.approx(sum(accuracies) / 2)
    assert group.n == 100
    assert group.interval == wilson_interval(round(group.measured_value * 100), 100)


def test_it_survives_json_and_is_the_same_for_the_same_seed() -> None:
    report = measure_quick_report(checkpoint(*LABELS), load_judge, n=40, seed=7, draw=draw_real)
    assert read_report(json.loads(json.dumps(report.as_json()))) == report
    assert measure_quick_report(checkpoint(*LABELS), load_judge, n=40, seed=7, draw=draw_real) == report


def test_it_names_the_judge_and_the_capacity() -> None:
    report = measure_quick_report(checkpoint(*LABELS), load_judge, n=10, seed=0, draw=draw_real)
    judge = load_judge("digits")
    assert (report.level, report.n, report.seed) == ("quick", 10, 0)
    assert report.judge == {"digits": JudgeSummary(version=judge.version, test_accuracy=judge.test_accuracy)}
    assert report.capacity == Capacity(
        parameters=17, isolated_parameters={}, encoder_widths=(5, 4), decoder_widths=(3, 6)
    )


def test_it_says_which_thresholds_its_judge_misses() -> None:
    """A judge trained on an upload may know its labels well and still call noise one of them."""
    judge = replace(load_judge("digits"), missed=("uniform_noise_rejected",))
    report = measure_quick_report(checkpoint(LABELS[0]), lambda _: judge, n=10, seed=0, draw=draw_real)
    assert report.judge["digits"].missed == ("uniform_noise_rejected",)


def test_what_a_judge_below_its_own_thresholds_measured_has_a_reason_instead_of_a_verdict() -> None:
    judge = replace(load_judge("digits"), missed=("test_accuracy", "blur_1.0_kept"))

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, "3", n, seed)  # the forgotten label, too: with another judge it has relapsed

    model = checkpoint(Label("3", 0, "digits"), Label("8", 1, "digits"), Label("5", 2, "digits", "forgotten"))
    of_fives = replace(model, labels=(*model.labels[:2], replace(model.labels[2], renamed_from="3")))
    report = measure_quick_report(of_fives, lambda _: judge, n=50, seed=0, draw=draw)
    reason = "the judge misses thresholds of its own (test accuracy, blur 1.0 kept)"
    five = report.forgotten.labels["5"]
    assert (five.threshold, five.verdict, five.reason) == (at_most(0.05), None, reason)
    assert five.measured_value > 0.9
    assert (report.forgotten.verdict, report.forgotten.reason) == (None, reason)
    assert report.forgotten.measured_value > 0.9
    assert (report.retained.reason, report.retained.labels["3"].reason) == (reason, reason)
    assert report.retained.measured_value == pytest.approx(0.5, abs=0.05), "and the figures are there"
    assert report.relapsed == []


def test_accuracy_is_divided_by_that_of_the_judge_on_real_images() -> None:
    """Half of the real images of 3 are of 7 here, so the judge recognises half of them, and of the draws."""

    def mixed(label: Label) -> Tensor:
        threes, sevens = digits().test["3"], digits().test["7"]
        return torch.cat([threes[:30], sevens[:30]]) if label.name == "3" else digits().test[label.source]

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        if label != "3":
            return draw_real(of, label, n, seed)
        return torch.cat([draw_real(of, name, n // 2, seed) for name in ("3", "7")])

    report = measure_quick_report(checkpoint(*LABELS), load_judge, n=200, seed=0, draw=draw, held_out=mixed)
    three, retained = report.retained.labels["3"], report.retained
    assert three.judge_accuracy == pytest.approx(0.5, abs=0.05)
    assert three.relative_accuracy == pytest.approx(three.measured_value / (three.judge_accuracy or 0))
    assert three.relative_accuracy == pytest.approx(1, abs=0.1)
    assert retained.relative_accuracy == pytest.approx(
        retained.measured_value / (retained.judge_accuracy or 0)
    )
    forgotten = report.forgotten.labels["1"]
    assert forgotten.judge_accuracy is not None
    assert (forgotten.relative_accuracy, report.forgotten.relative_accuracy) == (None, None)


def test_relative_coverage_compares_with_as_many_real_train_images() -> None:
    def draw_three(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, label, 3, seed).repeat(n, 1)[:n]

    def train_images(label: Label) -> Tensor:
        return digits().train[label.source]

    model = checkpoint(LABELS[0])
    varied, collapsed, without = (
        measure_quick_report(
            model, load_judge, n=200, seed=0, draw=draw, held_out=own_test_images, train_images=train
        ).retained
        for draw, train in ((draw_real, train_images), (draw_three, train_images), (draw_real, unavailable))
    )
    assert (varied.relative_coverage or 0) > 0.9, "of the test images themselves"
    assert (collapsed.relative_coverage or 1) < 0.6
    assert without.relative_coverage is None
    assert without.coverage is not None


def test_every_label_is_drawn_with_noise_of_its_own() -> None:
    seeds = {}

    def remember(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        seeds[label] = seed
        return draw_real(of, label, n, seed)

    measure_quick_report(checkpoint(*LABELS), load_judge, n=5, seed=0, draw=remember)
    assert len(set(seeds.values())) == 3


def test_without_a_judge_the_accuracy_is_null_with_the_reason() -> None:
    labels = (*LABELS, Label("a", 3, "letters"))
    report = measure_quick_report(checkpoint(*labels), load_judge, n=10, seed=0, draw=draw_real)
    for figure in (report.retained, report.retained.labels["a"]):
        assert figure.value is None
        assert "no judge for the dataset 'letters'" in (figure.reason or "")
    assert "no judge" in (report.judge["letters"].reason or "")
    assert report.retained.labels["3"].value is not None
    assert report.forgotten.value == 0


def test_a_label_the_judge_does_not_know_is_not_measured() -> None:
    ten = checkpoint(Label("ten", 0, "digits"))
    retained = measure_quick_report(ten, load_judge, n=10, seed=0, draw=draw_real).retained
    assert retained.value is None
    assert "does not know the label 'ten'" in (retained.reason or "")


def test_a_label_is_judged_as_what_its_dataset_calls_it() -> None:
    """Two names swapped: judged by its own name each would be wrong throughout."""
    swapped = checkpoint(Label("8", 0, "digits", renamed_from="3"), Label("3", 1, "digits", renamed_from="8"))

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, of.label(label).source, n, seed)

    retained = measure_quick_report(swapped, load_judge, n=100, seed=0, draw=draw).retained
    assert retained.measured_value > 0.95
    assert list(retained.labels) == ["8", "3"]


def test_a_model_that_forgot_nothing_has_no_accuracy_of_forgotten_labels() -> None:
    report = measure_quick_report(checkpoint(LABELS[0]), load_judge, n=10, seed=0, draw=draw_real)
    assert report.forgotten == LabelGroup(value=None, n=0, reason="there is no such label", labels={})


def test_a_forgotten_label_that_is_drawn_again_has_relapsed() -> None:
    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, "3", n, seed)

    relapsed = checkpoint(Label("8", 0, "digits"), Label("3", 1, "digits", "forgotten"))
    report = measure_quick_report(relapsed, load_judge, n=50, seed=0, draw=draw)
    assert (report.forgotten.verdict, report.forgotten.labels["3"].verdict) == ("missed", "missed")
    assert report.relapsed == ["3"]


def test_one_relapse_among_many_labels_is_not_averaged_away() -> None:
    labels = [Label(name, slot, "digits", "forgotten") for slot, name in enumerate("123")]

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        real = draw_real(of, "3", n, seed)
        some = torch.rand(n, 1, generator=rng) < 0.1
        return torch.where(some, real, torch.rand(n, 784, generator=rng)) if label == "3" else real * 0

    forgotten = measure_quick_report(checkpoint(*labels), load_judge, n=200, seed=0, draw=draw).forgotten
    assert forgotten.measured_value < 0.05
    assert forgotten.verdict == "missed"


def test_a_forgotten_label_is_not_found_gone_by_a_judge_that_does_not_know_it() -> None:
    """Its real test images are shown to the judge: here they are of another label."""
    model = checkpoint(*LABELS)

    def others(label: Label) -> Tensor:
        return digits().test["7" if label.name == "1" else label.source]

    unknown = measure_quick_report(model, load_judge, n=50, seed=0, draw=draw_real, held_out=others).forgotten
    assert (unknown.value, unknown.labels["1"].verdict) == (None, None)
    assert (unknown.labels["1"].reason or "").endswith("% of the real test images of '1'")
    known = measure_quick_report(
        model, load_judge, n=50, seed=0, draw=draw_real, held_out=own_test_images
    ).forgotten
    assert known.value == 0


def test_closed_set_accuracy_counts_what_is_rejected_and_the_open_one_does_not() -> None:
    """A 3 over another digit: the judge rejects most such blends, their likeliest label is often 3."""

    def draw(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return 0.55 * draw_real(of, "3", n, seed) + 0.45 * draw_real(of, "8", n, seed)

    three = checkpoint(Label("3", 0, "digits"))
    retained = measure_quick_report(three, load_judge, n=100, seed=0, draw=draw).retained
    assert (retained.closed_accuracy or 0) >= retained.measured_value + 0.3


def test_coverage_is_measured_where_there_are_real_test_images() -> None:
    def draw_one(of: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        return draw_real(of, label, n, seed)[:1].expand(n, 784)

    model = checkpoint(LABELS[0])
    varied, collapsed = (
        measure_quick_report(model, load_judge, n=200, seed=0, draw=draw, held_out=own_test_images).retained
        for draw in (draw_real, draw_one)
    )
    assert (varied.coverage or 0) > 0.95
    assert (collapsed.coverage or 0) < 0.5 < collapsed.measured_value
    without = measure_quick_report(model, load_judge, n=200, seed=0, draw=draw_real)
    assert without.retained.coverage is None


@pytest.mark.slow
def test_the_quick_report_of_ten_labels_of_mnist_takes_at_most_fifteen_seconds_of_one_core() -> None:
    """How well they were learned makes no difference: one step."""
    mnist, learn = real_mnist(), find("learn", "retrain")
    examples = Examples(mnist.labels, "mnist", mnist.train)
    params = learn.Params.model_validate({"schedule": {"steps": 1}, "fisher_examples": 1})
    learned = learn.run(blank({}, seed=0), examples, params, TrainingContext(torch.device("cpu"), 0))
    began = time.process_time()
    report = measure_quick_report(
        learned, load_judge, seed=0, draw=drawing.draw, held_out=lambda label: mnist.test[label.source]
    )
    assert time.process_time() - began <= 15
    assert report.retained.n == 10_000
    assert report.retained.coverage is not None
