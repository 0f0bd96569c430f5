"""The gate lets a version through only if what was measured meets what was frozen with its job."""

from typing import Any

import pytest

from worker.jobs.acceptance import judged, refusal

RETAINED = {"0": 0.99, "1": 0.81}
FORGOTTEN = {"8": 0.004, "9": 0.06}


def figure(accuracy: float | None) -> dict[str, Any]:
    if accuracy is None:
        return {"accuracy": None, "n": 0, "interval": None, "rejected": None, "reason": "no judge"}
    return {"accuracy": accuracy, "n": 1000, "interval": [accuracy - 0.01, accuracy + 0.01], "rejected": 0.0}


def group(labels: dict[str, Any]) -> dict[str, Any]:
    known = [one for one in labels.values() if one is not None]
    mean = sum(known) / len(known) if known and len(known) == len(labels) else None
    return {**figure(mean), "labels": {name: figure(one) for name, one in labels.items()}}


def report(retained: dict[str, Any] | None = None, forgotten: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "retained": group(RETAINED if retained is None else retained),
        "forgotten": group(FORGOTTEN if forgotten is None else forgotten),
    }


@pytest.mark.parametrize(
    "acceptance",
    [
        {},
        {"retained_accuracy_min": 0.9},
        {"worst_retained_accuracy_min": 0.81},
        {"forgotten_accuracy_max": 0.06},
        {"relapse_accuracy_max": {"8": 0.004}},
        {"relapse_accuracy_max": {"learned again since": 0.0}},
    ],
)
def test_criteria_that_are_met_let_it_through(acceptance: dict[str, Any]) -> None:
    told = judged(report(), acceptance)
    assert refusal(told) is None
    assert {one["verdict"] for one in told["criteria"]} <= {"met"}


@pytest.mark.parametrize(
    ("acceptance", "said"),
    [
        ({"retained_accuracy_min": 0.91}, "retained_accuracy_min is 0.91, measured 0.9 of 1000"),
        ({"worst_retained_accuracy_min": 0.82}, "worst_retained_accuracy_min is 0.82 for '1', measured 0.81"),
        ({"forgotten_accuracy_max": 0.05}, "forgotten_accuracy_max is 0.05 for '9', measured 0.06"),
        ({"relapse_accuracy_max": {"9": 0.01}}, "relapse_accuracy_max is 0.01 for '9', measured 0.06"),
    ],
)
def test_a_criterion_that_is_missed_does_not(acceptance: dict[str, Any], said: str) -> None:
    error = refusal(judged(report(), acceptance))
    assert error is not None
    assert said in error["message"]
    assert error["type"] == "acceptance_failed"


def test_a_refusal_gives_every_reason_as_figures() -> None:
    acceptance = {"retained_accuracy_min": 0.95, "forgotten_accuracy_max": 0.003}
    error = refusal(judged(report(), acceptance))
    assert error is not None
    reasons = [(one["criterion"], one["label"], one["bound"], one["measured"]) for one in error["reasons"]]
    assert reasons == [
        ("retained_accuracy_min", None, 0.95, 0.9),
        ("forgotten_accuracy_max", "8", 0.003, 0.004),
        ("forgotten_accuracy_max", "9", 0.003, 0.06),
    ]
    assert error["reasons"][2]["interval"] == [pytest.approx(0.05), pytest.approx(0.07)]
    assert {one["n"] for one in error["reasons"]} == {1000}


def test_the_tighter_of_two_bounds_on_a_forgotten_label_counts() -> None:
    for promised, asked, name in ((0.01, 0.5, "relapse_accuracy_max"), (0.5, 0.01, "forgotten_accuracy_max")):
        acceptance = {"forgotten_accuracy_max": asked, "relapse_accuracy_max": {"9": promised}}
        criteria = {one["label"]: one for one in judged(report(), acceptance)["criteria"]}
        assert (criteria["9"]["criterion"], criteria["9"]["bound"]) == (name, 0.01)
        assert criteria["9"]["verdict"] == "missed"


def test_what_could_not_be_measured_misses_its_criterion() -> None:
    told = judged(report(retained={"0": None}), {"retained_accuracy_min": 0.0})
    error = refusal(told)
    assert error is not None
    assert "measured nothing" in error["message"]
    assert told["retained"]["verdict"] is None, "nothing was seen, so nothing is said of it"


def test_a_forgotten_label_has_a_verdict_even_without_a_criterion() -> None:
    told = judged(report(), {})
    assert told["criteria"] == []
    verdicts = {name: (one["threshold"], one["verdict"]) for name, one in told["forgotten"]["labels"].items()}
    assert verdicts == {"8": ("<= 0.05", "met"), "9": ("<= 0.05", "missed")}


@pytest.mark.parametrize(
    ("acceptance", "labels", "told"),
    [
        ({"forgotten_accuracy_max": 0.1}, {"8": 0.004, "9": 0.07}, ("<= 0.1", "met")),
        ({"forgotten_accuracy_max": 0.01}, {"8": 0.004, "9": 0.04}, ("<= 0.01", "missed")),
        ({"relapse_accuracy_max": {"9": 0.1}}, {"8": 0.004, "9": 0.07}, (None, "met")),
        ({}, {"8": 0.004, "9": 0.07}, ("<= 0.05", "missed")),
        ({}, {"8": 0.004, "9": None}, ("<= 0.05", None)),
        ({}, {}, (None, None)),
    ],
)
def test_what_was_forgotten_is_judged_together_as_each_label_is(
    acceptance: dict[str, Any], labels: dict[str, Any], told: tuple[str | None, str | None]
) -> None:
    before = report(forgotten=labels)
    before["forgotten"] |= {"threshold": "<= 0.05", "verdict": "missed"}  # as measured without a criterion
    group = judged(before, acceptance)["forgotten"]
    assert (group["threshold"], group["verdict"]) == told


def test_verdicts_stand_beside_the_figures_they_are_about() -> None:
    acceptance = {
        "retained_accuracy_min": 0.9,
        "worst_retained_accuracy_min": 0.9,
        "forgotten_accuracy_max": 0.1,
    }
    before = report()
    told = judged(before, acceptance)
    assert (told["retained"]["threshold"], told["retained"]["verdict"]) == (">= 0.9", "met")
    assert [one["verdict"] for one in told["retained"]["labels"].values()] == ["met", "missed"]
    assert told["forgotten"]["labels"]["9"]["threshold"] == "<= 0.1"
    assert before == report(), "the report it was given is left alone"
