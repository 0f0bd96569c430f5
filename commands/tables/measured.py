"""What was measured: reports, and two versions side by side."""

from rich.console import Group, RenderableType
from rich.text import Text

from commands.tables.layout import (
    STATE_STYLES,
    facts,
    listing,
    names,
    number,
    percent,
    reason,
    share,
    state,
    why_no_verdict,
)
from palimpsest import values
from reports import Figure, FullReport, Report

ATTACKED = ("accuracy", "recovery", "relearning", "membership")
"""The figures of a forgotten label that are compared with references."""


def comparison(one: values.Comparison) -> RenderableType:
    """Return two versions side by side."""
    before, after = one.from_, one.to
    head = facts(
        ("from", f"version {before.version}: {before.operation} ({before.strategy}), {names(before.labels)}"),
        ("to", f"version {after.version}: {after.operation} ({after.strategy}), {names(after.labels)}"),
        ("learned", names(one.learned) if one.learned else None),
        ("forgotten", names(one.forgotten) if one.forgotten else None),
    )
    columns = ("figure", f"version {before.version}", f"version {after.version}", "change", "")
    table = listing(*columns, numbers=columns[1:4])
    for figure in one.figures:
        table.add_row(
            figure.figure,
            number(figure.from_),
            number(figure.to),
            "-" if figure.change is None else f"{figure.change:+.4g}",
            Text("clear", style="bold") if figure.clear else "",
        )
    return Group(head, Text(), table, Text("\nclear: the 95 % intervals of both do not overlap", style="dim"))


def report(one: Report) -> RenderableType:
    """Return the figures of a report that tell most. The whole report is in its JSON, and on its page."""
    parts: list[RenderableType] = [
        facts(
            ("report", one.level),
            ("draws of each label", f"{one.n:,}"),
            ("guarantee", one.guarantee),
            ("accuracy", percent(one.retained)),
            ("of the judge's accuracy on real test images", _of_real(one.retained.relative_accuracy)),
            ("of the coverage of as many real train images", _of_real(one.retained.relative_coverage)),
            ("forgotten labels", percent(one.forgotten) if one.forgotten.labels else None),
            ("no verdict, because", why_no_verdict(one.retained, one.forgotten)),
            ("parameters", f"{one.capacity.parameters:,}"),
        ),
        Text(),
    ]
    table = listing("label", "", "recognised as it", "limit", "verdict")
    for what, group in (("", one.retained), ("forgotten", one.forgotten)):
        for name, figure in group.labels.items():
            limit = "-" if figure.threshold is None else str(figure.threshold)
            table.add_row(name, state(what), percent(figure), limit, state(figure.verdict or "-"))
    parts.append(table)
    if one.criteria:
        parts += [Text(), *(criterion(figure) for figure in one.criteria)]
    if isinstance(one, FullReport):
        parts += [Text(), forgetting(one)]
    return Group(*parts)


def _of_real(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.1%}"


def criterion(figure: Figure) -> RenderableType:
    """Return an acceptance criterion and what was measured for it."""
    label = getattr(figure, "label", None)
    name = f"{getattr(figure, 'criterion', '')}{f' of {label}' if label else ''}"
    measured = f"{name} {figure.threshold}: {percent(figure)}, "
    return Text.assemble(measured, state(figure.verdict or "-"), reason(figure))


def forgetting(one: FullReport) -> RenderableType:
    """Return what the attacks on the forgotten labels found, and why some figures have no verdict."""
    table = listing("forgotten label", "verdict", *ATTACKED)
    undecided: dict[str, list[str]] = {}
    for name, label in one.forgetting.labels.items():
        figures = {which: getattr(label, which) for which in ATTACKED}
        cells = [
            Text(number(each), style=STATE_STYLES.get(each.verdict or "", "")) for each in figures.values()
        ]
        table.add_row(name, state(label.verdict or "undecided"), *cells)
        for which, figure in figures.items():
            if figure.verdict is None and figure.reason is not None:
                undecided.setdefault(figure.reason, []).append(f"{which} of {name}")
    reasons = [Text(f"no verdict on {', '.join(which)}: {why}") for why, which in undecided.items()]
    return Group(table, *reasons)


def relapse(one: values.Relapse) -> RenderableType:
    """Return, for every label that was forgotten, how it was drawn since."""
    if not one.labels:
        return "It has forgotten nothing."
    table = listing("label", "status", "forgotten in", "versions since", "worst", "newest", "verdict")
    for label in one.labels:
        measured = [point for point in label.series if point.value is not None]
        worst = max(measured, key=lambda point: point.value or 0.0, default=None)
        table.add_row(
            label.label,
            state(label.status),
            "-" if label.forgotten_version is None else f"version {label.forgotten_version}",
            str(len(label.series)),
            "-" if worst is None else f"{share(worst)} in version {worst.version}",
            share(measured[-1]) if measured else "-",
            _relapse_verdict(label),
        )
    return Group(table, Text("\nworst, newest: the share of its draws that were recognised", style="dim"))


def _relapse_verdict(label: values.RelapseLabel) -> Text:
    if label.relapsed:
        return Text("relapsed", style="red")
    if label.series and label.series[-1].verdict is None:
        return Text(f"no verdict: {label.series[-1].reason or 'no limit'}")
    return Text("stayed forgotten", style="green")
