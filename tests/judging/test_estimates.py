"""Intervals cover the truth about 95 times in 100, by the exact distribution or by many samples."""

import math
from math import comb

import pytest
import torch

from worker.learning.judging.estimates import auc_interval, prediction_interval, wilson_interval
from worker.learning.judging.membership import auc


@pytest.mark.parametrize(
    ("hits", "n", "interval"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (50, 100, (0.4038, 0.5962)), (1, 20, (0.0089, 0.2361))],
)
def test_the_interval_is_the_published_one(hits: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson_interval(hits, n) == pytest.approx(interval, abs=1e-4)


def test_nothing_measured_means_anything_is_possible() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.93, 0.99])
def test_it_covers_the_truth_about_95_times_in_100(share: float) -> None:
    n = 200
    chance = [comb(n, hits) * share**hits * (1 - share) ** (n - hits) for hits in range(n + 1)]
    covered = sum(
        chance[hits]
        for hits in range(n + 1)
        if wilson_interval(hits, n)[0] <= share <= wilson_interval(hits, n)[1]
    )
    assert 0.92 < covered < 0.985


def test_the_interval_of_an_auc_covers_the_truth_about_95_times_in_100() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = 0.5 * (1 + math.erf(1 / 2))  # of normal costs one deviation apart
    inside = 0
    for _ in range(300):
        members, others = torch.randn(60, generator=rng), torch.randn(80, generator=rng) + 1
        low, high = auc_interval(auc(members, others), 60, 80)
        inside += low <= truth <= high
    assert 0.92 <= inside / 300 <= 0.98
    assert auc_interval(1.0, 60, 80) == (1.0, 1.0)


def test_one_more_run_lies_in_its_prediction_interval_nineteen_times_of_twenty() -> None:
    rng = torch.Generator().manual_seed(0)
    runs = torch.randn(2000, 4, generator=rng).tolist()
    held = sum(
        low <= last <= high for *first, last in runs for low, high in [prediction_interval(first)]
    ) / len(runs)
    assert held == pytest.approx(0.95, abs=0.015)
    assert not math.isinf(prediction_interval([0.1, 0.2])[1])
