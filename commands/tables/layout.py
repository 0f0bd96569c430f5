"""How tables look, and a few words for states, times and numbers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from reports import Figure, join_reasons

STATE_STYLES = {
    "succeeded": "green",
    "permanent": "green",
    "temporary": "cyan",
    "running": "cyan",
    "verifying": "cyan",
    "queued": "yellow",
    "cancelling": "yellow",
    "failed": "red",
    "rejected": "red",
    "revoked": "red",
    "forgotten": "red",
    "met": "green",
    "missed": "red",
    "pending": "yellow",
    "delivered": "green",
    "ready": "green",
    "degraded": "yellow",
    "unavailable": "red",
}


WHOLE = (
    "model",
    "job",
    "key",
    "version",
    "operation",
    "sha256",
    "file",
    "dataset",
    "created",
    "took",
    "webhook",
    "message",
    "sample",
    "export",
    "project",
    "at",
)
"""Columns that are never broken into lines: what is copied, and what is short."""


def listing(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Return an empty table. numbers: the columns that are aligned to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in WHOLE,
        )
    return table


def facts(*rows: tuple[str, RenderableType | None]) -> Table:
    """Return a table of names and values, without those that are None."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    return table


def state(word: str) -> Text:
    """Return a state in its colour."""
    return Text(word, style=STATE_STYLES.get(word, ""))


def ago(at: datetime | None) -> str:
    """Return how long ago something was, roughly."""
    if at is None:
        return "-"
    seconds = (datetime.now(UTC) - at).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def seconds(duration: float | None) -> str:
    """Return a duration."""
    if duration is None:
        return "-"
    if duration < 120:
        return f"{duration:.1f} s"
    return f"{duration / 60:.0f} min" if duration < 7200 else f"{duration / 3600:.1f} h"


def percent(figure: Figure) -> str:
    """Return a figure that is a share, with its interval, or why it was not measured."""
    if figure.value is None:
        return f"not measured: {figure.reason}" if figure.reason else "not measured"
    interval = f" ({figure.interval[0]:.1%} to {figure.interval[1]:.1%})" if figure.interval else ""
    return f"{figure.value:.1%}{interval}"


def reason(figure: Figure) -> str:
    """Return the reason that stands beside a measured figure, to be added to other words."""
    return f"; {figure.reason}" if figure.value is not None and figure.reason else ""


def why_no_verdict(*figures: Figure) -> str | None:
    """Return why measured figures have no verdict, None if there is no such reason."""
    return join_reasons(figure for figure in figures if figure.value is not None)


def names(labels: Iterable[str]) -> str:
    """Return names in a row, or a dash."""
    shown = list(labels)
    return (", " if any(" " in label for label in shown) else " ").join(shown) or "-"


def metadata(entries: Mapping[str, str]) -> str | None:
    """Return metadata in a line, None if there is none."""
    return " ".join(f"{key}={value}" for key, value in entries.items()) or None


def number(figure: Figure | None) -> str:
    """Return a figure in four digits."""
    return "-" if figure is None or figure.value is None else f"{figure.value:.4g}"


def share(figure: Figure) -> str:
    """Return a figure that is a share, without its interval."""
    return "-" if figure.value is None else f"{figure.value:.1%}"
