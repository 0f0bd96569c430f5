"""Statistics of the experiments: intervals, paired t-tests, rank correlation, permutation tests."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

CONFIDENCE = 0.95
Array = npt.NDArray[np.float64]


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of independent runs with Student's 95 % interval, as {mean, low, high, n}.

    A single run has no interval: low and high are None.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "n": n}
    if _all_equal(values):
        return {"mean": mean, "low": mean, "high": mean, "n": n}
    low, high = map(float, stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE))
    return {"mean": mean, "low": low, "high": high, "n": n}


def bootstrap_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return the same as `interval`, but with the bias-corrected bootstrap.

    For figures close to a bound of [0, 1]: their distribution is skewed.
    """
    if len(values) < 2 or _all_equal(values):
        return interval(values)
    found = stats.bootstrap((values,), np.mean, confidence_level=CONFIDENCE, rng=np.random.default_rng(0))
    low, high = map(float, found.confidence_interval)
    return {"mean": float(np.mean(values)), "low": low, "high": high, "n": len(values)}


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Test first - second, run by run, with Student's two-sided paired t-test: {mean, low, high, n, t, p}.

    t and p are None for a single run and where all differences are equal.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    result: dict[str, Any] = {**interval(differences), "t": None, "p": None}
    if len(differences) > 1 and not _all_equal(differences):
        test = stats.ttest_rel(first, second)
        result |= {"t": float(test.statistic), "p": float(test.pvalue)}
    return result


def _all_equal(values: Sequence[float]) -> bool:
    return float(np.ptp(values)) < 1e-12


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, or 0 if all values of one side are equal.

    Equal values share their mean rank.
    """
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]


def bernoulli_divergence(first: Array, second: Array) -> Array:
    """Return the Jensen-Shannon divergence of Bernoulli distributions with these means, elementwise, in bits.

    It is 0 for equal means and 1 for the means 0 and 1.
    """
    divergence: Array = _entropy((first + second) / 2) - (_entropy(first) + _entropy(second)) / 2
    return divergence.clip(min=0)


def _entropy(mean: Array) -> Array:
    bits: Array = (special.entr(mean) + special.entr(1 - mean)) / np.log(2)
    return bits


def permutation_test(distances: Array, first: Sequence[int], second: Sequence[int]) -> dict[str, float]:
    """Test whether two groups of networks differ, by the distances between their members.

    distances: [networks, networks], symmetric. first, second: the indices of each group's members.

    Returns {within, across, excess, p}. `within` is the mean distance of two networks of the same group,
    `across` that of two networks of different groups, `excess` is across - within; its expectation is 0 if
    both groups have the same distribution. `p` is exact: the share of all splits of these networks into
    groups of these sizes whose excess is at least as large.
    """
    members = [*first, *second]
    within, across, excess = _excess(distances, first, second)
    splits = [
        (chosen, [one for one in members if one not in chosen])
        for chosen in itertools.combinations(members, len(first))
    ]
    as_large = [_excess(distances, *split)[2] >= excess - 1e-12 for split in splits]
    return {"within": within, "across": across, "excess": excess, "p": float(np.mean(as_large))}


def _excess(distances: Array, first: Sequence[int], second: Sequence[int]) -> tuple[float, float, float]:
    across = float(distances[np.ix_(first, second)].mean())
    pairs = [pair for group in (first, second) for pair in itertools.combinations(group, 2)]
    within = float(np.mean([distances[pair] for pair in pairs])) if pairs else 0.0
    return within, across, across - within
