"""Evidence over HTTP: reports by level and kind, relapses, comparisons, and jobs that only measure."""

import copy
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from service.registry.tables import ReportRow
from tests.api.serving import COST, REFUSAL, Served
from tests.api.test_access import new_key
from tests.reports.made_up import WEAK

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def evidence(served: Served, name: str) -> Iterator[str]:
    """A model that learned 1, 2, 3 (version 1, revoked), forgot 3 (2) and grew (3)."""
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3"])
    served.done(name, "forget", labels=["3"])
    served.done(name, "resize", policy="expand")
    yield name
    served.worker.relapses.clear()


def report(served: Served, model: str, version: int, query: str = "", **headers: str) -> Any:
    return served.http.get(f"/v1/models/{model}/versions/{version}/report{query}", headers=headers)


def evaluated(served: Served, model: str, **body: Any) -> dict[str, Any]:
    """An evaluate job that succeeded."""
    job = served.submit(model, "evaluate", **body)
    served.worker.measure(served.worker.claim(job["id"]))
    return dict(served.http.get(f"/v1/jobs/{job['id']}").json())


def test_an_evaluation_of_the_head_needs_no_body(served: Served, evidence: str) -> None:
    empty, defaults = (
        served.http.post(f"/v1/models/{evidence}/evaluate"),
        served.http.post(f"/v1/models/{evidence}/evaluate", json={}),
    )
    assert (empty.status_code, defaults.status_code) == (202, 202), empty.text
    same = ("evaluated_version", "params", "seed", "strategy")
    assert [empty.json()[field] for field in same] == [defaults.json()[field] for field in same]
    for job in (empty, defaults):
        served.http.post(f"{job.headers['Location']}/cancel").raise_for_status()


def test_evaluating_is_a_job_like_any_other_and_makes_no_version(served: Served, evidence: str) -> None:
    answer = served.http.post(f"/v1/models/{evidence}/evaluate", json={"seed": 4, "params": {"seeds": 3}})
    job = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["operation"], job["strategy"], job["labels"]) == ("evaluate", "full", [])
    assert (job["evaluated_version"], job["output_version"], job["acceptance"]) == (3, None, {})
    served.worker.measure(served.worker.claim(job["id"]))
    job = served.http.get(answer.headers["Location"]).json()
    assert (job["state"], job["output_version"], job["cost"]) == ("succeeded", None, COST)
    assert served.http.get(job["links"]["version"]).json()["number"] == 3
    assert served.http.get(f"/v1/models/{evidence}").json()["head"] == 3


def test_evaluating_needs_no_turn_behind_a_change(served: Served, evidence: str) -> None:
    running = served.worker.claim(served.submit(evidence, "learn", labels=["4"])["id"])
    assert evaluated(served, evidence, version=2)["state"] == "succeeded"
    served.worker.finish(running)


def test_a_report_is_the_fullest_there_is_or_of_the_level_asked_for(served: Served, evidence: str) -> None:
    quick = report(served, evidence, 3).json()
    assert quick["level"] == "quick"
    assert report(served, evidence, 3, "?level=full").json()["code"] == "report_not_found"
    job = evaluated(served, evidence)
    full = report(served, evidence, 3).json()
    assert (full["level"], full["source"]["job"]) == ("full", job["id"])
    assert report(served, evidence, 3, "?level=full").json() == full
    assert report(served, evidence, 3, "?level=quick").json() == quick
    assert report(served, evidence, 2).json()["level"] == "quick", "of its own version only"


def test_what_a_job_took_stands_beside_its_report_and_in_no_file(served: Served, evidence: str) -> None:
    answered = report(served, evidence, 2).json()
    assert answered["cost"] == COST
    file = served.http.get(f"/v1/models/{evidence}/versions/2/files/report.json")
    assert "cost" not in file.json()
    assert {**file.json(), "cost": COST, "source": answered["source"]} == answered
    assert answered["source"]["sha256"] == hashlib.sha256(file.content).hexdigest()


def test_the_bytes_of_a_jobs_report_are_those_of_its_hash(served: Served, evidence: str) -> None:
    full = evaluated(served, evidence)
    for job_id in (full["id"], served.http.get(f"/v1/models/{evidence}/versions/2").json()["job"]):
        job = served.http.get(f"/v1/jobs/{job_id}").json()
        answer = served.http.get(job["links"]["report"])
        assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        again = served.http.get(job["links"]["report"], headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304


def test_a_rejected_job_gives_its_reasons_and_its_report(served: Served, evidence: str) -> None:
    queued = served.submit(evidence, "learn", labels=["4"])
    assert "report" not in queued["links"], "nothing is measured yet"
    served.worker.refuse(served.worker.claim(queued["id"]))
    job = served.http.get(f"/v1/jobs/{queued['id']}").json()
    assert (job["state"], job["error"]) == ("rejected", REFUSAL)
    assert served.http.get(job["links"]["report"]).json()["retained"]["value"] == 0.951
    assert served.http.get(f"/v1/models/{evidence}").json()["head"] == 3


def test_a_job_that_measured_nothing_says_so(served: Served, evidence: str) -> None:
    queued = served.submit(evidence, "learn", labels=["4"])
    answer = served.http.get(f"/v1/jobs/{queued['id']}/report")
    assert (answer.status_code, answer.json()["code"]) == (404, "report_not_found")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        (BROWSER, "text/html"),
        ("text/*", "text/html"),
        ("application/json;q=0.5, text/html", "text/html"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, */*;q=0", "text/html"),
        ("application/json;q=0, */*", "text/html"),
    ],
)
def test_who_prefers_a_page_gets_one(served: Served, evidence: str, accept: str, media_type: str) -> None:
    answer = report(served, evidence, 3, Accept=accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert answer.headers["Vary"] == "Accept"


def test_a_page_carries_no_script_and_says_what_a_test_can(served: Served, evidence: str) -> None:
    evaluated(served, evidence)
    answer = report(served, evidence, 3, Accept="text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for word in ("<script", "style=", "onclick", "http://", "https://", "proof", "guaranteed"):
        assert word not in answer.text
    assert "No measurement proves that nothing of a label is left" in answer.text


def test_names_on_a_page_are_only_names(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"], **{"as": {"1": "<b>&\"'{{x}}"}})
    page = report(served, name, 1, Accept="text/html").text
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;&#34;&#39;{{x}}" in page


def test_a_revoked_version_keeps_its_evidence_and_draws_nothing(served: Served, evidence: str) -> None:
    page = report(served, evidence, 1, Accept="text/html")
    assert page.status_code == 200
    assert "Revoked" in page.text
    assert "<img" not in page.text
    served.done(evidence, "learn", labels=["4"])
    served.done(evidence, "forget", labels=["4"])
    kept = served.http.get(f"/v1/models/{evidence}/versions/4/files/forgotten-3.png")
    assert (kept.status_code, kept.headers["Content-Type"]) == (200, "image/png")
    assert served.http.get(f"/v1/models/{evidence}/versions/4/files/decoder.onnx").status_code == 410


def test_a_purged_version_says_so_and_shows_no_picture_it_has_lost(served: Served, evidence: str) -> None:
    """Version 2 forgot 3 and holds none of it, but was made from what had learned it: it is not revoked."""
    served.done(evidence, "learn", labels=["3"])
    before = report(served, evidence, 2, Accept="text/html").text
    assert "images/1/" in before
    assert "forgotten-3.png" in before
    job_id = served.done(evidence, "forget", labels=["3"], purge=True).job_id
    assert served.http.get(f"/v1/models/{evidence}/versions/2").json()["revoked_by"] is None
    for _ in range(2):  # marked as purged, then also without files
        for number in (1, 2, 4):
            page = report(served, evidence, number, Accept="text/html").text
            assert "Purged" in page
            assert "Revoked" not in page
            assert f'href="/jobs/{job_id}"' in page
            assert "<img" not in page
        served.sweep()
    after = report(served, evidence, 5, Accept="text/html").text
    assert "Purged" not in after
    assert "forgotten-3.png" in after
    assert "versions/4/images" not in after


def test_an_attacks_pictures_are_drawn_from_the_report(served: Served, evidence: str) -> None:
    job = evaluated(served, evidence)
    path = f"{job['links']['report']}/recovered/3/candidate.png"
    answer = served.http.get(path)
    with Image.open(io.BytesIO(answer.content), formats=["PNG"]) as image:
        assert image.size == (8 * 28 * 2, 2 * 28 * 2)
    for missing in ("1/candidate", "9/reference"):
        gone = served.http.get(f"{job['links']['report']}/recovered/{missing}.png")
        assert (gone.status_code, gone.json()["code"]) == (404, "picture_not_found")


def test_without_the_scope_sample_a_report_has_no_recovered_images(served: Served, evidence: str) -> None:
    job = evaluated(served, evidence)
    paths = job["links"]["report"], f"/v1/models/{evidence}/versions/3/report"
    readers, drawers = (
        {"Authorization": f"Bearer {new_key(served, *scopes)}"} for scopes in (("read",), ("read", "sample"))
    )
    for path in paths:
        bare, whole = (served.http.get(path, headers=headers) for headers in (readers, drawers))
        assert (bare.status_code, "base64" in bare.text, "base64" in whole.text) == (200, False, True)
        found = bare.json()
        found["forgetting"]["labels"]["3"]["pictures"] = whole.json()["forgetting"]["labels"]["3"]["pictures"]
        assert found == whole.json(), "nothing else is missing"
        assert bare.headers["ETag"] != whole.headers["ETag"]
        for headers, known, status in (
            (readers, bare, 304), (readers, whole, 200), (drawers, bare, 200), (drawers, whole, 304)
        ):  # fmt: skip
            again = served.http.get(path, headers=headers | {"If-None-Match": known.headers["ETag"]})
            assert again.status_code == status


def altered(served: Served, job: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    """The job's report, as if that had been measured."""
    with served.worker.database.transaction() as session:
        row = session.get_one(ReportRow, job["id"])
        other = copy.deepcopy(dict(row.report))
        change(other)
        row.report = other


def headline(page: str, title: str) -> str:
    """Its words, tags taken away."""
    [found] = re.findall(rf"<h2>{title}</h2>(.*?)</li>", page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", found).split())


def unmeasured(figure: dict[str, Any]) -> None:
    figure |= {"value": None, "n": 0, "interval": None, "verdict": None, "reason": "no judge"}


def limitless(node: Any) -> None:
    """Nothing in it is held to anything."""
    if isinstance(node, dict):
        node |= {name: None for name in ("threshold", "verdict") if name in node}
        for child in node.values():
            limitless(child)


def met(report: dict[str, Any]) -> None:
    report["forgetting"]["labels"]["3"]["recovery"]["verdict"] = "met"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "5 of 6 met of the figures with a limit missed"),
        ([met], "6 of 6 met of the figures with a limit met"),
        (
            [met, lambda report: unmeasured(report["forgetting"]["labels"]["3"]["relearning"])],
            "5 of 6 met of the figures with a limit; 1 undecided no verdict",
        ),
        (
            [lambda report: unmeasured(report["forgetting"]["control"])],
            "4 of 6 met of the figures with a limit; 1 undecided missed",
        ),
        ([limitless], "none of the figures with a limit no verdict"),
    ],
)
def test_tests_that_could_not_be_measured_are_not_passed_over(
    served: Served, evidence: str, changes: list[Callable[[dict[str, Any]], object]], words: str
) -> None:
    job = evaluated(served, evidence)
    for change in changes:
        altered(served, job, change)
    assert headline(report(served, evidence, 3, Accept="text/html").text, "Tests") == words


def test_a_forgotten_label_that_was_not_measured_is_not_said_to_have_stayed_forgotten(
    served: Served, evidence: str
) -> None:
    job = evaluated(served, evidence)
    altered(served, job, lambda report: unmeasured(report["forgotten"]["labels"]["3"]))
    page = report(served, evidence, 3, Accept="text/html").text
    assert headline(page, "Relapsed") == "unknown forgotten labels above their limit no verdict"
    assert headline(page, "Forgotten").endswith("no limit set")


def test_a_page_shows_the_fixed_limit_and_what_else_was_measured(served: Served, evidence: str) -> None:
    """The limit is wider where the references differ more; the fixed limit shows by how much."""
    job = evaluated(served, evidence)
    altered(served, job, lambda report: report["judge"]["mnist"].update(missed=["uniform_noise_rejected"]))
    text = " ".join(re.sub(r"<[^>]*>", " ", report(served, evidence, 3, Accept="text/html").text).split())
    assert "references fixed limit by fixed limit verdict" in text
    assert "0.8 to 0.95 256 0.200 to 0.600 0.3, 0.5 within 0.1 of the references missed missed" in text
    assert "0.8 to 0.95 256 &gt;= 0.8 20, 24 &gt;= 0.8 met met" in text
    assert "memory 0.97" in text
    assert "A gap to the references need not be memory" in text
    assert "0.2 % rejected, 96.1 % if the judge may not reject, covers 87.5 % of the real test images" in text
    assert (
        "misses thresholds of its own, so that figures which it measured have no verdict: uniform noise"
        in text
    )
    assert "Feature network of mnist 98.5 % accuracy on real test images" in text


def test_a_page_shows_why_a_weak_judges_figures_have_no_verdict_also_beside_criteria(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.worker, "has_weak_judge", True)
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3"])
    served.done(name, "forget", labels=["3"])
    job = evaluated(served, name)
    altered(served, job, lambda report: without_verdict(report["forgetting"]["labels"]["3"]["relearning"]))
    page = report(served, name, 2, Accept="text/html").text
    assert headline(page, "Criteria") == f"1 of 1 met fixed when the job was accepted; {WEAK} met"
    words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert f"0.941 to 0.961 1,000 &gt;= 0.8 met {WEAK}" in words
    assert f"Figures without a verdict: {WEAK}." in words
    assert f"3 version 2: 1.2 % no verdict: {WEAK}" in words
    assert f"limit &gt;= 0.8 no verdict: {WEAK}" in words


def without_verdict(figure: dict[str, Any]) -> None:
    figure |= {"verdict": None, "reason": WEAK}


def test_relearning_that_a_reference_never_managed_is_shown_with_the_reason(
    served: Served, evidence: str
) -> None:
    job = evaluated(served, evidence)
    altered(served, job, lambda report: unmeasured(report["forgetting"]["labels"]["3"]["relearning"]))
    page = report(served, evidence, 3, Accept="text/html")
    assert page.status_code == 200
    assert "no judge &middot; memory" in page.text


def test_the_newest_full_report_leads_to_those_before_it(served: Served, evidence: str) -> None:
    first = evaluated(served, evidence)
    evaluated(served, evidence, version=2)
    page = report(served, evidence, 3, Accept="text/html").text
    assert "Earlier reports" not in page
    second = evaluated(served, evidence)
    page = report(served, evidence, 3, Accept="text/html").text
    _, _, before = page.partition("Earlier reports")
    assert f'href="/v1/jobs/{first["id"]}/report"' in before
    assert f'href="/v1/jobs/{first["id"]}/report"' not in page.replace(before, "")
    assert f'Measured by</dt><dd><a href="/jobs/{second["id"]}"' in page
    assert "Earlier reports" not in report(served, evidence, 3, "?level=quick", Accept="text/html").text


def test_a_full_report_without_curves_still_has_its_page(served: Served, evidence: str) -> None:
    """Those whose labels could not be measured."""
    job = evaluated(served, evidence)
    assert "learned again" in report(served, evidence, 3, Accept="text/html").text
    altered(served, job, lambda report: report["forgetting"]["labels"]["3"]["relearning"].update(curves=None))
    page = report(served, evidence, 3, Accept="text/html")
    assert page.status_code == 200
    assert "learned again" not in page.text
    assert "What an attack recovers" in page.text


def test_curves_are_part_of_a_figure_and_no_figure_themselves(served: Served, evidence: str) -> None:
    for version in (2, 3):
        evaluated(served, evidence, version=version)
    comparison = served.http.get(f"/v1/models/{evidence}/compare?from=2&to=3").json()
    rows = {one["figure"]: one for one in comparison["figures"]}
    assert rows["forgetting.labels.3.relearning"]["to"]["references"] == [20, 24]
    assert "curves" not in rows["forgetting.labels.3.relearning"]["to"]
    assert [name for name in rows if "curves" in name] == []


def test_every_forgotten_label_is_followed_version_by_version(served: Served, evidence: str) -> None:
    served.done(evidence, "forget", labels=["2"])
    served.worker.relapses["3"] = 0.21
    served.done(evidence, "learn", labels=["5"])
    relapse = served.http.get(f"/v1/models/{evidence}/relapse").json()
    assert (relapse["head"], relapse["relapsed"], relapse["earlier"]) == (5, ["3"], False)
    assert [one["label"] for one in relapse["labels"]] == ["3", "2"], "in the order they were forgotten"
    three, two = relapse["labels"]
    assert (three["forgotten_version"], three["relapsed"], two["relapsed"]) == (2, True, False)
    assert [(one["version"], one["operation"], one["value"]) for one in three["series"]] == [
        (2, "forget", 0.012),
        (3, "resize", 0.012),
        (4, "forget", 0.012),
        (5, "learn", 0.21),
    ]
    assert [one["verdict"] for one in three["series"]] == ["met", "met", "met", "missed"]
    assert three["series"][-1]["threshold"] == {"op": "<=", "limit": 0.05}
    assert three["series"][-1]["interval"] == [pytest.approx(0.2), pytest.approx(0.22)]
    assert [one["version"] for one in two["series"]] == [4, 5]


def test_a_relapse_shows_on_the_model_until_it_is_over(served: Served, evidence: str) -> None:
    def relapsed() -> list[str]:
        listed = served.http.get("/v1/models?limit=100").json()["data"]
        [one] = [model["relapsed"] for model in listed if model["name"] == evidence]
        assert served.http.get(f"/v1/models/{evidence}").json()["relapsed"] == one
        return list(one)

    assert relapsed() == []
    served.worker.relapses["3"] = 0.21
    served.done(evidence, "learn", labels=["5"])
    assert relapsed() == ["3"]
    served.worker.relapses.clear()
    served.done(evidence, "learn", labels=["6"])
    assert relapsed() == []


def test_a_model_that_forgot_nothing_has_no_relapses(served: Served, name: str) -> None:
    served.model(name)
    relapse = served.http.get(f"/v1/models/{name}/relapse").json()
    assert (relapse["head"], relapse["labels"], relapse["relapsed"]) == (None, [], [])


def test_two_versions_stand_side_by_side(served: Served, evidence: str) -> None:
    comparison = served.http.get(f"/v1/models/{evidence}/compare?from=1&to=3").json()
    assert (comparison["from"]["version"], comparison["to"]["version"]) == (1, 3)
    assert (comparison["forgotten"], comparison["learned"]) == (["3"], [])
    assert comparison["to"]["seconds"] == COST["seconds"]
    rows = {one["figure"]: one for one in comparison["figures"]}
    assert rows["retained.labels.1"]["change"] == 0
    assert rows["retained.labels.1"]["clear"] is False
    gone = rows["retained.labels.3"]
    assert (gone["from"]["value"], gone["to"], gone["change"]) == (0.951, None, None)
    served.worker.relapses["3"] = 0.21
    served.done(evidence, "learn", labels=["5"])
    later = served.http.get(f"/v1/models/{evidence}/compare?from=3&to=4").json()
    moved = next(one for one in later["figures"] if one["figure"] == "forgotten.labels.3")
    assert (round(moved["change"], 3), moved["clear"]) == (0.198, True)


def test_versions_are_compared_in_full_where_both_were_measured_so(served: Served, evidence: str) -> None:
    def level() -> set[str]:
        comparison = served.http.get(f"/v1/models/{evidence}/compare?from=2&to=3").json()
        return {comparison["from"]["level"], comparison["to"]["level"]}

    evaluated(served, evidence, version=3)
    assert level() == {"quick"}
    evaluated(served, evidence, version=2)
    assert level() == {"full"}


def test_a_models_criteria_are_shown_and_frozen_with_each_job(served: Served, name: str) -> None:
    criteria = {"retained_accuracy_min": 0.9, "forgotten_accuracy_max": 0.05}
    model = served.model(name, acceptance=criteria)
    assert model["acceptance"] == criteria
    assert served.http.get(f"/v1/models/{name}").json()["acceptance"] == criteria
    job = served.submit(name, "learn", labels=["1"], acceptance={"retained_accuracy_min": 0.5})
    assert job["acceptance"] == {"retained_accuracy_min": 0.5, "forgotten_accuracy_max": 0.05}


def test_the_stored_report_is_json_to_the_last_figure(served: Served, evidence: str) -> None:
    job = evaluated(served, evidence)
    assert json.loads(served.http.get(job["links"]["report"]).content)["level"] == "full"
