"""Estimates with 95 % intervals: shares, means and AUCs; and prediction intervals for one more run."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reports import Figure, Range, Threshold

Z_95 = 1.959963984540054  # the two-sided 95 % point of the standard normal


@dataclass(frozen=True)
class Estimate:
    """A measured value, how many draws, images or networks it was measured on, and its interval if any."""

    value: float
    n: int
    interval: tuple[float, float] | None = None

    def figure(self, threshold: Threshold | Range | None = None) -> Figure:
        """Return it as a figure of a report, with the verdict by the threshold if there is one."""
        verdict = None if threshold is None else threshold.verdict(self.value)
        return Figure(
            value=self.value, n=self.n, interval=self.interval, threshold=threshold, verdict=verdict
        )


def share(hits: int, n: int) -> Estimate:
    """Estimate a share, hits of n > 0, with Wilson's interval."""
    return Estimate(hits / n, n, wilson_interval(hits, n))


def mean_over_images(values: Tensor) -> Estimate:
    """Estimate the mean of values [n], one per image, n > 1, with its normal interval."""
    mean, half = values.mean().item(), Z_95 * values.std().item() / math.sqrt(len(values))
    return Estimate(mean, len(values), (mean - half, mean + half))


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Estimate the mean over runs of different seeds, with Student's interval; a single run has none."""
    mean = statistics.mean(values)
    interval = interval_of_mean(values) if len(values) > 1 else None
    return Estimate(mean, len(values), interval)


def interval_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of the mean of runs: mean +- t s / sqrt(n), n > 1."""
    half = _student(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return mean - half, mean + half


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the prediction interval for one more run of another seed: mean +- t s sqrt(1 + 1/n), n > 1.

    The range of three references contains a fourth one only every second time. This interval contains it in
    19 of 20 cases, if runs are normally distributed.
    """
    half = _student(len(values)) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    mean = statistics.mean(values)
    return mean - half, mean + half


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the interval of a share, hits of n (Wilson 1927), within [0, 1]; for n = 0 it is [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # For 0 or n hits the bound is exactly 0 or 1; the formula would leave a rounding error.
    return (max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < n else 1.0)


def auc_interval(value: float, members: int, others: int) -> tuple[float, float]:
    """Return the normal interval of an AUC of so many members and other images (Hanley & McNeil 1982)."""
    one, two = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (members - 1) * (one - value**2) + (others - 1) * (two - value**2)
    half = Z_95 * math.sqrt(max(0.0, variance) / (members * others))
    return max(0.0, value - half), min(1.0, value + half)


def _student(n: int) -> float:
    """The two-sided 95 % point of Student's t for n runs."""
    from scipy import special  # not needed to start a worker

    return float(special.stdtrit(n - 1, 0.975))
