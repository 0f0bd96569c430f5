"""A report read as figures: one number each, with what it rests on and what it is held to.

A figure is {value, n, interval, threshold, verdict}: with a reason where it could not be measured or decided,
and where there are references, with what they showed, whether the plain `bar` is met (the threshold allows
for their spread), and of learning a label again its `memory`. verdict is `met`, `missed` or null. The quick
report's own groups call the value `accuracy`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Figure = dict[str, Any]
Path = tuple[str, ...]

PARTS = ("value", "n", "interval", "threshold", "verdict")
SOMETIMES = ("reason", "references", "bar", "memory")


class Found(NamedTuple):
    """A figure, and where in the report it stands."""

    path: Path
    figure: Figure


def figures(report: Mapping[str, Any]) -> list[Found]:
    """Every figure of a report, in its own order; capacity's plain numbers count as figures too."""
    return [*_walk(report, ()), *_capacity(report.get("capacity", {}))]


def figure(entry: Mapping[str, Any]) -> Figure:
    """The parts of a figure, whatever its value is called; null where the report says nothing."""
    told = {"value": entry.get("accuracy"), **entry}
    return {part: told.get(part) for part in PARTS} | {part: told[part] for part in SOMETIMES if part in told}


def relapsed(report: Mapping[str, Any]) -> list[str]:
    """The forgotten labels whose accuracy is above what it is held to."""
    labels: Mapping[str, Mapping[str, Any]] = report.get("forgotten", {}).get("labels", {})
    return [name for name, one in labels.items() if one.get("verdict") == "missed"]


def recovered(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{forgotten label: {candidate, reference}}: the pictures an attack ended with, where there was one."""
    labels: Mapping[str, Mapping[str, Any]] = report.get("forgetting", {}).get("labels", {})
    return {name: one["pictures"] for name, one in labels.items() if one.get("pictures")}


def relearned(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{forgotten label: its relearning figure}, where there are `curves`: {learnt, candidate, references}.

    Each curve is [[optimiser steps, accuracy of the label's draws], ...], `learnt` the accuracy to reach.
    """
    labels: Mapping[str, Mapping[str, Any]] = report.get("forgetting", {}).get("labels", {})
    found = {name: one.get("relearning", {}) for name, one in labels.items()}
    return {name: one for name, one in found.items() if one.get("curves")}


def moved(before: Figure | None, after: Figure | None) -> dict[str, Any]:
    """{change, clear}: how far a value moved, and whether its intervals are apart; null where unknown."""
    if before is None or after is None or None in (before["value"], after["value"]):
        return {"change": None, "clear": None}
    apart = None
    if before["interval"] and after["interval"]:
        (low, high), (other_low, other_high) = before["interval"], after["interval"]
        apart = high < other_low or other_high < low
    return {"change": after["value"] - before["value"], "clear": apart}


def _walk(node: Any, path: Path) -> Iterator[Found]:
    if not isinstance(node, Mapping) or path[:1] in (("criteria",), ("capacity",), ("judge",)):
        return
    if "n" in node and ("value" in node or "accuracy" in node):
        yield Found(path, figure(node))
    for name, child in node.items():
        yield from _walk(child, (*path, str(name)))


def _capacity(capacity: Mapping[str, Any]) -> Iterator[Found]:
    for name, value in capacity.items():
        if isinstance(value, int | float):
            yield Found(("capacity", name), figure({"value": value}))
