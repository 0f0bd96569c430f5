"""The gate lets a version through only if the report meets what was frozen with its job."""

from typing import Any

import pytest

from worker.gate import shortfalls


def report(retained: float | None = None, forgotten: float | None = None) -> dict[str, Any]:
    return {
        name: {"accuracy": accuracy, "labels": {} if accuracy == -1 else {"0": {}}}
        for name, accuracy in (("retained", retained), ("forgotten", forgotten))
    }


@pytest.mark.parametrize(
    ("acceptance", "measured"),
    [
        ({}, report(0.0, 1.0)),
        ({"retained_accuracy_min": 0.9}, report(0.9, 1.0)),
        ({"forgotten_accuracy_max": 0.05}, report(0.0, 0.05)),
        ({"forgotten_accuracy_max": 0.05}, report(0.0, -1)),
    ],
)
def test_criteria_that_are_met_let_it_through(acceptance: dict[str, float], measured: dict[str, Any]) -> None:
    assert shortfalls(acceptance, measured) is None


@pytest.mark.parametrize(
    ("acceptance", "measured", "said"),
    [
        ({"retained_accuracy_min": 0.9}, report(0.89), "retained_accuracy_min is 0.9, measured 0.89"),
        (
            {"forgotten_accuracy_max": 0.05},
            report(1.0, 0.06),
            "forgotten_accuracy_max is 0.05, measured 0.06",
        ),
        ({"retained_accuracy_min": 0.9}, report(None), "measured nothing"),
    ],
)
def test_criteria_that_are_missed_or_unmeasured_do_not(
    acceptance: dict[str, float], measured: dict[str, Any], said: str
) -> None:
    error = shortfalls(acceptance, measured)
    assert error is not None
    assert said in error["message"]
    assert error["type"] == "acceptance_failed"
