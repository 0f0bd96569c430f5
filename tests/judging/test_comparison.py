"""A candidate that is one more reference passes; one that is far from them, on either side, does not."""

from dataclasses import replace
from typing import Any

import pytest

from worker.learning.judging.audit_measurements import AuditMeasurements
from worker.learning.judging.comparison import Comparison, compare, not_compared, summarise_verdicts
from worker.learning.judging.relearning import Curve

RISING = ((0, 0.0), (20, 0.5), (40, 1.0))
NEVER = ((0, 0.0), (20, 0.1), (40, 0.2))
AUC = {"elbo": 0.5, "reconstruction": 0.5, "elbo_set": 0.5, "reconstruction_set": 0.5}
REFERENCE = AuditMeasurements(20, 1000, 160, 256, RISING, RISING, AUC)
OTHERS = [replace(REFERENCE, found=found, drawn=drawn) for found, drawn in ((150, 15), (160, 20), (170, 25))]


def compared(**changes: Any) -> Comparison:
    """A candidate that differs from a usual reference in this, beside three usual references."""
    return compare(replace(REFERENCE, **changes), OTHERS)


def test_a_candidate_like_the_references_meets_every_threshold() -> None:
    comparison = compared()
    assert summarise_verdicts(comparison.figures) == ("met", (), ())
    for figure in comparison.figures.values():
        assert figure.threshold is not None
        assert (figure.fixed_verdict, len(figure.references)) == ("met", 3)
        assert figure.interval is not None
        low, high = figure.interval
        assert low <= figure.measured_value <= high


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"found": 250}, "recovery"),  # it still knows the label
        ({"found": 2}, "recovery"),  # no network that never saw the label is so blank
        ({"drawn": 60}, "accuracy"),
        ({"curve": ((0, 0.0), (20, 0.95))}, "relearning"),
        ({"auc": AUC | {"elbo": 0.55}}, "membership"),
        ({"auc": AUC | {"reconstruction": 0.45}}, "membership"),
    ],
)
def test_what_is_far_from_the_references_misses_its_threshold_and_no_other(
    changed: dict[str, Any], missed: str
) -> None:
    assert summarise_verdicts(compared(**changed).figures)[:2] == ("missed", (missed,))


def test_a_network_that_learns_anything_fast_is_not_said_to_remember() -> None:
    fast = ((0, 0.0), (10, 0.5), (20, 1.0))
    figure = compared(curve=fast, unseen_curve=fast).relearning
    assert figure.value == pytest.approx(0.5)
    assert figure.memory == pytest.approx(1)


def test_the_curves_that_steps_are_read_from_stand_beside_them_in_four_digits() -> None:
    curves = compared(curve=((0, 0.0), (20, 1 / 3), (40, 2 / 3))).relearning.curves
    assert curves is not None
    assert curves.target_accuracy == 0.9
    assert curves.candidate == ((0, 0.0), (20, 0.3333), (40, 0.6667))
    assert curves.references == (RISING,) * 3


def test_a_candidate_that_never_learns_it_again_takes_at_least_the_whole_curve() -> None:
    figure = compared(curve=NEVER).relearning
    assert (figure.steps, figure.is_lower_bound, figure.verdict) == (40, True, "met")
    assert figure.value == pytest.approx(40 / 36)
    assert compared().relearning.is_lower_bound is False


def test_beside_a_reference_that_never_learns_it_nothing_is_measured() -> None:
    """It may need 300 steps: that the candidate needs nearly as many as were looked at says nothing."""
    comparison = compare(REFERENCE, [*OTHERS[:2], replace(REFERENCE, curve=NEVER)])
    figure = comparison.relearning
    assert (figure.value, figure.verdict) == (None, None)
    assert figure.reason == "a reference did not reach 90% in 40 steps: allow more steps"
    assert figure.curves is not None
    assert len(figure.curves.references) == 3
    assert summarise_verdicts(comparison.figures) == (None, (), ("relearning",))


@pytest.mark.parametrize("slow", [0, 1])
def test_there_is_no_memory_where_a_network_never_learns_what_nobody_saw(slow: int) -> None:
    networks = [REFERENCE, *OTHERS]
    networks[slow] = replace(networks[slow], unseen_curve=NEVER)
    figure = compare(networks[0], networks[1:]).relearning
    assert (figure.unseen_ratio, figure.memory, figure.verdict) == (None, None, "met")


def test_a_wide_spread_of_the_references_widens_what_is_near() -> None:
    spread = [replace(REFERENCE, found=found) for found in (140, 160, 180)]
    far = replace(REFERENCE, found=110)
    assert compare(far, OTHERS).recovery.verdict == "missed"
    figure = compare(far, spread).recovery
    assert (figure.verdict, figure.fixed_verdict) == (None, "missed"), "neither near nor surely far"
    assert figure.reason == "the value misses the fixed threshold, but one more reference might miss it, too"


def curve(steps: int) -> Curve:
    """A curve that reaches 90 % after so many steps."""
    return ((0, 0.0), (steps, 0.9), (200, 1.0))


@pytest.mark.parametrize(
    ("figure", "references", "candidate"),
    [
        ("accuracy", [{"drawn": drawn} for drawn in (0, 500, 1000)], {"drawn": 1000}),
        ("recovery", [{"found": found} for found in (60, 160, 250)], {"found": 256}),
        ("relearning", [{"curve": curve(steps)} for steps in (20, 80, 140)], {"curve": curve(4)}),
        ("membership", [{"auc": dict.fromkeys(AUC, auc)} for auc in (0.1, 0.5, 0.9)], {}),
    ],
)
def test_references_so_far_apart_that_nothing_could_miss_decide_nothing(
    figure: str, references: list[dict[str, Any]], candidate: dict[str, Any]
) -> None:
    comparison = compare(
        replace(REFERENCE, **candidate), [replace(REFERENCE, **changes) for changes in references]
    )
    found = comparison.figures[figure]
    assert found.value is not None
    assert (found.verdict, found.reason) == (
        None,
        "the references are so far apart that every value would meet the threshold",
    )
    assert summarise_verdicts(comparison.figures) == (None, (), (figure,))


def test_a_label_that_was_not_compared_is_held_to_something_and_says_why_it_is_unmeasured() -> None:
    figures = not_compared("its images were deleted").figures
    assert summarise_verdicts(figures) == (None, (), ("accuracy", "membership", "recovery", "relearning"))
    for figure in figures.values():
        assert (figure.value, figure.reason) == (None, "its images were deleted")
        assert figure.threshold is not None
        assert figure.threshold == figure.fixed_threshold
