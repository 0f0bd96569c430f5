"""Thresholds of figures, and verdicts: whether a figure meets its threshold."""

from collections.abc import Iterable
from typing import Literal

from reports.values import Value

Verdict = Literal["met", "missed"]


class Threshold(Value):
    """A limit on one side: the figure has to be at most, or at least, `limit`."""

    op: Literal["<=", ">="]
    limit: float

    def is_met(self, value: float) -> bool:
        """Whether the value is within the limit. A value equal to the limit is."""
        return value <= self.limit if self.op == "<=" else value >= self.limit

    def verdict(self, value: float) -> Verdict:
        """Return "met" or "missed"."""
        return "met" if self.is_met(value) else "missed"

    def __str__(self) -> str:
        return f"{self.op} {self.limit:.4g}"


class Range(Value):
    """A limit on both sides: the figure has to lie between `low` and `high`, ends included."""

    op: Literal["between"] = "between"
    low: float
    high: float

    def is_met(self, value: float) -> bool:
        """Whether the value lies in the range."""
        return self.low <= value <= self.high

    def verdict(self, value: float) -> Verdict:
        """Return "met" or "missed"."""
        return "met" if self.is_met(value) else "missed"

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


class Margin(Value):
    """A limit relative to the mean of the reference networks, whose figures are not known yet.

    `<=`: the figure has to be at most `margin` above that mean. `within`: at most `margin` away from it on
    either side.
    """

    op: Literal["<=", "within"]
    margin: float

    def __str__(self) -> str:
        if self.op == "<=":
            return f"<= references + {self.margin:.4g}"
        return f"within {self.margin:.4g} of the references"


AnyThreshold = Threshold | Range | Margin


def at_most(limit: float) -> Threshold:
    """Return the threshold `<= limit`."""
    return Threshold(op="<=", limit=limit)


def at_least(limit: float) -> Threshold:
    """Return the threshold `>= limit`."""
    return Threshold(op=">=", limit=limit)


def combine_verdicts(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Return "missed" if one verdict is, "met" if there are verdicts and all are "met", otherwise None."""
    given = set(verdicts)
    return "missed" if "missed" in given else "met" if given == {"met"} else None
