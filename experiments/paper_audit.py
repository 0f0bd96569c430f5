"""The sections of docs/paper.md for `experiments.audit`."""

from collections.abc import Mapping, Sequence

from experiments.markdown import table
from experiments.running import Result

AUDIT_FIGURES = (
    "recovery_gap",
    "relearn_ratio",
    "membership_auc_gap",
    "membership_set_gap",
    "forgotten_accuracy",
    "retained_accuracy",
    "coverage_ratio",
)
CONTROLS = ("nothing", "reference", "matched")
"""Rows that are no strategy."""
CLOSENESS = (
    "free_column_cosine",
    "few_shot_1_cosine",
    "few_shot_5_cosine",
    "few_shot_30_cosine",
    "auxiliary_retained_cosine",
    "auxiliary_other_dataset_cosine",
)
"""The attacks' figures of closeness that the bar is about."""
CLOSENESS_BAR = 0.02
"""The most that the upper end of the interval of a gap in closeness may be."""


def audit(result: Result) -> list[str]:
    """Return the section for what `experiments.audit` prints, or for its rows alone."""
    strategies: Mapping[str, Result] = result.get("strategies", result)
    controls = [one["control_auc"] for one in strategies.values() if one.get("control_auc") is not None]
    control = [
        f"On a network that memorised its members, the same attack has an AUC of {auc:.3f}."
        for auc in controls
    ]
    return [
        _figures(strategies, {name: one.get("labels", "-") for name, one in strategies.items()}),
        *control,
    ]


def audit_matched(result: Result) -> list[str]:
    """Return the section for the same results beside matched references, and for the attacks on weights."""
    rows: Mapping[str, Result] = result["strategies"]
    matched = {name: one["matched"] for name, one in rows.items() if one.get("matched")}
    parts = [_figures(matched, {name: rows[name]["labels"] for name in matched})]
    for name in matched:
        if name not in CONTROLS:
            parts += [
                f"Attacks on the weights that `{name}` left:",
                _attacks(rows, name),
                _closeness(rows, name),
            ]
    return [part for part in parts if part]


def _figures(rows: Mapping[str, Result], labels: Mapping[str, object]) -> str:
    names = (name.replace("_", " ") for name in AUDIT_FIGURES)
    return table(
        ("strategy", "labels", *names, "limits missed", "verdict"),
        [
            (
                f"`{name}`",
                str(labels[name]),
                *(_with_spread(one, figure) for figure in AUDIT_FIGURES),
                _listed(one.get("bars_missed", ())),
                ": ".join([one["verdict"], *filter(None, [_listed(one.get("missed", ()), none="")])]),
            )
            for name, one in rows.items()
        ],
    )


def _attacks(rows: Mapping[str, Result], name: str) -> str:
    """A line for each attack: before and after the strategy, and beside references of both kinds."""
    retrained, matched = rows[name]["attacks"], rows[name]["matched"]["attacks"]
    before, control = rows["nothing"]["attacks"], _one_more_matched(rows)
    networks = _networks(rows[name])
    lines = []
    for figure, one in matched.items():
        other = retrained.get(figure)
        lines.append(
            (
                figure.replace("_", " "),
                _value(before.get(figure)),
                f"{one['value']:.3f}",
                "-" if other is None else f"{other['references']:.3f}",
                "-" if other is None else _gap(other),
                f"{one['references']:.3f}",
                _gap(one),
                f"{one['between']:.3f}",
                _beyond(one["beyond"], networks),
                _gap(control.get(figure)),
            )
        )
    heads = ("figure", "before", "after", "retrained", "gap", "matched", "gap", "between two", "beyond")
    return table((*heads, "gap of one more matched"), lines)


def _closeness(rows: Mapping[str, Result], name: str) -> str:
    """Say which figures of closeness are within the bars, beside matched references."""
    found, control = rows[name]["matched"]["attacks"], _one_more_matched(rows)
    measured = [figure for figure in CLOSENESS if found.get(figure, {}).get("interval")]
    if not measured:
        return ""
    above = [one for one in measured if found[one]["interval"][1] > CLOSENESS_BAR]
    highest = max(found[one]["interval"][1] for one in measured)
    of_labels = [one for one in measured if found[one]["labels_beyond"]]
    counted = [
        f"{_attack(one)} {_count(found[one], rows[name])}"
        + (f" ({_count(control[one], rows['matched'])})" if one in control else "")
        for one in measured
    ]
    labels = [f"{_attack(one)} {_listed(found[one]['labels_beyond'])}" for one in of_labels]
    return (
        "Closeness beside matched references: the largest upper end of an interval is "
        f"{highest:+.3f}; the bar is {CLOSENESS_BAR:+.3f}. Figures above it: {_listed(above)}. Labels whose "
        "gap, the mean over seeds, is larger than the largest difference between two references: "
        f"{'; '.join(labels) or 'none'}. Networks of which this is true, and in brackets how many of those "
        f"that are one more matched reference: {'; '.join(counted)}."
    )


def _attack(figure: str) -> str:
    return figure.removesuffix("_cosine").replace("_", " ")


def _count(one: Result, row: Result) -> str:
    return f"{sum(one['beyond'].values())} of {_networks(row)}"


def _one_more_matched(rows: Mapping[str, Result]) -> Mapping[str, Result]:
    attacks: Mapping[str, Result] = rows.get("matched", {}).get("matched", {}).get("attacks", {})
    return attacks


def _networks(row: Result) -> int:
    """How many networks of a row were compared with references."""
    return int(row.get("labels", 0)) * int(row.get("seeds", 1))


def _beyond(counts: Mapping[str, int], networks: int) -> str:
    """Name labels and how many networks of each, such as 3 of 30: 3 (2), 8."""
    total = sum(counts.values())
    if not total:
        return "none"
    shown = (label if times == 1 else f"{label} ({times})" for label, times in counts.items())
    return f"{total} of {networks}" + ("" if total == networks else f": {', '.join(shown)}")


def _value(one: Result | None) -> str:
    return "-" if one is None else f"{one['value']:.3f}"


def _gap(one: Result | None) -> str:
    if one is None:
        return "-"
    gap = f"{one['gap']:+.3f}"
    return (
        gap if one["interval"] is None else f"{gap} ({one['interval'][0]:+.3f} to {one['interval'][1]:+.3f})"
    )


def _listed(names: Sequence[str], none: str = "none") -> str:
    return ", ".join(name.replace("_", " ") for name in names) or none


def _with_spread(one: Result, figure: str) -> str:
    if one.get(figure) is None:
        return "unmeasured"
    spread = one.get("spread", {}).get(figure)
    return f"{one[figure]:.3f}" if spread is None else f"{one[figure]:.3f} (s = {spread:.3f})"
