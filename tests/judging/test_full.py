"""The full report has the quick one's keys and more; what cannot be had is null with a reason."""

import json
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.datasets import Dataset, load
from worker.learning.drawing import draw
from worker.learning.judging.classifier_training import train_weights
from worker.learning.judging.classifiers import restore_network
from worker.learning.judging.evidence import figure
from worker.learning.judging.feature_network import FEATURE_NETWORK, FeatureNetwork
from worker.learning.judging.full import FullParams, full
from worker.learning.judging.judge import load_judge
from worker.learning.judging.report import quick
from worker.learning.judging.training_batches import Training
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Stopped, TrainingContext, Unavailable, find

SMALL = {"encoder_widths": (24, 12), "decoder_widths": (12, 24), "latent": 2}
BRIEF = FullParams(
    seeds=3,
    reference={"steps": 150},
    draws=100,
    attacks=64,
    attack_steps=20,
    relearning={"steps": 8},
    capacity_examples=64,
)


@lru_cache
def digits() -> Dataset:
    return load("digits", Path())


class Digits:
    """The archive of a model of the bundled digits, less those whose data is gone."""

    def __init__(self, *gone: str) -> None:
        self.gone = gone

    def images(self, label: Label) -> torch.Tensor:
        if label.name in self.gone:
            raise Unavailable(f"the images of {label.name} were deleted")
        return digits().train[label.source]

    def held_out(self, label: Label) -> torch.Tensor:
        return digits().test[label.source]


@pytest.fixture(scope="module")
def forgetful() -> Checkpoint:
    """It learnt 0, 1 and 7, and forgot 7 in name only."""
    names = ("0", "1", "7")
    given = Examples(names, "digits", {name: digits().train[name] for name in names})
    found = find("learn", "retrain")
    params = found.Params(schedule={"steps": 150}, fisher_examples=1)
    learnt = found.run(blank(SMALL, seed=0), given, params, TrainingContext(torch.device("cpu"), 0, Digits()))
    return learnt.with_status(["7"], "forgotten")


@lru_cache
def feature_network_of(dataset: str) -> FeatureNetwork:
    """Trained for a moment."""
    training = Training(seed=101, steps=2, real=32, negatives=10)
    weights = train_weights(FEATURE_NETWORK, digits().train, training)
    network = restore_network(FEATURE_NETWORK, weights, len(digits().labels))
    return FeatureNetwork(digits().labels, network, version=sha256(weights).hexdigest(), test_accuracy=0.5)


def report_of(checkpoint: Checkpoint, *gone: str, **callbacks) -> dict:
    context = TrainingContext(torch.device("cpu"), 3, Digits(*gone), **callbacks)
    return full(checkpoint, load_judge, feature_network_of, context, BRIEF, draw=draw)


def figures_in(value, path=()):
    if isinstance(value, dict):
        if {"value", "n", "threshold"} <= value.keys():
            yield path, value
        for name, one in value.items():
            yield from figures_in(one, (*path, name))


def test_it_adds_to_the_quick_report_and_takes_nothing_away(forgetful):
    report = report_of(forgetful)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    expected = quick(forgetful, load_judge, n=100, seed=3, draw=draw, held_out=Digits().held_out)
    assert all(one["coverage"] is not None for one in expected["retained"]["labels"].values())
    assert report["level"] == "full"
    for name in ("n", "seed", "judge", "retained", "forgotten"):
        assert report[name] == expected[name]
    assert expected["capacity"].items() <= report["capacity"].items()
    assert set(report["capacity"]["layers"]["encoder.0"]) == {"units", "dead_units", "effective_rank"}
    assert report["reference"]["seeds"] == len(report["reference"]["accuracy"]) == 3
    assert report["feature_network"] == {
        "digits": {"version": feature_network_of("digits").version, "test_accuracy": 0.5}
    }, "what FID, coverage and recovery rest on"
    found = list(figures_in(report))
    assert len(found) > 20
    for path, one in found:
        assert {"value", "n", "interval", "threshold", "verdict"} <= one.keys(), path
        assert one["value"] is not None or one["reason"], path
    label = report["forgetting"]["labels"]["7"]
    assert {"accuracy", "recovery", "relearning", "membership", "two_sample"} <= label.keys()
    assert "distance" not in label, "it is of the networks, whatever label was forgotten"
    assert report["forgetting"]["distance"]["value"] > 0


def test_the_curves_of_learning_a_label_again_are_kept_of_every_network(forgetful):
    figure = report_of(forgetful)["forgetting"]["labels"]["7"]["relearning"]
    curves = figure["curves"]
    assert curves["learnt"] == 0.9
    assert len(curves["references"]) == 3
    for curve in (curves["candidate"], *curves["references"]):
        assert [step for step, _ in curve] == [0, 4, 8]
        assert all(accuracy == round(accuracy, 4) for _, accuracy in curve)


def test_a_label_forgotten_in_name_only_is_found_out(forgetful):
    def telling(of: Checkpoint, label: str, n: int, seed: int) -> torch.Tensor:
        """The candidate shows real sevens, the references what they draw."""
        if of.weights is not forgetful.weights or label != "7":
            return draw(of, label, n, seed)
        return digits().test["7"].float().div(255).repeat(30, 1)[:n]

    context = TrainingContext(torch.device("cpu"), 3, Digits())
    figures = full(forgetful, load_judge, feature_network_of, context, BRIEF, draw=telling)["forgetting"]
    assert figures["verdict"] == "missed"
    assert "7: accuracy" in figures["missed"]


def test_a_label_to_retain_whose_data_is_gone_leaves_no_reference_and_says_so(forgetful):
    figures = report_of(forgetful, "1")
    label = figures["forgetting"]["labels"]["7"]
    assert label["recovery"]["value"] is None
    assert "the images of 1 were deleted" in label["recovery"]["reason"]
    assert label["verdict"] is None
    limits = {name: label[name]["threshold"] for name in label["unmeasured"]}
    assert set(limits) == {"accuracy", "recovery", "relearning", "membership"}
    assert None not in limits.values(), "they are held to something, and nobody could say to what avail"
    assert "deleted" in figures["reference"]["reason"]


def test_beside_references_that_learnt_too_little_nothing_is_measured_and_the_report_says_so(forgetful):
    context, lazy = (
        TrainingContext(torch.device("cpu"), 3, Digits()),
        BRIEF.reference.model_copy(update={"steps": 1}),
    )
    params = BRIEF.model_copy(update={"reference": lazy})
    report = full(forgetful, load_judge, feature_network_of, context, params, draw=draw)
    assert (report["reference"]["seeds"], len(report["reference"]["accuracy"])) == (0, 3)
    label = report["forgetting"]["labels"]["7"]
    assert label["verdict"] is None
    assert "train references longer" in label["recovery"]["reason"]
    assert report["forgetting"]["verdict"] != "met"


@pytest.mark.parametrize(
    ("accuracies", "taken", "reason"),
    [
        ((0.98, 0.98, 0.98, 0.94), 3, None),
        ((0.98, 0.98, 0.98, 0.80), 0, "a reference draws what is held right in 80.0%"),
        ((None, None, None, None), 0, "no judge knows what is held"),
    ],
)
def test_one_weak_reference_of_three_is_one_too_many_and_so_are_some_that_nobody_can_judge(
    forgetful, monkeypatch, accuracies, taken, reason
):
    answers = iter(accuracies)
    monkeypatch.setattr("worker.learning.judging.full._accuracy_of_held", lambda *_: next(answers))
    told = report_of(forgetful)["reference"]
    assert told["seeds"] == taken
    assert told.get("reason", "").startswith(reason or "")
    assert ("reason" in told) == (reason is not None)


def test_a_forgotten_label_whose_data_is_gone_is_not_audited_and_says_so(forgetful):
    figures = report_of(forgetful, "7")["forgetting"]
    assert figures["labels"]["7"]["membership"]["reason"] == "the images of 7 were deleted"
    assert figures["control"]["value"] is None
    assert figures["verdict"] is None


def test_an_attack_that_finds_nothing_where_there_is_something_shows_nothing(forgetful, monkeypatch):
    monkeypatch.setattr("worker.learning.judging.full.control_auc", lambda *_: 0.55)
    monkeypatch.setattr("worker.learning.judging.full.compared", lambda *_: {})  # every other bar is met
    monkeypatch.setattr("worker.learning.judging.full._two_sample", lambda *_: figure(0.0, 1))
    figures = report_of(forgetful)["forgetting"]
    assert figures["labels"]["7"]["verdict"] == "met"
    assert (figures["verdict"], figures["missed"]) == ("missed", ["control"])


def test_with_nothing_forgotten_nothing_is_retrained(forgetful):
    report = report_of(forgetful.with_status(["7"], "permanent"))
    assert report["forgetting"]["labels"] == {}
    assert report["forgetting"]["verdict"] is None
    assert report["reference"]["seeds"] == 0
    assert report["quality"]["digits"]["coverage"]["value"] > 0


@pytest.mark.parametrize(
    "weak", [{"seeds": 2}, {"attacks": 63}, {"attack_steps": 19}, {"relearning": {"steps": 7}}, {"draws": 99}]
)
def test_who_asks_cannot_choose_tests_that_nothing_would_miss(weak):
    """By the schema too, which is what the service checks a request against."""
    with pytest.raises(ValidationError):
        FullParams(**weak)
    assert not Draft202012Validator(FullParams.model_json_schema()).is_valid(weak)


def test_it_stops_when_asked_to(forgetful):
    with pytest.raises(Stopped):
        report_of(forgetful, should_stop=lambda: True)
