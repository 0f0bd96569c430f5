"""The page of strategies: a table of figures with the controls under each strategy, and what each does."""

import inspect
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.attempts import ATTEMPTS
from experiments.controls import SLOW, VARIANTS, Control, Key, controls_of
from experiments.remarks import REMARKS
from worker.learning import strategy
from worker.learning.strategy import Strategy

Row = Mapping[str, Any]
COLUMNS = (
    "operation",
    "strategy",
    "retained",
    "coverage",
    "new",
    "forgotten",
    "seconds",
    "parameters",
    "what the idea adds, in points",
)
MEASURES = {"retained": 1, "coverage": 1, "new": 1, "forgotten": -1}
"""Figure -> 1 if more of it is better, -1 if less."""
NOT_MEASURED = "not measured yet"
LEAST = 0.3
"""Percentage points that an idea must add on average to be said to add something."""
LEAST_SIZE = 3
"""Percent of the parameters by which a strategy's result must differ to be said to be smaller or larger."""
INTRO = f"""
Every strategy runs with its default params, from a model that has learned 0-4 with the default strategy. The
strategies for hypernetworks run from a model of the architecture `hyper` that has learned them with
`hypernetwork`. A learn strategy learns 5, 6 and 7, a forget strategy forgets 3, a resize strategy resizes.
For `merge` and
`drop`, the model has learned 5, 6 and 7 as temporary labels; they make them permanent or forget them.
Accuracy is the share of 1,000 draws of each label that the open-set judge takes for that label; a draw it
rejects counts as wrong. Coverage is the share of real test images of the retained labels with a draw among
their five nearest neighbours. It is shown because accuracy alone also rises if all draws of a label look
the same.

Under each strategy stand its controls: the same strategy, from the same network and with the same seed, with
its idea switched off. The last column has the strategy's figures minus the control's, in percentage points,
with the least and the most over the seeds; the sign of `forgotten` is turned, so that more is better. A
figure is named there only if the difference has the same sign for every seed and a mean of at least {LEAST};
the number of parameters, if it differs by {LEAST_SIZE} % at least.
"""


def page(results: Mapping[str, Any]) -> str:
    """Return the page: a table of the figures, and what each strategy does, from its docstring."""
    strategies, rows, code = strategy.all_strategies(), results["rows"], results["code"][:12]
    seeds = len({row["seed"] for row in rows})
    lines = [
        "# Strategies",
        "",
        "Written by `python -m experiments.strategies`; do not edit by hand. `make pages` updates its text.",
        *(f"\n{' '.join(paragraph.split())}" for paragraph in INTRO.strip().split("\n\n")),
        "",
        f"MNIST, one CPU thread, {'1 seed' if seeds == 1 else f'means of {seeds} seeds'}, seconds of CPU.",
        "",
        " ".join(
            [
                *(f"`{one['command']}`, and then" for one in results.get("earlier", ())),
                f"`{results['command']}`.",
                *([REMARKS[code]] if code in REMARKS else ()),
            ]
        ),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(line for one in strategies for line in table_lines(one, rows)),
    ]
    for one in strategies:
        lines += ["", f"## {one.operation}: `{one.name}`", "", inspect.cleandoc(one.run.__doc__ or "")]
        lines += ["", f"Source: {one.source}."]
        if (one.operation, one.name) in ATTEMPTS:
            lines += ["", " ".join(ATTEMPTS[one.operation, one.name].split())]
    return "\n".join(lines) + "\n"


def table_lines(one: Strategy, rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table for a strategy: its own, those of its variants and of its controls."""
    key, seeds = (one.operation, one.name), len({row["seed"] for row in rows})
    lines = []
    for variant in ("", *VARIANTS.get(key, {})):
        measured = rows_of(rows, key, variant, "")
        if key in SLOW and not variant and not measured:
            continue
        name = f"`{one.name}`" + (" (default)" if one.default and not variant else "")
        fewer = f"{len(measured)} of {seeds} seeds" if 0 < len(measured) < seeds else ""
        title = ", ".join(filter(None, (name, variant, fewer)))
        lines.append(_line([one.operation, title, *cells(measured), "" if measured else NOT_MEASURED]))
        for control in controls_of(key, variant):
            lines.append(control_line(measured, rows_of(rows, key, variant, control.off), control))
    return lines


def control_line(measured: Sequence[Row], controls: Sequence[Row], control: Control) -> str:
    return _line(["", f"*{control.off}*", *cells(controls), gains(measured, controls)])


def rows_of(rows: Sequence[Row], key: Key, variant: str, control: str) -> list[Row]:
    """Return the rows of a strategy or of its control, in the order of seeds."""
    found = [row for row in rows if matches(row, key, variant, control)]
    return sorted(found, key=lambda row: row["seed"])


def matches(row: Row, key: Key, variant: str, control: str) -> bool:
    """Whether the row is of this strategy, variant and control."""
    names = ("operation", "strategy", "variant", "control")
    return tuple(row[name] for name in names) == (*key, variant, control)


def cells(rows: Sequence[Row]) -> list[str]:
    """Return the means of the rows as the cells of the table, from the third column on; dashes for none."""
    if not rows:
        return ["-"] * (len(COLUMNS) - 3)

    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return statistics.mean(values) if values else None

    def share(name: str) -> str:
        value = mean(name)
        return "-" if value is None else f"{100 * value:.1f} %"

    return [*map(share, MEASURES), f"{mean('seconds') or 0:.1f}", f"{mean('parameters') or 0:,.0f}"]


def gains(measured: Sequence[Row], controls: Sequence[Row]) -> str:
    """Say by how much the strategy is better than its control, seed by seed, in percentage points."""
    if not measured or not controls:
        return NOT_MEASURED
    words = []
    for name, sign in MEASURES.items():
        pairs = [
            (one[name], other[name])
            for one, other in zip(measured, controls, strict=True)
            if one[name] is not None and other[name] is not None
        ]
        points = [100 * sign * (one - other) for one, other in pairs]
        if not points or abs(statistics.mean(points)) < LEAST or min(points) * max(points) <= 0:
            continue
        spread = f" ({min(points):.1f} to {max(points):.1f})" if len(points) > 1 else ""
        words.append(f"{name} {statistics.mean(points):+.1f}{spread}")
    fewer = [
        100 * (one["parameters"] / other["parameters"] - 1)
        for one, other in zip(measured, controls, strict=True)
    ]
    if abs(statistics.mean(fewer)) >= LEAST_SIZE and min(fewer) * max(fewer) > 0:
        words.append(f"parameters {statistics.mean(fewer):+.0f} %")
    if any(
        one["forgotten"] is None and other["forgotten"] is not None
        for one, other in zip(measured, controls, strict=True)
    ):
        words.append("the labels cannot be drawn")
    return ", ".join(words) or "nothing measurable"


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
