"""The page of strategies leaves none out; sizes are compared pass by pass."""

from pathlib import Path

import pytest

from experiments.auto_size import compared, spearman
from experiments.strategies import cells, key, page
from worker.learning.strategy import all_strategies

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"


@pytest.mark.parametrize("one", all_strategies(), ids=lambda one: f"{one.operation}-{one.name}")
def test_the_page_of_strategies_has_a_measured_row_and_a_paragraph_for_each(one):
    page = PAGE.read_text()
    assert f"## {one.operation}: `{one.name}`\n\n{one.summary}" in page
    [row] = [line for line in page.splitlines() if line.startswith(f"| {one.operation} | `{one.name}`")]
    assert row.count(" % |") >= 1


def test_the_page_of_strategies_says_what_its_command_would_but_for_the_figures():
    """A docstring, a column or a strategy that changed since it was written makes it false."""

    def words(text: str) -> list[str]:
        of_a_strategy = tuple(f"| {one.operation} |" for one in all_strategies())
        return [line for line in text.splitlines() if not line.startswith(of_a_strategy)]

    zero = {"retained": 0, "coverage": 0, "new": 0, "forgotten": 0, "seconds": 0, "parameters": 0}
    rows = [{"operation": one.operation, "strategy": one.name} | zero for one in all_strategies()]
    assert words(PAGE.read_text()) == words(page(rows, 1))


def test_a_row_is_the_mean_over_its_seeds():
    one = next(one for one in all_strategies() if one.operation == "forget")
    row = {"operation": "forget", "strategy": one.name, "coverage": 0.8, "new": None, "parameters": 1000}
    rows = [
        row | {"retained": 0.9, "forgotten": 0.0, "seconds": 1.0},
        row | {"retained": 1.0, "forgotten": 0.1, "seconds": 2.0},
    ]
    assert key(rows[0]) == ("forget", one.name)
    assert cells(one, rows).endswith("| 95.0 % | 80.0 % | - | 5.0 % | 1.5 | 1,000 |")


def sized(closed: float, parameters: int, units: int, held: int) -> dict:
    return {"open": closed, "parameters": parameters, "units": units, "held": held}


def test_sizes_are_compared_pass_by_pass():
    fixed = [{"passes": [sized(0.9, 100, 10, 1), sized(0.9, 100, 10, 5)]}]
    auto = [{"passes": [sized(0.9, 50, 5, 1), sized(0.8, 70, 9, 5)]}]
    found = compared(fixed, auto)
    assert found["accuracy_difference"] == pytest.approx(-0.05)
    assert found["parameters_saved"] == pytest.approx(0.4)
    assert found["width_follows_labels"] == 1


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 2, 3], [10, 20, 30], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 1, 2, 3], [1, 2, 3, 4], 0.9486833)],
)
def test_spearman_is_the_correlation_of_ranks_ties_sharing_theirs(one, other, expected):
    assert spearman(one, other) == pytest.approx(expected)


def test_a_width_that_never_changes_follows_nothing():
    assert spearman([3, 3, 3], [1, 2, 3]) == 0
