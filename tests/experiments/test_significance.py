"""The statistics of the experiments, compared with those of scipy and with numbers worked out by hand."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from experiments.paper import PUBLISHED_FIXED, PUBLISHED_RESIZED
from experiments.significance import (
    Array,
    bernoulli_divergence,
    bootstrap_interval,
    interval,
    paired_t_test,
    permutation_test,
)


def test_an_interval_is_that_of_students_t() -> None:
    values = [0.91, 0.95, 0.97, 0.99]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values) == pytest.approx({"mean": 0.955, "low": low, "high": high, "n": 4})


@pytest.mark.parametrize("measure", [interval, bootstrap_interval])
def test_one_run_has_no_interval_and_equal_runs_have_an_empty_one(
    measure: Callable[[Sequence[float]], dict[str, Any]],
) -> None:
    assert measure([0.9]) == {"mean": 0.9, "low": None, "high": None, "n": 1}
    assert measure([0.9, 0.9]) == {"mean": 0.9, "low": 0.9, "high": 0.9, "n": 2}


def test_a_bootstrap_interval_stays_among_the_values_and_is_the_same_each_time() -> None:
    values = [1.0, 1.0, 0.99, 0.8]
    found = bootstrap_interval(values)
    assert 0.8 <= found["low"] < found["mean"] < found["high"] <= 1
    assert bootstrap_interval(values) == found


def test_a_paired_test_sees_what_an_unpaired_one_does_not() -> None:
    one, other = [0.81, 0.91, 0.95, 0.99], [0.80, 0.899, 0.94, 0.981]
    found = paired_t_test(one, other)
    assert stats.ttest_ind(one, other).pvalue > 0.5
    assert found["p"] < 0.001
    differences = np.subtract(one, other)
    assert found["t"] == pytest.approx(differences.mean() / (differences.std(ddof=1) / 2))
    assert found["mean"] == pytest.approx(differences.mean())
    assert 0 < found["low"] < found["mean"] < found["high"]


def test_the_papers_table_1_shows_no_difference_by_the_t_test() -> None:
    found = paired_t_test(PUBLISHED_RESIZED, PUBLISHED_FIXED)
    assert (round(found["mean"], 2), round(found["t"], 2), round(found["p"], 2)) == (1.38, 1.99, 0.14)
    assert found["low"] < 0 < found["high"]


def test_where_every_difference_is_the_same_there_is_no_t() -> None:
    found = paired_t_test([0.5, 0.6], [0.4, 0.5])
    assert (found["t"], found["p"]) == (None, None)
    assert found["mean"] == pytest.approx(0.1)


def test_the_divergence_of_pixels_is_scipys_of_their_two_outcomes() -> None:
    one, other = np.random.default_rng(0).random((2, 5, 7))
    found = bernoulli_divergence(one, other)
    for index in np.ndindex(one.shape):
        p, q = one[index], other[index]
        assert found[index] == pytest.approx(distance.jensenshannon([p, 1 - p], [q, 1 - q], base=2) ** 2)


def test_a_divergence_is_0_for_the_same_pixels_and_1_for_opposite_ones() -> None:
    assert bernoulli_divergence(np.array([0.3, 0.0, 1.0]), np.array([0.3, 0.0, 0.0])).tolist() == [0, 0, 1]


def test_the_distances_of_two_groups_on_a_line_are_those_worked_out_by_hand() -> None:
    places = np.array([0.0, 1.0, 10.0, 11.0])
    found = permutation_test(np.abs(places[:, None] - places), [0, 1], [2, 3])
    # across: 10, 11, 9, 10; within: 1 and 1. Of six splits, only this one, counted twice, has that excess.
    assert found == pytest.approx({"within": 1, "across": 10, "excess": 9, "p": 1 / 3})


def test_the_permutation_test_agrees_with_scipys() -> None:
    places = np.random.default_rng(1).normal(size=8) + np.array([0, 0, 0, 0, 1, 1, 1, 1])
    distances = np.abs(places[:, None] - places)

    def excess(first: Array, second: Array) -> Any:
        chosen, rest = (list(map(int, one)) for one in (first, second))
        pairs = [pair for group in (chosen, rest) for pair in itertools.combinations(group, 2)]
        return distances[np.ix_(chosen, rest)].mean() - np.mean([distances[pair] for pair in pairs])

    groups = (np.arange(4), np.arange(4, 8))
    expected = stats.permutation_test(
        groups, excess, vectorized=False, alternative="greater", n_resamples=math.inf
    )
    found = permutation_test(distances, range(4), range(4, 8))
    assert found["excess"] == pytest.approx(expected.statistic)
    assert found["p"] == pytest.approx(expected.pvalue)
