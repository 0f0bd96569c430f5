"""A candidate that is one more reference passes; one that is far from them, on either side, does not."""

from dataclasses import replace

import pytest

from worker.learning.judging.audit_measurements import Traces
from worker.learning.judging.comparison import compared, verdict

RISING = ((0, 0.0), (20, 0.5), (40, 1.0))
AUC = {"elbo": 0.5, "reconstruction": 0.5, "elbo_set": 0.5, "reconstruction_set": 0.5}
REFERENCE = Traces(20, 1000, 160, 256, RISING, RISING, AUC)
OTHERS = [replace(REFERENCE, found=found, drawn=drawn) for found, drawn in ((150, 15), (160, 20), (170, 25))]


def test_a_candidate_like_the_references_meets_every_bar():
    figures = compared(REFERENCE, OTHERS)
    assert verdict(figures) == {"verdict": "met", "missed": [], "unmeasured": []}
    for figure in figures.values():
        assert {"value", "n", "interval", "threshold", "verdict", "references"} <= figure.keys()
        low, high = figure["interval"]
        assert low <= figure["value"] <= high


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"found": 250}, "recovery"),  # it still knows the label
        ({"found": 2}, "recovery"),  # a fingerprint: no network that never saw it is so blank
        ({"drawn": 60}, "accuracy"),
        ({"curve": ((0, 0.0), (20, 0.95))}, "relearning"),
        ({"auc": AUC | {"elbo": 0.55}}, "membership"),
        ({"auc": AUC | {"reconstruction": 0.45}}, "membership"),
    ],
)
def test_what_is_far_from_the_references_misses_its_bar_and_no_other(changed, missed):
    assert verdict(compared(replace(REFERENCE, **changed), OTHERS))["missed"] == [missed]


def test_a_network_that_learns_anything_fast_is_not_said_to_remember():
    quick = ((0, 0.0), (10, 0.5), (20, 1.0))
    figure = compared(replace(REFERENCE, curve=quick, unseen_curve=quick), OTHERS)["relearning"]
    assert figure["value"] == pytest.approx(0.5)
    assert figure["memory"] == pytest.approx(1)


def test_the_curves_that_steps_are_read_from_stand_beside_them_in_four_digits():
    thirds = ((0, 0.0), (20, 1 / 3), (40, 2 / 3))
    curves = compared(replace(REFERENCE, curve=thirds), OTHERS)["relearning"]["curves"]
    assert curves["learnt"] == 0.9
    assert curves["candidate"] == [[0, 0.0], [20, 0.3333], [40, 0.6667]]
    assert curves["references"] == [[list(point) for point in RISING]] * 3


NEVER = ((0, 0.0), (20, 0.1), (40, 0.2))


def test_a_candidate_that_never_learns_it_again_takes_at_least_the_whole_curve():
    figure = compared(replace(REFERENCE, curve=NEVER), OTHERS)["relearning"]
    assert (figure["steps"], figure["at_least"], figure["verdict"]) == (40, True, "met")
    assert figure["value"] == pytest.approx(40 / 36)
    assert compared(REFERENCE, OTHERS)["relearning"]["at_least"] is False


def test_beside_a_reference_that_never_learns_it_nothing_is_measured():
    """It may need 300 steps: that the candidate needs all but as many as were looked at says nothing."""
    others = [*OTHERS[:2], replace(REFERENCE, curve=NEVER)]
    figures = compared(REFERENCE, others)
    figure = figures["relearning"]
    assert (figure["value"], figure["verdict"]) == (None, None)
    assert figure["reason"] == "a reference did not reach 90% in 40 steps: take more"
    assert len(figure["curves"]["references"]) == 3
    assert verdict(figures) == {"verdict": None, "missed": [], "unmeasured": ["relearning"]}


@pytest.mark.parametrize("slow", [0, 1])
def test_where_what_nobody_saw_is_not_learnt_memory_is_not_told(slow):
    networks = [REFERENCE, *OTHERS]
    networks[slow] = replace(networks[slow], unseen_curve=NEVER)
    figure = compared(networks[0], networks[1:])["relearning"]
    assert (figure["unseen_ratio"], figure["memory"], figure["verdict"]) == (None, None, "met")


def test_a_wide_spread_of_the_references_widens_what_is_near():
    apart = [replace(REFERENCE, found=found) for found in (140, 160, 180)]
    far = replace(REFERENCE, found=110)
    assert compared(far, OTHERS)["recovery"]["verdict"] == "missed"
    found = compared(far, apart)["recovery"]
    assert (found["verdict"], found["bar"]) == (None, "missed"), "neither near nor surely far"
    assert found["reason"] == "beyond the plain bar, as one more reference might be"


def curve(steps: int):
    return ((0, 0.0), (steps, 0.9), (200, 1.0))


@pytest.mark.parametrize(
    ("figure", "apart", "candidate"),
    [
        ("accuracy", [{"drawn": drawn} for drawn in (0, 500, 1000)], {"drawn": 1000}),
        ("recovery", [{"found": found} for found in (60, 160, 250)], {"found": 256}),
        ("relearning", [{"curve": curve(steps)} for steps in (20, 80, 140)], {"curve": curve(4)}),
        ("membership", [{"auc": dict.fromkeys(AUC, auc)} for auc in (0.1, 0.5, 0.9)], {}),
    ],
)
def test_references_so_far_apart_that_nothing_could_miss_decide_nothing(figure, apart, candidate):
    figures = compared(replace(REFERENCE, **candidate), [replace(REFERENCE, **one) for one in apart])
    found = figures[figure]
    assert found["value"] is not None
    assert (found["verdict"], found["reason"].split(" that ")[0]) == (None, "the references are so far apart")
    assert verdict(figures) == {"verdict": None, "missed": [], "unmeasured": [figure]}
