"""The full report has the quick one's figures and more; what cannot be measured has the reason instead."""

import json
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from reports import Figure, FullReport, FunctionDistance, TwoSampleFigure, read_report
from service.reporting.figures import list_figures
from tests.judging.test_comparison import OTHERS, REFERENCE
from tests.learning.interrupting import Killed, Memory
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.datasets import Dataset, load
from worker.learning.drawing import draw
from worker.learning.judging.classifier_training import train_weights
from worker.learning.judging.classifiers import restore_network
from worker.learning.judging.comparison import CONTROL_AUC_THRESHOLD, compare
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.estimates import Estimate
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.feature_network import FEATURE_NETWORK, FeatureNetwork
from worker.learning.judging.forgetting_part import summarise_forgetting, summarise_label
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.judge import load_judge
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.judging.reference_networks import choose_references
from worker.learning.judging.training_batches import Training
from worker.learning.judging.withheld_verdicts import withhold_verdicts
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Progress, Stopped, TrainingContext, Unavailable, find

SMALL = {"encoder_widths": (24, 12), "decoder_widths": (12, 24), "latent": 2}
BRIEF = FullParams.model_validate(
    {
        "seeds": 3,
        "reference": {"steps": 150},
        "draws": 100,
        "attacks": 64,
        "attack_steps": 20,
        "relearning": {"steps": 8},
        "capacity_examples": 64,
    }
)


@lru_cache
def digits() -> Dataset:
    return load("digits", Path())


class Digits:
    """The archive of a model of the bundled digits, except for labels whose data is gone."""

    def __init__(self, *gone: str) -> None:
        self.gone = gone

    def images(self, label: Label) -> torch.Tensor:
        if label.name in self.gone:
            raise Unavailable(f"the images of {label.name} were deleted")
        return digits().train[label.source]

    def held_out(self, label: Label) -> torch.Tensor:
        return digits().test[label.source]

    def newest_without(self, names: object) -> Checkpoint:
        raise Unavailable("no measurement needs an ancestor")

    def widths_without(self, names: object) -> dict[str, list[int]]:
        raise Unavailable("no measurement needs an ancestor")


@pytest.fixture(scope="module")
def forgetful() -> Checkpoint:
    """It learned 0, 1 and 7, and forgot 7 in name only."""
    names = ("0", "1", "7")
    examples = Examples(names, "digits", {name: digits().train[name] for name in names})
    found = find("learn", "retrain")
    params = found.Params.model_validate({"schedule": {"steps": 150}, "fisher_examples": 1})
    context = TrainingContext(torch.device("cpu"), 0, Digits())
    return found.run(blank(SMALL, seed=0), examples, params, context).with_status(["7"], "forgotten")


@pytest.fixture(scope="module")
def measured(forgetful: Checkpoint) -> FullReport:
    """The report on it, with all data there."""
    return report_of(forgetful)


@lru_cache
def feature_network_of(dataset: str) -> FeatureNetwork:
    """Trained for a moment."""
    training = Training(seed=101, steps=2, real=32, negatives=10)
    weights = train_weights(FEATURE_NETWORK, digits().train, training)
    network = restore_network(FEATURE_NETWORK, weights, len(digits().labels))
    return FeatureNetwork(digits().labels, network, version=sha256(weights).hexdigest(), test_accuracy=0.5)


def report_of(checkpoint: Checkpoint, *gone: str, **callbacks: Any) -> FullReport:
    context = TrainingContext(torch.device("cpu"), 3, Digits(*gone), **callbacks)
    return measure_full_report(checkpoint, load_judge, feature_network_of, context, BRIEF, draw=draw)


def test_it_adds_to_the_quick_report_and_takes_nothing_away(
    forgetful: Checkpoint, measured: FullReport
) -> None:
    quick = measure_quick_report(
        forgetful,
        load_judge,
        n=100,
        seed=3,
        draw=draw,
        held_out=Digits().held_out,
        train_images=Digits().images,
    )
    assert all(one.coverage is not None for one in quick.retained.labels.values())
    assert all(one.relative_coverage is not None for one in quick.retained.labels.values())
    quality = measured.quality["digits"]
    assert quality.relative_accuracy is not None
    assert quality.relative_coverage is not None
    assert quality.relative_accuracy.measured_value >= quality.accuracy.measured_value
    assert 0 < quality.relative_coverage.measured_value < 1.5
    for name in ("n", "seed", "judge", "retained", "forgotten"):
        assert getattr(measured, name) == getattr(quick, name)
    assert measured.capacity.model_copy(update={"layers": {}}) == quick.capacity
    assert measured.capacity.layers["encoder.0"].units == 24
    assert measured.reference.seeds == len(measured.reference.accuracy) == 3
    feature_network = measured.feature_network["digits"]
    assert (feature_network.version, feature_network.test_accuracy) == (
        feature_network_of("digits").version,
        0.5,
    ), "what FID, coverage and recovery rest on"
    assert measured.forgetting.distance.measured_value > 0


def test_the_coverage_beside_references_is_that_of_sets_of_draws(
    forgetful: Checkpoint, measured: FullReport
) -> None:
    """There are 36 real test images of a label, and 100 draws."""
    feature_network, covered = feature_network_of("digits"), []
    for name in ("0", "1"):
        seed = TrainingContext(torch.device("cpu"), 3).with_seed_for(name).seed
        around = Neighbourhoods.of(feature_network.embed(digits().test[name].float() / 255))
        covered.append(around.coverage_by_sets(feature_network.embed(draw(forgetful, name, 100, seed))))
    quality = measured.quality["digits"]
    assert quality.coverage_ratio is not None
    references = quality.coverage_ratio.references
    assert quality.coverage_ratio.measured_value == pytest.approx(mean(covered) / mean(references))
    assert mean(covered) < quality.coverage.measured_value, "all draws together cover more"


def test_killed_at_any_part_of_it_the_report_is_that_of_an_undisturbed_run(
    forgetful: Checkpoint, measured: FullReport
) -> None:
    """Killed where references are trained, where a label is learnt again, and in the last training."""
    snapshots = Memory()
    for phase, step in (("learning", 60), ("recovery of 7", 11), ("relearning 7", 5), ("learning", 390)):

        def kill(progress: Progress, phase: str = phase, step: int = step) -> None:
            if (progress.phase, progress.step) == (phase, step):
                raise Killed

        with pytest.raises(Killed):
            report_of(forgetful, snapshots=snapshots, on_progress=kill)
    seen: list[Progress] = []
    assert report_of(forgetful, snapshots=snapshots, on_progress=seen.append) == measured
    steps = [one.step for one in seen if one.loss is not None]
    assert steps == list(range(steps[0], 401))
    assert 380 < steps[0] <= 390


def test_it_survives_json_and_every_figure_has_a_value_or_a_reason(measured: FullReport) -> None:
    assert read_report(json.loads(json.dumps(measured.as_json(), allow_nan=False))) == measured
    placed = list_figures(measured)
    assert len(placed) > 20
    for name, figure in ((one.name, one.figure) for one in placed):
        assert figure.value is not None or figure.reason, name


def test_the_curves_of_learning_a_label_again_are_kept_of_every_network(measured: FullReport) -> None:
    curves = measured.forgetting.labels["7"].relearning.curves
    assert curves is not None
    assert curves.target_accuracy == 0.9
    assert len(curves.references) == 3
    for curve in (curves.candidate, *curves.references):
        assert [step for step, _ in curve] == [0, 4, 8]
        assert all(accuracy == round(accuracy, 4) for _, accuracy in curve)


def test_a_label_forgotten_in_name_only_is_found_out(forgetful: Checkpoint) -> None:
    def draw_sevens(of: Checkpoint, label: str, n: int, seed: int) -> torch.Tensor:
        """The candidate shows real sevens, the references what they draw."""
        if of.weights is not forgetful.weights or label != "7":
            return draw(of, label, n, seed)
        return digits().test["7"].float().div(255).repeat(30, 1)[:n]

    context = TrainingContext(torch.device("cpu"), 3, Digits())
    forgetting = measure_full_report(
        forgetful, load_judge, feature_network_of, context, BRIEF, draw=draw_sevens
    ).forgetting
    assert forgetting.verdict == "missed"
    assert "7: accuracy" in forgetting.missed


def test_a_label_to_retain_whose_data_is_gone_leaves_no_reference_and_says_so(forgetful: Checkpoint) -> None:
    report = report_of(forgetful, "1")
    label = report.forgetting.labels["7"]
    assert label.recovery.value is None
    assert "the images of 1 were deleted" in (label.recovery.reason or "")
    assert label.verdict is None
    assert label.unmeasured == ("accuracy", "membership", "recovery", "relearning")
    assert "deleted" in (report.reference.reason or "")
    quality = report.quality["digits"]
    assert (quality.coverage.value, quality.labels) == (None, {})
    assert quality.coverage_ratio is not None
    assert quality.coverage_ratio.threshold is not None, "it is held to something, and could not be measured"


def test_beside_references_that_learned_too_little_nothing_is_measured_and_the_report_says_so(
    forgetful: Checkpoint,
) -> None:
    context = TrainingContext(torch.device("cpu"), 3, Digits())
    one_step = BRIEF.reference.model_copy(update={"steps": 1})
    params = BRIEF.model_copy(update={"reference": one_step})
    report = measure_full_report(forgetful, load_judge, feature_network_of, context, params, draw=draw)
    assert (report.reference.seeds, len(report.reference.accuracy)) == (0, 3)
    label = report.forgetting.labels["7"]
    assert label.verdict is None
    assert "train references longer" in (label.recovery.reason or "")
    assert report.forgetting.verdict != "met"


@pytest.mark.parametrize(
    ("candidate", "accuracies", "taken", "reason"),
    [
        (0.98, (0.98, 0.98, 0.94), 3, ""),
        (0.98, (0.98, 0.98, 0.80), 0, "the accuracy of a reference on the retained labels is only 80.0%"),
        (None, (None, None, None), 0, "no retained label has a judge"),
    ],
)
def test_one_weak_reference_of_three_is_one_too_many_and_so_are_some_that_nobody_can_judge(
    forgetful: Checkpoint,
    candidate: float | None,
    accuracies: tuple[float | None, ...],
    taken: int,
    reason: str,
) -> None:
    found = choose_references([forgetful] * 3, candidate, accuracies, draws=200)
    assert len(found.networks) == taken
    assert found.reason.startswith(reason)
    assert (found.reason == "") == (taken > 0)


def test_a_forgotten_label_whose_data_is_gone_is_not_audited_and_says_so(forgetful: Checkpoint) -> None:
    forgetting = report_of(forgetful, "7").forgetting
    assert forgetting.labels["7"].membership.reason == "the images of 7 were deleted"
    assert forgetting.control.value is None
    assert forgetting.verdict is None


@pytest.mark.parametrize(("auc", "verdict", "missed"), [(0.55, "missed", ("control",)), (0.9, "met", ())])
def test_an_attack_that_finds_nothing_where_there_is_something_shows_nothing(
    auc: float, verdict: str, missed: tuple[str, ...]
) -> None:
    """The label itself met everything."""
    label = summarise_label(compare(REFERENCE, OTHERS), TwoSampleFigure(value=0.0, n=3), None)
    assert label.verdict == "met"
    forgetting = summarise_forgetting(
        {"7": label},
        distance=FunctionDistance(value=1.0, n=3),
        control=Estimate(auc, 35).figure(CONTROL_AUC_THRESHOLD),
    )
    assert (forgetting.verdict, forgetting.missed) == (verdict, missed)


def test_what_a_judge_below_its_own_thresholds_decides_has_no_verdict_and_what_it_does_not_has() -> None:
    label = summarise_label(compare(REFERENCE, OTHERS), TwoSampleFigure(value=0.0, n=3), None)
    part = summarise_forgetting(
        {"7": label, "8": label},
        distance=FunctionDistance(value=1.0, n=3),
        control=Estimate(0.9, 35).figure(CONTROL_AUC_THRESHOLD),
    )
    withheld = withhold_verdicts(part, {"7": "the judge errs"})
    seven = withheld.labels["7"]
    for figure in (seven.accuracy, seven.recovery, seven.relearning):
        assert (figure.verdict, figure.fixed_verdict, figure.reason) == (None, None, "the judge errs")
        assert figure.value is not None
    assert seven.membership == label.membership, "no judge is asked"
    assert (seven.verdict, seven.unmeasured) == (None, ("accuracy", "recovery", "relearning"))
    assert withheld.labels["8"] == label
    assert (part.verdict, withheld.verdict) == ("met", None)


def test_a_verdict_needs_every_label_and_the_control_to_be_measured() -> None:
    label = summarise_label(compare(REFERENCE, OTHERS), TwoSampleFigure(value=0.0, n=3), None)
    control = Figure.unmeasured("its images were deleted", CONTROL_AUC_THRESHOLD)
    forgetting = summarise_forgetting(
        {"7": label}, distance=FunctionDistance(value=1.0, n=3), control=control
    )
    assert (forgetting.verdict, forgetting.missed) == (None, ())


def test_with_nothing_forgotten_nothing_is_retrained(forgetful: Checkpoint) -> None:
    report = report_of(forgetful.with_status(["7"], "permanent"))
    assert report.forgetting.labels == {}
    assert report.forgetting.verdict is None
    assert report.reference.seeds == 0
    assert report.quality["digits"].coverage.measured_value > 0
    assert report.quality["digits"].coverage_ratio is None


@pytest.mark.parametrize(
    "weak", [{"seeds": 2}, {"attacks": 63}, {"attack_steps": 19}, {"relearning": {"steps": 7}}, {"draws": 99}]
)
def test_a_request_cannot_choose_tests_that_nothing_would_miss(weak: dict[str, Any]) -> None:
    """The schema refuses them too, which the service checks a request against."""
    with pytest.raises(ValidationError):
        FullParams.model_validate(weak)
    assert not Draft202012Validator(FullParams.model_json_schema()).is_valid(weak)


def test_it_stops_when_it_is_told_to(forgetful: Checkpoint) -> None:
    with pytest.raises(Stopped):
        report_of(forgetful, should_stop=lambda: True)
