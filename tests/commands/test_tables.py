"""Tables of figures: what they are relative to, and why they have no verdict."""

from rich.console import Console, RenderableType

from commands import tables
from palimpsest import values
from reports import Criterion, at_least
from tests.reports.made_up import WEAK, by_weak_judge, full_report, label_figure, quick_report

REPORT = by_weak_judge(quick_report(["1"], {"3": 0.2}))


def shown(one: RenderableType) -> str:
    """What a terminal of 200 characters shows."""
    console = Console(width=200, markup=False)
    with console.capture() as printed:
        console.print(one)
    return printed.get()


def test_a_criterion_that_a_weak_judge_decided_has_the_reason_beside_its_verdict() -> None:
    [met] = REPORT.criteria
    assert shown(tables.criterion(met)).endswith(f"95.1% (94.1% to 96.1%), met; {WEAK}\n")
    missed = met.model_copy(update={"threshold": at_least(0.99), "verdict": "missed"})
    assert tables.describe_criterion(missed).endswith(f"95.1% (94.1% to 96.1%), not >= 0.99; {WEAK}")


def test_a_criterion_that_could_not_be_measured_has_its_reason_once() -> None:
    figure = dict(label_figure(None))
    fields = {name: figure[name] for name in ("value", "n", "interval", "reason")}
    missed = Criterion(
        criterion="forgotten_accuracy_max", label="3", threshold=at_least(0.1), verdict="missed", **fields
    )
    for line in (shown(tables.criterion(missed)), tables.describe_criterion(missed)):
        assert line.count("no judge") == 1
        assert "not measured: no judge" in line


def test_a_report_says_why_its_figures_have_no_verdict() -> None:
    assert f"no verdict, because   {WEAK}" in " ".join(shown(tables.report(REPORT)).splitlines())
    full = full_report(REPORT)
    label = full.forgetting.labels["3"]
    for name in ("recovery", "relearning"):
        without = getattr(label, name).model_copy(update={"verdict": None, "reason": WEAK})
        label = label.model_copy(update={name: without})
    full = full.model_copy(update={"forgetting": full.forgetting.model_copy(update={"labels": {"3": label}})})
    assert f"no verdict on recovery of 3, relearning of 3: {WEAK}" in shown(tables.report(full))


def test_relative_figures_say_which_real_images_they_are_relative_to() -> None:
    relative = {"relative_accuracy": 0.97, "relative_coverage": 0.9}
    report = REPORT.model_copy(update={"retained": REPORT.retained.model_copy(update=relative)})
    lines = [" ".join(line.split()) for line in shown(tables.report(report)).splitlines()]
    assert "of the judge's accuracy on real test images 97.0%" in lines
    assert "of the coverage of as many real train images 90.0%" in lines


def test_a_relapse_without_a_verdict_has_the_reason() -> None:
    figure = REPORT.forgotten.labels["3"]
    point = values.RelapsePoint(
        value=figure.value,
        n=figure.n,
        threshold=figure.threshold,
        reason=figure.reason,
        version=2,
        operation="forget",
        strategy="surrogate",
    )
    label = values.RelapseLabel(
        label="3", status="forgotten", forgotten_version=2, relapsed=False, series=(point,)
    )
    found = values.Relapse(model="digits", head=2, labels=(label,), relapsed=(), earlier=False)
    assert f"no verdict: {WEAK}" in shown(tables.relapse(found))
