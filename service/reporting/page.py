"""A version's report as a page people read: verdicts first, then every figure with what it rests on.

Made on the server from `dashboard/report.jinja`, without a script; charts are drawn in the page itself.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.registry.reports import StoredReport
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.version_files import COMPARED_DRAWS, before_file, forgotten_file
from service.registry.versions import is_downloadable
from service.reporting.figures import Figure, figure, figures, recovered, relapsed, relearned

DRAWS = f"0.png?grid=1x{COMPARED_DRAWS}&scale=2"
"""Eight draws of a label, none chosen: seeds 0 to 7."""

CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 300, 70, 12
PLOT = {"left": 38, "right": 300, "top": 20, "bottom": 134}
"""Where a curve is drawn, in pixels; around it are the words of its axes."""
LEAST_TOP = 0.02
"""A chart of next to nothing still has a height."""

BESIDE = {
    "rejected": "{} rejected",
    "closed_accuracy": "{} if the judge may not reject",
    "coverage": "covers {} of the real images",
}
"""What a quick report measures of a label's draws besides their accuracy."""

DEEDS = {"learn": "learned", "forget": "forgot", "resize": "resized"}


@dataclass(frozen=True)
class Subject:
    """What a page is about."""

    model: ModelRow
    version: VersionRow
    parent: VersionRow | None
    job: JobRow
    evidence: StoredReport
    earlier: Sequence[StoredReport]
    """Full reports of the version before this one, newest first."""
    relapses: Mapping[str, Sequence[Mapping[str, Any]]]
    """{forgotten label: what each version drew for it}."""


@dataclass(frozen=True)
class Headline:
    """A verdict in one glance."""

    title: str
    value: str
    rests_on: str
    verdict: str | None
    otherwise: str = "no limit set"
    """What is said where there is no verdict."""


@dataclass(frozen=True)
class Bar:
    """A share of 0 to 1 as a bar, its interval and its limit as marks. Positions are 0 to 100."""

    name: str
    figure: Figure
    beside: str
    """What else was measured of it."""
    width: float
    low: float | None
    high: float | None
    limit: float | None


@dataclass(frozen=True)
class Chart:
    """Points joined by a line: {x, y, low, high, words}, in pixels from the upper left corner."""

    name: str
    points: list[dict[str, Any]]
    limit: float | None
    top: str
    """What the upper edge stands for."""
    missed: bool


@dataclass(frozen=True)
class Curves:
    """How a label was learned again, as points of polylines, `x,y x,y ...` in pixels."""

    name: str
    figure: Figure
    candidate: str
    references: list[str]
    limit: float
    """The height at which it counts as learned."""
    learnt: float
    steps: int
    """What the right edge stands for."""
    words: str


def render(subject: Subject) -> str:
    """The page, as HTML."""
    report, version = subject.evidence.report, subject.version
    labels = {kind: report.get(kind, {}).get("labels", {}) for kind in ("retained", "forgotten")}
    return PAGE.render(
        subject=subject,
        report=report,
        here=f"/v1/models/{subject.model.name}/versions/{version.number}",
        deed=_deed(subject.job),
        headlines=_headlines(report),
        criteria=[(_criterion(one), figure(one)) for one in report.get("criteria", [])],
        bars={kind: [_bar(name, one) for name, one in found.items()] for kind, found in labels.items()},
        relapses=[_relapse(name, points, version.number) for name, points in subject.relapses.items()],
        pictures=_pictures(subject, labels["forgotten"]),
        details=_details(report),
        recovered=[(name, quote(name, safe="")) for name in recovered(report)],
        relearned=[_curves(name, one) for name, one in relearned(report).items()],
        layers=report.get("capacity", {}).get("layers", {}),
        cost=subject.evidence.cost,
        findings=[(name, json.dumps(value)) for name, value in report.get("findings", {}).items()],
        files=[
            (name, quote(name) if is_downloadable(version, name) else None, file)
            for name, file in sorted(version.files.items())
        ],
    )


def _deed(job: JobRow) -> str:
    """What the job did, as a person says it."""
    what = ", ".join(job.labels) if job.labels else "the network"
    return f"{DEEDS.get(job.operation, job.operation)} {what} by {job.strategy.replace('_', ' ')}"


def _headlines(report: Mapping[str, Any]) -> list[Headline]:
    found = [
        _share("Kept", report.get("retained", {}), _verdict(report, "retained")),
        _share("Forgotten", report.get("forgotten", {}), _verdict(report, "forgotten")),
    ]
    criteria = report.get("criteria", [])
    missed = [one for one in criteria if one["verdict"] == "missed"]
    words = f"{len(criteria) - len(missed)} of {len(criteria)} met" if criteria else "none set"
    found.append(Headline("Criteria", words, "fixed when the job was accepted", _passed(criteria, missed)))
    again = relapsed(report)
    if report.get("forgotten", {}).get("labels"):
        rests_on = "forgotten labels above their limit"
        verdict = _all_of([one.get("verdict") for one in report["forgotten"]["labels"].values()])
        found.append(Headline("Relapsed", ", ".join(again) or "none", rests_on, verdict, "not all measured"))
    if report.get("level") == "full":
        found.append(_tests(report))
    return found


def _tests(report: Mapping[str, Any]) -> Headline:
    """Of every figure that has a limit, those without a verdict among them."""
    verdicts = [one.figure["verdict"] for one in figures(report) if one.figure["threshold"]]
    undecided = verdicts.count(None)
    rests_on = "of the figures with a limit" + (f"; {undecided} undecided" if undecided else "")
    value = f"{verdicts.count('met')} of {len(verdicts)} met" if verdicts else "none"
    return Headline("Tests", value, rests_on, _all_of(verdicts), "no verdict")


def _all_of(verdicts: Sequence[str | None]) -> str | None:
    """missed if one is, met if every one is, and there is one."""
    return "missed" if "missed" in verdicts else "met" if set(verdicts) == {"met"} else None


def _criterion(entry: Mapping[str, Any]) -> str:
    whose = f" of {entry['label']}" if entry["label"] is not None else ""
    return words(entry["criterion"]) + whose


def _share(title: str, group: Mapping[str, Any], verdict: str | None) -> Headline:
    told = figure(group)
    if told["value"] is None:
        why = told.get("reason") or "not measured"
        return Headline(title, "—", why, None)
    return Headline(title, percent(told["value"]), f"{interval(told)}, {told['n']:,} draws", verdict)


def _verdict(report: Mapping[str, Any], kind: str) -> str | None:
    """Of a group and its labels, as far as they are held to anything."""
    group = report.get(kind, {})
    parts = (group, *group.get("labels", {}).values())
    return _all_of([one.get("verdict") for one in parts if one.get("threshold")])


def _passed(criteria: Sequence[object], missed: Sequence[object]) -> str | None:
    return None if not criteria else "missed" if missed else "met"


def _bar(name: str, entry: Mapping[str, Any]) -> Bar:
    told = figure(entry)
    low, high = told["interval"] or (None, None)
    return Bar(
        name,
        told,
        beside=", ".join(
            said.format(percent(entry[name])) for name, said in BESIDE.items() if entry.get(name) is not None
        ),
        width=100 * (told["value"] or 0.0),
        low=None if low is None else 100 * low,
        high=None if high is None else 100 * high,
        limit=None if (limit := _limit(told["threshold"])) is None else 100 * limit,
    )


def _relapse(name: str, points: Sequence[Mapping[str, Any]], number: int) -> Chart:
    """A forgotten label's accuracy by version, up to this one and beyond it."""
    measured = [point for point in points if point["accuracy"] is not None]
    limits = [limit for point in points if (limit := _limit(point["threshold"])) is not None]
    highest = [(point["interval"] or [0, point["accuracy"]])[1] for point in measured]
    top = min(1.0, max([2 * limit for limit in limits] + highest + [LEAST_TOP]))
    step = (CHART_WIDTH - 2 * CHART_MARGIN) / max(len(measured) - 1, 1)
    drawn = []
    for index, point in enumerate(measured):
        low, high = point["interval"] or [point["accuracy"]] * 2
        drawn.append(
            {
                "x": round(CHART_MARGIN + index * step, 1),
                "y": _height(point["accuracy"], top),
                "low": _height(low, top),
                "high": _height(high, top),
                "missed": point["verdict"] == "missed",
                "here": point["version"] == number,
                "words": f"version {point['version']}: {percent(point['accuracy'])}",
            }
        )
    limit = _height(limits[-1], top) if limits else None
    return Chart(name, drawn, limit, percent(top), any(point["missed"] for point in drawn[-1:]))


def _height(value: float, top: float) -> float:
    """Pixels from the upper edge."""
    return round(4 + (CHART_HEIGHT - 8) * (1 - min(value / top, 1.0)), 1)


def _curves(name: str, entry: Mapping[str, Any]) -> Curves:
    told = entry["curves"]
    mine, others = told["candidate"], told["references"]
    steps = max(curve[-1][0] for curve in (mine, *others))
    ends = ", ".join(percent(curve[-1][1]) for curve in others)
    return Curves(
        name,
        figure(entry),
        candidate=_line(mine, steps),
        references=[_line(curve, steps) for curve in others],
        limit=_down(told["learnt"]),
        learnt=told["learnt"],
        steps=steps,
        words=f"accuracy after {steps} steps: this version {percent(mine[-1][1])}, references {ends}",
    )


def _line(curve: Sequence[Sequence[float]], steps: int) -> str:
    across = (PLOT["right"] - PLOT["left"]) / max(steps, 1)
    return " ".join(f"{PLOT['left'] + step * across:.1f},{_down(accuracy)}" for step, accuracy in curve)


def _down(accuracy: float) -> float:
    """Pixels from the upper edge of a plot whose top is 1."""
    return round(PLOT["bottom"] - (PLOT["bottom"] - PLOT["top"]) * accuracy, 1)


def _pictures(subject: Subject, forgotten: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of every label held: what the parent drew and what this version draws. Of a forgotten one: its file.

    Nothing is drawn from a revoked version; a purged one has lost the files of what it forgot, too. What a
    parent drew that was revoked by forgetting is a file as well.
    """
    version, parent, model = subject.version, subject.parent, subject.model
    if version.purged_by:
        return []
    drawable = {} if version.revoked_by else version.labels
    before = {} if parent is None or parent.revoked_by or parent.purged_by else parent.labels

    def kept(file: str) -> str | None:
        here = f"/v1/models/{model.name}/versions/{version.number}/files/{quote(file)}"
        return here if file in version.files else None

    rows = [
        {
            "label": name,
            "status": "held",
            "before": _address(model, parent, name) if parent and name in before else kept(before_file(name)),
            "after": _address(model, version, name),
        }
        for name in sorted(drawable)
    ]
    for name in forgotten:
        if here := kept(forgotten_file(name)):
            rows.append({"label": name, "status": "forgotten", "before": None, "after": here})
    return rows


def _address(model: ModelRow, version: VersionRow, label: str) -> str:
    return f"/v1/models/{model.name}/versions/{version.number}/images/{quote(label, safe='')}/{DRAWS}"


def _details(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Figure]]]]:
    """The figures of a full report beyond those of a quick one, section by section."""
    quick = ("retained", "forgotten", "capacity")
    sections: dict[str, list[tuple[str, Figure]]] = {}
    for found in figures(report):
        section, *place = found.path
        if section not in quick:
            name = " · ".join(words(step) for step in place if step != "labels")
            sections.setdefault(section, []).append((name or words(section), found.figure))
    return list(sections.items())


def _limit(threshold: str | None) -> float | None:
    """The number of `<= 0.05` or `>= 0.9`; a threshold of two sides has no one mark."""
    found = re.fullmatch(r"[<>]= ?([0-9.eE+-]+)", threshold or "")
    return float(found[1]) if found else None


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(told: Figure) -> str:
    """Of a share, as `95.9 to 96.8 %`."""
    if not told["interval"]:
        return "no interval"
    low, high = told["interval"]
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: Any) -> str:
    """Any figure's value, to four digits."""
    if value is None:
        return "—"
    if isinstance(value, list):
        return ", ".join(map(number, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {number(one)}" for name, one in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def span(told: Figure) -> str:
    """Any figure's interval."""
    return " to ".join(map(number, told["interval"])) if told["interval"] else "—"


def words(name: str) -> str:
    """`worst_retained_accuracy_min` as it is read."""
    return name.replace("_", " ")


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("service.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent,
        "interval": interval,
        "number": number,
        "span": span,
        "words": words,
    }
    made.globals |= {"chart_width": CHART_WIDTH, "chart_height": CHART_HEIGHT, "plot": PLOT}
    return made


PAGE = _environment().get_template("report.jinja")
