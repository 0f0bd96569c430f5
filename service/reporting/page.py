"""Render a version's report as an HTML page: verdicts first, then every figure with sample size and interval.

The server renders the page from `templates/report.jinja`. It has no script; its charts are SVG.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from reports import (
    Criterion,
    Figure,
    FigureSummary,
    FullReport,
    LabelGroup,
    Report,
    Verdict,
    combine_verdicts,
    join_reasons,
    read_report,
)
from service.registry import versions
from service.registry.reports import StoredReport
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.registry.version_files import COMPARED_DRAWS, before_file, forgotten_file
from service.reporting import formatting
from service.reporting.charts import (
    CHART_HEIGHT,
    CHART_WIDTH,
    PLOT,
    RelearningChart,
    accuracy_bar,
    relapse_chart,
    relearning_chart,
)
from service.reporting.figures import list_figures
from service.reporting.formatting import percent, percent_interval, words
from service.reporting.relapse import RelapsePoint

if TYPE_CHECKING:
    from jinja2 import Environment, Template

DRAWS = f"0.png?grid=1x{COMPARED_DRAWS}&scale=2"
"""Draws of a label with the seeds 0 to COMPARED_DRAWS - 1, so that nobody selected them."""
PAST_TENSE = {"learn": "learned", "forget": "forgot", "resize": "resized"}
QUICK_SECTIONS = ("retained", "forgotten", "capacity")


@dataclass(frozen=True)
class Subject:
    """What a page is about: the version, its report, and what the page compares it with."""

    model: ModelRow
    version: VersionRow
    parent: VersionRow | None
    job: JobRow
    is_purged: bool
    """Whether the purge of the job has taken its pictures of what it forgot."""
    stored: StoredReport
    earlier: Sequence[StoredReport]
    """Full reports of the version before this one, newest first."""
    relapses: Mapping[str, Sequence[RelapsePoint]]
    """By forgotten label: its accuracy in each version."""


@dataclass(frozen=True)
class Headline:
    """A box of the summary at the top of the page."""

    title: str
    value: str
    rests_on: str
    """What the value is based on, such as its interval and the number of draws."""
    verdict: Verdict | None
    without_verdict: str = "no limit set"
    """The text if there is no verdict."""


@dataclass(frozen=True)
class PicturedLabel:
    """A label with the addresses of its pictures."""

    name: str
    is_forgotten: bool
    before: str | None
    """Draws of the version before. Of a forgotten label they are the evidence of what it drew."""
    after: str
    """Draws of this version."""


@dataclass(frozen=True)
class Section:
    """A part of a full report as a table of figures."""

    name: str
    rows: list[tuple[str, FigureSummary]]


def render(subject: Subject) -> str:
    """Return the page as HTML."""
    report, version = subject.stored.report, subject.version
    published = read_report(
        version.report
    )  # a full report has no criteria: the version was held to none then
    return _page().render(
        subject=subject,
        report=report,
        here=f"/v1/models/{subject.model.name}/versions/{version.number}",
        job_summary=_summarise_job(subject.job),
        guarantee=subject.job.guarantee or published.guarantee,
        headlines=_headlines(report, published.criteria),
        criteria=[(_criterion_name(one), FigureSummary.of(one)) for one in published.criteria],
        retained=[accuracy_bar(name, one) for name, one in report.retained.labels.items()],
        forgotten=[accuracy_bar(name, one) for name, one in report.forgotten.labels.items()],
        why_no_verdict=_why_no_verdict(report),
        relapses=[relapse_chart(name, points, version.number) for name, points in subject.relapses.items()],
        pictures=_pictures(subject, report.forgotten.labels),
        without_evidence=_why_without_evidence(subject),
        sections=_sections(report),
        recovered=[(name, quote(name, safe="")) for name in recovered_labels(report)],
        relearned=_relearning_charts(report),
        cost=subject.stored.cost,
        findings=[(name, json.dumps(value)) for name, value in report.findings.items()],
        files=[
            (name, quote(name) if versions.is_downloadable(version, name) else None, file)
            for name, file in sorted(version.files.items())
        ],
    )


def recovered_labels(report: Report) -> list[str]:
    """Return the labels for which the report contains images that the recovery attack ended with."""
    if not isinstance(report, FullReport):
        return []
    return [name for name, one in report.forgetting.labels.items() if one.pictures is not None]


def _summarise_job(job: JobRow) -> str:
    what = ", ".join(job.labels) if job.labels else "the network"
    return f"{PAST_TENSE.get(job.operation, job.operation)} {what} by {words(job.strategy)}"


def _headlines(report: Report, criteria: Sequence[Criterion]) -> list[Headline]:
    found = [_accuracy_headline("Kept", report.retained), _accuracy_headline("Forgotten", report.forgotten)]
    found.append(_criteria_headline(criteria))
    if forgotten := report.forgotten.labels:
        all_decided = all(one.verdict is not None for one in forgotten.values())
        found.append(
            Headline(
                "Relapsed",
                ", ".join(report.relapsed) or ("none" if all_decided else "unknown"),
                "forgotten labels above their limit",
                combine_verdicts(one.verdict for one in forgotten.values()),
                "no verdict",
            )
        )
    if isinstance(report, FullReport):
        found.append(_tests_headline(report))
    return found


def _accuracy_headline(title: str, group: LabelGroup) -> Headline:
    if group.value is None:
        return Headline(title, formatting.NOTHING, group.reason or "not measured", None)
    verdict = combine_verdicts(
        one.verdict for one in (group, *group.labels.values()) if one.threshold is not None
    )
    rests_on = f"{percent_interval(group)}, {group.n:,} draws"
    if group.relative_accuracy is not None:
        rests_on += f"; {percent(group.relative_accuracy)} of the judge's accuracy on real test images"
    without_verdict = "no limit set" if group.threshold is None else "no verdict"
    return Headline(title, percent(group.value), rests_on, verdict, without_verdict)


def _criteria_headline(criteria: Sequence[Criterion]) -> Headline:
    met = sum(one.verdict == "met" for one in criteria)
    value = f"{met} of {len(criteria)} met" if criteria else "none set"
    rests_on = "fixed when the job was accepted"
    if reasons := join_reasons(criteria):
        rests_on += f"; {reasons}"
    return Headline("Criteria", value, rests_on, combine_verdicts(one.verdict for one in criteria))


def _tests_headline(report: FullReport) -> Headline:
    """Count the verdicts of all figures that have a limit. A figure without a verdict is undecided."""
    verdicts = [one.figure.verdict for one in list_figures(report) if one.figure.threshold is not None]
    undecided = verdicts.count(None)
    rests_on = "of the figures with a limit" + (f"; {undecided} undecided" if undecided else "")
    value = f"{verdicts.count('met')} of {len(verdicts)} met" if verdicts else "none"
    return Headline("Tests", value, rests_on, combine_verdicts(verdicts), "no verdict")


def _why_no_verdict(report: Report) -> str | None:
    """Say why labels that were measured have no verdict; None if there is no such reason."""
    labels = (*report.retained.labels.values(), *report.forgotten.labels.values())
    return join_reasons(one for one in labels if one.value is not None)


def _criterion_name(criterion: Criterion) -> str:
    of_label = f" of {criterion.label}" if criterion.label is not None else ""
    return words(criterion.criterion) + of_label


def _relearning_charts(report: Report) -> list[RelearningChart]:
    if not isinstance(report, FullReport):
        return []
    found = [(name, one.relearning) for name, one in report.forgetting.labels.items()]
    return [relearning_chart(name, one, one.curves) for name, one in found if one.curves is not None]


def _sections(report: Report) -> list[Section]:
    """The figures that only a full report has, section by section."""
    sections: dict[str, Section] = {}
    for placed in list_figures(report):
        section, *place = placed.path
        if section not in QUICK_SECTIONS:
            name = " · ".join(words(step) for step in place if step != "labels") or words(section)
            rows = sections.setdefault(section, Section(section, [])).rows
            rows.append((name, FigureSummary.of(placed.figure)))
    return list(sections.values())


def _pictures(subject: Subject, forgotten: Mapping[str, Figure]) -> list[PicturedLabel]:
    """The pictures of each retained label by the parent and by this version, and of each forgotten label.

    Pictures of retained labels are drawn on request, but not from a revoked version. If this version's forget
    revoked its parent, the parent's draws were saved as files of this version. Pictures of forgotten labels
    are always files. A purged version has none of them any more.
    """
    version, parent, model = subject.version, subject.parent, subject.model
    if versions.state_of(version) in ("purged", "deleted"):
        return []
    drawable = version.labels if versions.is_drawable(version) else {}
    drawable_before = parent.labels if parent is not None and versions.is_drawable(parent) else {}

    def file_address(file: str) -> str | None:
        address = f"/v1/models/{model.name}/versions/{version.number}/files/{quote(file)}"
        return address if file in version.files else None

    found = []
    for name in sorted(drawable):
        before = file_address(before_file(name))
        if parent is not None and name in drawable_before:
            before = _draws_address(model, parent, name)
        found.append(PicturedLabel(name, False, before, _draws_address(model, version, name)))
    for name in forgotten:
        if address := file_address(forgotten_file(name)):
            saved = before_file(name)
            before = file_address(saved) if versions.is_downloadable(version, saved) else None
            found.append(PicturedLabel(name, True, before, address))
    return found


def _why_without_evidence(subject: Subject) -> str | None:
    """Say why the page does not show what the labels of its forget drew before; None if it does."""
    job, version = subject.job, subject.version
    if job.operation != "forget" or any(before_file(name) in version.files for name in job.labels):
        return None
    if read_report(version.report).guarantee == "exact":
        return "The forget was exact: nothing that had learned the label is kept, so no picture of it either."
    if subject.is_purged:
        return "A purge deleted the pictures of what the label drew before."
    return "An earlier release made this version; it kept no picture of what the label drew before."


def _draws_address(model: ModelRow, version: VersionRow, label: str) -> str:
    return f"/v1/models/{model.name}/versions/{version.number}/images/{quote(label, safe='')}/{DRAWS}"


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("service.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "percent_interval": percent_interval,
        "number": formatting.number,
        "interval": formatting.interval,
        "seconds": formatting.seconds,
        "share_limit": formatting.share_limit,
        "words": words,
    }
    environment.globals |= {"chart_width": CHART_WIDTH, "chart_height": CHART_HEIGHT, "plot": PLOT}
    return environment


@lru_cache(maxsize=1)
def _page() -> "Template":
    """Return the template, compiled when the first page is made."""
    return _environment().get_template("report.jinja")
