"""The page of strategies leaves none out and is up to date; sizes are compared pass by pass."""

from pathlib import Path

import pytest

from experiments.auto_size import summarize
from experiments.running import Result
from experiments.significance import spearman
from experiments.strategies import format_figures, page, read_figures
from worker.learning.strategy import Strategy, all_strategies

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"


@pytest.mark.parametrize("one", all_strategies(), ids=lambda one: f"{one.operation}-{one.name}")
def test_the_page_of_strategies_has_measured_figures_and_a_paragraph_for_each(one: Strategy) -> None:
    text = PAGE.read_text()
    assert f"## {one.operation}: `{one.name}`\n\n{one.summary}" in text
    figures, _ = read_figures(text)
    assert figures[one.operation, one.name][0].endswith(" %")


def test_the_page_of_strategies_is_up_to_date_with_the_code() -> None:
    """If it is not, a docstring, a column or a strategy has changed since: run `make pages`."""
    text = PAGE.read_text()
    assert page(*read_figures(text)) == text


def test_the_figures_of_the_page_are_read_as_they_were_written() -> None:
    row = {"retained": 0.9, "coverage": 0.8, "new": None, "forgotten": 0.0, "seconds": 1, "parameters": 9}
    rows = [{"operation": one.operation, "strategy": one.name} | row for one in all_strategies()]
    figures = format_figures(rows)
    for seeds in (1, 3):
        assert read_figures(page(figures, seeds)) == (figures, seeds)


def test_a_strategy_without_figures_asks_for_a_run() -> None:
    figures, seeds = read_figures(PAGE.read_text())
    without = {key: cells for key, cells in figures.items() if key != ("forget", "surrogate")}
    with pytest.raises(SystemExit, match="'surrogate': run without --text-only"):
        page(without, seeds)


def test_a_row_is_the_mean_over_its_seeds() -> None:
    row = {"operation": "forget", "strategy": "distill", "coverage": 0.8, "new": None, "parameters": 1000}
    rows = [
        row | {"retained": 0.9, "forgotten": 0.0, "seconds": 1.0},
        row | {"retained": 1.0, "forgotten": 0.1, "seconds": 2.0},
    ]
    cells = ["95.0 %", "80.0 %", "-", "5.0 %", "1.5", "1,000"]
    assert format_figures(rows) == {("forget", "distill"): cells}


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
