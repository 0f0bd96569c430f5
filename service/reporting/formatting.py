"""Format numbers and names for a report's page."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import Figure

NOTHING = "—"


def percent(share: float) -> str:
    """Format a share as `95.1 %`."""
    return f"{100 * share:.1f} %"


def percent_interval(figure: Figure) -> str:
    """Format the interval of a share as `95.9 to 96.8 %`."""
    if figure.interval is None:
        return "no interval"
    low, high = figure.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: Any) -> str:
    """Format a number to four digits, and a list or mapping of numbers as one line; None as a dash."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {number(one)}" for name, one in value.items())
    if isinstance(value, Sequence):
        return ", ".join(map(number, value)) or NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def interval(figure: Figure) -> str:
    """Format the interval of a figure as `0.959 to 0.968`."""
    return " to ".join(map(number, figure.interval)) if figure.interval else NOTHING


def seconds(value: float) -> str:
    """Format seconds as `under 1 s`, `19 s` or `2 min`."""
    if value < 1:
        return "under 1 s"
    return f"{value:.0f} s" if value < 99.5 else f"{value / 60:.0f} min"


def share_limit(threshold: Any) -> str:
    """Format the limit of a share as `at most 5.0 %`."""
    words_of = {"<=": "at most", ">=": "at least"}
    return f"{words_of[threshold.op]} {percent(threshold.limit)}"


def words(name: str) -> str:
    """Replace the underscores of a name such as `worst_retained_accuracy_min` by spaces."""
    return name.replace("_", " ")
