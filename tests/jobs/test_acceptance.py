"""A version is published only if what was measured meets the criteria that were frozen with its job."""

from typing import Any

import pytest

from reports import Report, Threshold, Verdict, at_least, at_most
from tests.reports.made_up import label_group, quick_report
from worker.jobs.acceptance import AcceptanceCriteria, acceptance_error, apply_criteria

RETAINED = {"0": 0.99, "1": 0.81}
FORGOTTEN = {"8": 0.004, "9": 0.06}


def measured(
    retained: dict[str, float | None] | None = None, forgotten: dict[str, float | None] | None = None
) -> Report:
    """A report as it is before any criterion is applied to it."""
    return quick_report([], {}).model_copy(
        update={
            "retained": label_group(RETAINED if retained is None else retained),
            "forgotten": label_group(FORGOTTEN if forgotten is None else forgotten),
        }
    )


def applied(report: Report, **acceptance: Any) -> Report:
    return apply_criteria(report, AcceptanceCriteria.model_validate(acceptance))


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
    report = applied(measured(), **acceptance)
    assert acceptance_error(report) is None
    assert {one.verdict for one in report.criteria} <= {"met"}


@pytest.mark.parametrize(
    ("acceptance", "message"),
    [
        ({"retained_accuracy_min": 0.91}, "retained_accuracy_min 0.91 (measured 0.9 on 1000 draws)"),
        ({"worst_retained_accuracy_min": 0.82}, "worst_retained_accuracy_min 0.82 for '1' (measured 0.81"),
        ({"forgotten_accuracy_max": 0.05}, "forgotten_accuracy_max 0.05 for '9' (measured 0.06"),
        ({"relapse_accuracy_max": {"9": 0.01}}, "relapse_accuracy_max 0.01 for '9' (measured 0.06"),
    ],
)
def test_a_criterion_that_is_missed_refuses_it(acceptance: dict[str, Any], message: str) -> None:
    error = acceptance_error(applied(measured(), **acceptance))
    assert error is not None
    assert message in error["message"]
    assert error["type"] == "acceptance_failed"


def test_a_refusal_gives_every_reason_as_a_figure() -> None:
    error = acceptance_error(applied(measured(), retained_accuracy_min=0.95, forgotten_accuracy_max=0.003))
    assert error is not None
    reasons = [
        (one["criterion"], one["label"], one["threshold"], one["value"], one["verdict"])
        for one in error["reasons"]
    ]
    assert reasons == [
        ("retained_accuracy_min", None, {"op": ">=", "limit": 0.95}, 0.9, "missed"),
        ("forgotten_accuracy_max", "8", {"op": "<=", "limit": 0.003}, 0.004, "missed"),
        ("forgotten_accuracy_max", "9", {"op": "<=", "limit": 0.003}, 0.06, "missed"),
    ]
    assert error["reasons"][2]["interval"] == [pytest.approx(0.05), pytest.approx(0.07)]
    assert {one["n"] for one in error["reasons"]} == {1000}


@pytest.mark.parametrize(
    ("promised", "requested", "name"),
    [(0.01, 0.5, "relapse_accuracy_max"), (0.5, 0.01, "forgotten_accuracy_max")],
)
def test_the_tighter_of_two_limits_on_a_forgotten_label_counts(
    promised: float, requested: float, name: str
) -> None:
    report = applied(measured(), forgotten_accuracy_max=requested, relapse_accuracy_max={"9": promised})
    [criterion] = [one for one in report.criteria if one.label == "9"]
    assert (criterion.criterion, criterion.threshold) == (name, at_most(0.01))
    assert criterion.verdict == "missed"


def test_what_could_not_be_measured_misses_its_criterion() -> None:
    report = applied(measured(retained={"0": None}), retained_accuracy_min=0.0)
    error = acceptance_error(report)
    assert error is not None
    assert "could not be measured" in error["message"]
    assert error["reasons"][0]["reason"] == "no judge"
    assert report.retained.verdict is None, "nothing was seen, so nothing is said of it"


def test_a_forgotten_label_has_a_verdict_even_without_a_criterion() -> None:
    report = applied(measured())
    assert report.criteria == ()
    found = {name: (one.threshold, one.verdict) for name, one in report.forgotten.labels.items()}
    assert found == {"8": (at_most(0.05), "met"), "9": (at_most(0.05), "missed")}


@pytest.mark.parametrize(
    ("acceptance", "labels", "threshold", "verdict"),
    [
        ({"forgotten_accuracy_max": 0.1}, {"8": 0.004, "9": 0.07}, at_most(0.1), "met"),
        ({"forgotten_accuracy_max": 0.01}, {"8": 0.004, "9": 0.04}, at_most(0.01), "missed"),
        ({"relapse_accuracy_max": {"9": 0.1}}, {"8": 0.004, "9": 0.07}, None, "met"),
        ({}, {"8": 0.004, "9": 0.07}, at_most(0.05), "missed"),
        ({}, {"8": 0.004, "9": None}, at_most(0.05), None),
        ({}, {}, None, None),
    ],
)
def test_what_was_forgotten_is_judged_together_as_each_label_is(
    acceptance: dict[str, Any],
    labels: dict[str, float | None],
    threshold: Threshold | None,
    verdict: Verdict | None,
) -> None:
    report = measured(forgotten=labels)
    before = report.forgotten.model_copy(update={"threshold": at_most(0.05), "verdict": "missed"})
    group = applied(report.model_copy(update={"forgotten": before}), **acceptance).forgotten
    assert (group.threshold, group.verdict) == (threshold, verdict)


def test_verdicts_stand_beside_the_figures_they_are_about() -> None:
    before = measured()
    report = applied(
        before, retained_accuracy_min=0.9, worst_retained_accuracy_min=0.9, forgotten_accuracy_max=0.1
    )
    assert (report.retained.threshold, report.retained.verdict) == (at_least(0.9), "met")
    assert [one.verdict for one in report.retained.labels.values()] == ["met", "missed"]
    assert report.forgotten.labels["9"].threshold == at_most(0.1)
    assert before == measured(), "the report it was given is left alone"


def test_a_criterion_is_applied_to_what_a_judge_below_its_thresholds_measured_and_has_its_reason() -> None:
    """The limit is the client's own. The figures of the report have no verdict."""
    report = measured()
    reason = {"reason": "the judge errs"}
    groups = {
        name: group.model_copy(
            update=reason | {"labels": {one: f.model_copy(update=reason) for one, f in group.labels.items()}}
        )
        for name, group in (("retained", report.retained), ("forgotten", report.forgotten))
    }
    found = applied(report.model_copy(update=groups), retained_accuracy_min=0.5, forgotten_accuracy_max=0.05)
    assert [(one.verdict, one.reason) for one in found.criteria] == [
        ("met", reason["reason"]),
        ("met", reason["reason"]),
        ("missed", reason["reason"]),
    ]
    assert (found.retained.threshold, found.retained.verdict) == (at_least(0.5), None)
    assert [one.verdict for one in found.forgotten.labels.values()] == [None, None]
    assert (found.forgotten.verdict, found.relapsed) == (None, [])
