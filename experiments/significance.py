"""What a difference is worth: intervals, paired tests, and how far apart groups of networks are."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean of independent runs with Student's 95 % interval, {mean, low, high, n}.

    A single run has no interval: low and high are null.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "n": n}
    if _all_the_same(values):
        return {"mean": mean, "low": mean, "high": mean, "n": n}
    low, high = map(float, stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE))
    return {"mean": mean, "low": low, "high": high, "n": n}


def bootstrapped(values: Sequence[float]) -> dict[str, Any]:
    """As `interval`, by the bias-corrected bootstrap: for figures at the edge of [0, 1], which are skewed."""
    if len(values) < 2 or _all_the_same(values):
        return interval(values)
    found = stats.bootstrap((values,), np.mean, confidence_level=CONFIDENCE, rng=np.random.default_rng(0))
    low, high = map(float, found.confidence_interval)
    return {"mean": float(np.mean(values)), "low": low, "high": high, "n": len(values)}


def paired(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """one - other, run by run, {mean, low, high, n, t, p}: Student's paired t-test, two-sided.

    t and p are null where there is a single run, or where every difference is the same.
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    found: dict[str, Any] = {**interval(differences), "t": None, "p": None}
    if len(differences) > 1 and not _all_the_same(differences):
        test = stats.ttest_rel(one, other)
        found |= {"t": float(test.statistic), "p": float(test.pvalue)}
    return found


def _all_the_same(values: Sequence[float]) -> bool:
    return float(np.ptp(values)) < 1e-12


def bernoulli_divergence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon divergence of Bernoulli distributions with these means, entry by entry, in bits.

    0 where they are the same, 1 where one is always and the other never.
    """
    found: np.ndarray = _bits((one + other) / 2) - (_bits(one) + _bits(other)) / 2
    return found.clip(min=0)


def _bits(mean: np.ndarray) -> np.ndarray:
    entropy: np.ndarray = (special.entr(mean) + special.entr(1 - mean)) / np.log(2)
    return entropy


def separation(distances: np.ndarray, first: Sequence[int], second: Sequence[int]) -> dict[str, Any]:
    """Whether two groups of networks differ, by how far apart their members are.

    distances: [networks, networks], symmetric. {within, across, excess, p}: `within` is the mean distance of
    two networks of one group, `across` of two of different groups, and `excess` the difference, which is 0
    on average where both groups are of the same kind. p: the share of all ways to split the same networks
    into groups of these sizes whose excess is at least as large (an exact permutation test).
    """
    everyone = [*first, *second]
    observed = _excess(distances, first, second)
    splits = [
        (chosen, [one for one in everyone if one not in chosen])
        for chosen in itertools.combinations(everyone, len(first))
    ]
    as_large = [_excess(distances, *split)[2] >= observed[2] - 1e-12 for split in splits]
    within, across, excess = observed
    return {"within": within, "across": across, "excess": excess, "p": float(np.mean(as_large))}


def _excess(distances: np.ndarray, first: Sequence[int], second: Sequence[int]) -> tuple[float, float, float]:
    across = float(distances[np.ix_(first, second)].mean())
    pairs = [pair for group in (first, second) for pair in itertools.combinations(group, 2)]
    within = float(np.mean([distances[pair] for pair in pairs])) if pairs else 0.0
    return within, across, across - within
