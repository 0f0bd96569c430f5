"""A measured figure as a report shows it: the value, what it rests on, the limit, the verdict."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Protocol

from scipy import special
from torch import Tensor

from worker.learning.judging.figures import Z_95, wilson


class Threshold(Protocol):
    def holds(self, value: float) -> bool:
        """Whether the value keeps it."""


Figure = dict[
    str, Any
]  # {value, n, interval [low, high] or null, threshold, verdict}; reason where not measured


def figure(
    value: float, n: int, *, interval: Sequence[float] | None = None, threshold: Threshold | None = None
) -> Figure:
    """verdict: "met" or "missed" by the value against the threshold; null where it only informs."""
    return {
        "value": value,
        "n": n,
        "interval": None if interval is None else list(interval),
        "threshold": None if threshold is None else str(threshold),
        "verdict": None if threshold is None else "met" if threshold.holds(value) else "missed",
    }


def share(hits: int, n: int, threshold: Threshold | None = None) -> Figure:
    """A share with Wilson's interval."""
    return figure(hits / n, n, interval=wilson(hits, n), threshold=threshold)


def unmeasured(reason: str, threshold: Threshold | str | None = None) -> Figure:
    limit = None if threshold is None else str(threshold)
    return {"value": None, "n": 0, "interval": None, "threshold": limit, "verdict": None, "reason": reason}


def over_images(values: Tensor, threshold: Threshold | None = None) -> Figure:
    """The mean over images [n], with the normal 95 % interval of that mean."""
    mean, half = values.mean().item(), Z_95 * values.std().item() / math.sqrt(len(values))
    return figure(mean, len(values), interval=(mean - half, mean + half), threshold=threshold)


def over_seeds(values: Sequence[float], threshold: Threshold | None = None) -> Figure:
    """The mean over runs of different seeds, with Student's 95 % interval of it; none for a single run."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return figure(mean, len(values), threshold=threshold)
    half = _student(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
    return figure(mean, len(values), interval=(mean - half, mean + half), threshold=threshold)


def of_another(values: Sequence[float]) -> tuple[float, float]:
    """Where, with 95 % confidence, one more run of another seed lies: mean +- t s sqrt(1 + 1/n), n > 1.

    The range of three references holds a fourth one only every second time; this holds it nineteen times of
    twenty, if runs are normally distributed.
    """
    half = _student(len(values)) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    mean = statistics.mean(values)
    return mean - half, mean + half


def _student(n: int) -> float:
    return float(special.stdtrit(n - 1, 0.975))
