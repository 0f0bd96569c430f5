"""List the figures of a report with their places in it, and pair the figures of two reports."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reports import Capacity, Figure, FigureSummary, Report
from reports.values import Value

Path = tuple[str, ...]
"""The fields and keys that lead to a figure: `("retained", "labels", "1")`."""


class PlacedFigure(NamedTuple):
    """A figure with its place in the report."""

    path: Path
    figure: Figure

    @property
    def name(self) -> str:
        return ".".join(self.path)


class Change(NamedTuple):
    """The difference of two values, and whether their 95 % intervals do not overlap; None where unknown."""

    change: float | None
    clear: bool | None


class FigurePair(NamedTuple):
    """The same figure in two reports; None where a report does not have it."""

    name: str
    before: FigureSummary | None
    after: FigureSummary | None

    @property
    def change(self) -> Change:
        return _change(self.before, self.after)


def list_figures(report: Report) -> list[PlacedFigure]:
    """List every figure of the report, in the report's order.

    The figures of the criteria are left out, because they repeat others. The number of parameters of the main
    network comes last.
    """
    sections = [(name, part) for name, part in report if name not in ("criteria", "capacity")]
    found = [figure for name, part in sections for figure in _figures_in(part, (name,))]
    return [*found, *_sizes(report.capacity)]


def pair_figures(before: Report, after: Report) -> list[FigurePair]:
    """Pair the figures of two reports: those of `after` in its order, then those that only `before` has."""
    old, new = ({one.name: one.figure for one in list_figures(report)} for report in (before, after))
    names = [*new, *(name for name in old if name not in new)]
    return [FigurePair(name, _summary(old.get(name)), _summary(new.get(name))) for name in names]


def _figures_in(part: object, path: Path) -> Iterator[PlacedFigure]:
    if isinstance(part, Figure):
        yield PlacedFigure(path, part)
    if isinstance(part, Value):
        for name, child in part:
            yield from _figures_in(child, (*path, name))
    elif isinstance(part, Mapping):
        for name, child in part.items():
            yield from _figures_in(child, (*path, str(name)))


def _sizes(capacity: Capacity) -> Sequence[PlacedFigure]:
    return [PlacedFigure(("capacity", "parameters"), Figure(value=capacity.parameters, n=1))]


def _summary(figure: Figure | None) -> FigureSummary | None:
    return None if figure is None else FigureSummary.of(figure)


def _change(before: Figure | None, after: Figure | None) -> Change:
    if before is None or after is None or before.value is None or after.value is None:
        return Change(None, None)
    clear = None
    if before.interval is not None and after.interval is not None:
        (low, high), (other_low, other_high) = before.interval, after.interval
        clear = high < other_low or other_high < low
    return Change(after.value - before.value, clear)
