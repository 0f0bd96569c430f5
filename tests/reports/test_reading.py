"""Reports of every release are read into one type; what was written by release 0.1.0 keeps its meaning."""

import copy
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reports import (
    FullReport,
    Margin,
    Range,
    Report,
    UnreadableReport,
    at_least,
    at_most,
    read_criterion,
    read_report,
)
from service.reporting.figures import list_figures
from tests.reports.made_up import full_report, quick_report

HOME = Path(__file__).parents[1] / "releases" / "0.1.0" / "home.tar.xz"
MADE_UP = [quick_report(["1"], {"3": 0.01}), full_report(quick_report(["1"], {"3": 0.01}))]


@pytest.fixture(scope="module")
def of_release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Every report in the database that release 0.1.0 left."""
    folder = tmp_path_factory.mktemp("home")
    with tarfile.open(HOME) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Python 3.11.2
        archive.extract("palimpsest.db", folder)
    query = "SELECT report FROM versions UNION ALL SELECT report FROM reports"
    with closing(sqlite3.connect(folder / "palimpsest.db")) as database:
        yield [json.loads(report) for (report,) in database.execute(query)]


@pytest.mark.parametrize("report", MADE_UP)
def test_a_report_of_this_release_is_read_back_as_it_was(report: Report) -> None:
    assert read_report(json.loads(json.dumps(report.as_json()))) == report


def test_fields_that_a_later_release_adds_are_ignored() -> None:
    document = copy.deepcopy(MADE_UP[1].as_json()) | {"cost": None}
    document["retained"]["labels"]["1"]["sharpness"] = 0.5
    assert read_report(document) == MADE_UP[1]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"format": 3}, "the report has format 3, and this release reads formats 1 to 2"),
        ({"format": 2, "level": "quick"}, "the report cannot be read: n: Field required"),
        ({}, "the report is not one of release 0.1.0"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableReport, match=reason):
        read_report(document)


def test_every_figure_of_release_0_1_0_keeps_its_value_interval_and_verdict(
    of_release: list[dict[str, Any]],
) -> None:
    assert len(of_release) > 20
    for document in of_release:
        report = read_report(document)
        assert isinstance(report, FullReport) == (document["level"] == "full")
        old = dict(_old_figures(document, ()))
        new = {one.path: one.figure for one in list_figures(report) if one.path[0] != "capacity"}
        assert old.keys() == new.keys()
        for path, figure in old.items():
            found = new[path]
            assert found.value == figure.get("value", figure.get("accuracy")), path
            assert (found.n, found.verdict, found.reason) == (
                figure["n"],
                figure["verdict"],
                figure.get("reason"),
            ), path
            assert (None if found.interval is None else list(found.interval)) == figure["interval"], path
            assert (found.threshold is None) == (figure["threshold"] is None), path


def _old_figures(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(node, dict) and path[:1] != ("criteria",):
        if "n" in node and "interval" in node:
            yield path, node
        for name, child in node.items():
            yield from _old_figures(child, (*path, name))


def test_what_was_text_or_a_loose_word_in_release_0_1_0_is_typed(of_release: list[dict[str, Any]]) -> None:
    found = [read_report(document) for document in of_release]
    assert {report.guarantee for report in found} == {None, "exact"}
    assert not any("guarantee" in report.findings for report in found)
    [full] = [report for report in found if isinstance(report, FullReport)]
    assert full.feature_network["digits"].test_accuracy == pytest.approx(0.99, abs=0.01)
    assert full.forgotten.labels["2"].threshold == at_most(0.05)
    label = full.forgetting.labels["2"]
    assert label.recovery.threshold == Range(low=-0.1, high=0.1)
    assert (label.recovery.fixed_threshold, label.recovery.fixed_verdict) == (
        Margin(op="within", margin=0.1),
        "met",
    )
    assert label.relearning.threshold == label.relearning.fixed_threshold == at_least(0.8)
    assert label.relearning.curves is not None
    assert label.relearning.curves.target_accuracy == 0.9
    criteria = {(one.criterion, one.threshold) for report in found for one in report.criteria}
    assert criteria >= {("forgotten_accuracy_max", at_most(1.0)), ("retained_accuracy_min", at_least(0.0))}


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("<= references + 0.02", Margin(op="<=", margin=0.02)),
        ("references +- 0.1", Margin(op="within", margin=0.1)),
        ("-0.100 ... 0.250", Range(low=-0.1, high=0.25)),
        (">= 1e-05", at_least(1e-05)),
    ],
)
def test_every_way_release_0_1_0_wrote_a_threshold_is_understood(
    of_release: list[dict[str, Any]], text: str, threshold: object
) -> None:
    document = copy.deepcopy(next(one for one in of_release if one["level"] == "full"))
    document["forgetting"]["labels"]["2"]["recovery"]["threshold"] = text
    report = read_report(document)
    assert isinstance(report, FullReport)
    assert report.forgetting.labels["2"].recovery.threshold == threshold


def test_a_dataset_that_release_0_1_0_could_not_measure_has_the_reason_at_every_figure(
    of_release: list[dict[str, Any]],
) -> None:
    document = copy.deepcopy(next(one for one in of_release if one["level"] == "full"))
    nothing = {"value": None, "n": 0, "interval": None, "threshold": ">= 0.95", "verdict": None}
    document["quality"]["digits"] = nothing | {"reason": "the images of 1 were deleted"}
    report = read_report(document)
    assert isinstance(report, FullReport)
    quality = report.quality["digits"]
    assert (quality.fid.reason, quality.fid.threshold) == ("the images of 1 were deleted", None)
    assert quality.coverage_ratio is not None
    assert quality.coverage_ratio.threshold == at_least(0.95)


def test_a_reason_for_rejection_of_release_0_1_0_is_read_as_a_criterion() -> None:
    old = {"criterion": "forgotten_accuracy_max", "label": "9", "bound": 0.05, "measured": 0.06, "n": 1000}
    found = read_criterion(old | {"interval": [0.05, 0.07]})
    assert (found.value, found.threshold, found.verdict) == (0.06, at_most(0.05), "missed")
    assert read_criterion(found.as_json()) == found
