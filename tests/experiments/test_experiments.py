"""Sizes are compared pass by pass."""

import pytest

from experiments.auto_size import summarize
from experiments.running import Result
from experiments.significance import spearman


def sized(accuracy: float, parameters: int, units: int, held: int) -> Result:
    return {"open": accuracy, "parameters": parameters, "units": units, "held": held}


def test_sizes_are_compared_pass_by_pass() -> None:
    fixed = [{"passes": [sized(0.9, 100, 10, 1), sized(0.9, 100, 10, 5)]}]
    auto = [{"passes": [sized(0.9, 50, 5, 1), sized(0.8, 70, 9, 5)]}]
    found = summarize(fixed, auto)
    assert found["accuracy_difference"] == pytest.approx(-0.05)
    assert found["parameters_saved"] == pytest.approx(0.4)
    assert found["width_follows_labels"] == 1


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 2, 3], [10, 20, 30], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 1, 2, 3], [1, 2, 3, 4], 0.9486833)],
)
def test_spearman_is_the_correlation_of_ranks_and_ties_share_theirs(
    one: list[float], other: list[float], expected: float
) -> None:
    assert spearman(one, other) == pytest.approx(expected)


def test_a_width_that_never_changes_has_no_rank_correlation() -> None:
    assert spearman([3, 3, 3], [1, 2, 3]) == 0
