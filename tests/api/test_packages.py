"""What packages bring to running workers can be requested; what none of them offers is refused, or waits."""

import logging
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from service.api import health
from service.registry import workers
from service.registry.tables import JobRow, WorkerRow
from service.requests.catalog import Catalog
from service.requests.offers import NotUsable, check
from service.settings import Settings
from tests.api.offered import CvaeParams, ResizeParams, strategy
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz, doodles

FADE = {"name": "palimpsest-fade", "version": "1.0"}


def fade(name: str = "fade", *, package: Any = FADE, **changes: Any) -> dict[str, Any]:
    """The entry of a strategy that a package brings."""
    entry = strategy("forget", name, ResizeParams, default=False, guarantee="approximate", package=package)
    return entry | changes


def offers(*strategies: Any, datasets: Any = (), architectures: Any = ()) -> dict[str, Any]:
    return {"strategies": [*strategies], "datasets": [*datasets], "architectures": [*architectures]}


BARS = {
    "name": "bars",
    "title": "Bars",
    "labels": ["horizontal", "vertical"],
    "image_shape": [28, 28],
    "bundled": True,
    "package": FADE,
}
NARROW = {"name": "narrow", "summary": "narrow", "params": CvaeParams.model_json_schema(), "package": FADE}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Settings(home=tmp_path_factory.mktemp("home"))) as served:
        yield served


@pytest.fixture
def m(served: Served, name: str) -> Iterator[str]:
    """The name of a model with some labels. Before and after the test no worker was ever seen."""
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3", "4"])
    yield name
    with served.worker.database.transaction() as session:
        session.execute(delete(WorkerRow))


def sign_in(served: Served, worker: str, offered: Any) -> None:
    with served.worker.database.transaction() as session:
        workers.sign_in(session, worker, code="this", offers=offered)


def sign_out(served: Served, worker: str) -> None:
    with served.worker.database.transaction() as session:
        workers.sign_out(session, worker)


def fall_silent(served: Served, worker: str) -> None:
    """Let the last sign of life of the worker be as old as that of one that was killed."""
    with served.worker.database.transaction() as session:
        row = session.get_one(WorkerRow, worker)
        silent = timedelta(seconds=workers.LIVE_SECONDS + 1)
        session.execute(update(WorkerRow).values(seen_at=row.seen_at - silent))


def refusal(served: Served, path: str, body: Any) -> tuple[int, str, str]:
    answer = served.http.post(path, json=body)
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


def listed(served: Served) -> dict[str, Any]:
    catalog = served.http.get("/v1/catalog").json()
    return {one["name"]: one["package"] for entries in catalog.values() for one in entries}


def test_what_a_running_worker_offers_is_listed_checked_by_its_schema_and_named_by_the_job(
    served: Served,
    m: str,
) -> None:
    sign_in(served, "here:1", offers(fade(), datasets=[BARS], architectures=[NARROW]))
    found = listed(served)
    assert (found["fade"], found["bars"], found["narrow"], found["surrogate"]) == (FADE, FADE, FADE, None)
    assert served.http.get("/v1/datasets/bars").json()["package"] == FADE
    bad = served.http.post(
        f"/v1/models/{m}/forget", json={"labels": ["1"], "strategy": "fade", "params": {"share": 7}}
    )
    assert [one["pointer"] for one in bad.json()["errors"]] == ["/params/share"]
    job = served.submit(m, "forget", labels=["1"], strategy="fade")
    assert (job["params"], job["packages"], job["waits_for"]) == (
        {"share": 0.1},
        {"strategy": "palimpsest-fade"},
        None,
    )
    model = served.model(f"{m}-bars", dataset="bars", network={"architecture": "narrow"})
    assert model["network"]["latent"] == 8
    learn = served.submit(f"{m}-bars", "learn", labels=["vertical"])
    assert learn["packages"] == {"network": "palimpsest-fade", "dataset": "palimpsest-fade"}


@pytest.mark.parametrize("end", [sign_out, fall_silent])
def test_what_no_running_worker_offers_any_more_is_refused_and_an_accepted_job_waits_and_says_why(
    served: Served, m: str, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(served, "here:1", offers(fade(), datasets=[BARS], architectures=[NARROW]))
    served.model(f"{m}-narrow", dataset="bars", network={"architecture": "narrow"})
    job = served.submit(m, "forget", labels=["1"], strategy="fade")
    end(served, "here:1")
    assert "fade" not in listed(served)
    body = {"labels": ["2"], "strategy": "fade"}
    status, code, detail = refusal(served, f"/v1/models/{m}/forget", body)
    assert (status, code) == (409, "strategy_not_offered")
    assert "palimpsest-fade" in detail
    assert refusal(served, "/v1/models", {"name": "b", "dataset": "bars"})[:2] == (409, "dataset_not_offered")
    of_network = {"name": "n", "dataset": "mnist", "network": {"architecture": "narrow"}}
    assert refusal(served, "/v1/models", of_network)[:2] == (409, "network_not_offered")
    learn = refusal(served, f"/v1/models/{m}-narrow/learn", {"labels": ["1"], "dataset": "mnist"})
    assert learn[:2] == (409, "network_not_offered")

    why = "no running worker offers the strategy fade of the package palimpsest-fade"
    for _ in range(2):  # the second answer may be a kept one
        assert served.http.get(f"/v1/jobs/{job['id']}").json()["waits_for"] == why
    assert [one["waits_for"] for one in served.http.get("/v1/jobs?limit=1").json()["data"]] == [why]
    monkeypatch.setattr(health, "STALLED_QUEUE_SECONDS", -1.0)
    ready = served.http.get("/readyz").json()
    assert ready["status"] == "degraded"
    assert f"{why} (" in ready["checks"]["worker"]

    sign_in(served, "here:2", offers(fade()))
    assert served.http.get(f"/v1/jobs/{job['id']}").json()["waits_for"] is None
    served.worker.work(job["id"])


def test_before_any_worker_was_seen_what_is_built_in_is_accepted_and_an_unknown_name_is_not(
    served: Served,
    m: str,
) -> None:
    served.submit(m, "forget", labels=["1"])
    body = {"labels": ["2"], "strategy": "fade"}
    assert refusal(served, f"/v1/models/{m}/forget", body)[:2] == (422, "strategy_not_found")


def test_of_two_versions_the_one_of_the_worker_that_started_last_counts(served: Served, m: str) -> None:
    newer = fade(package=FADE | {"version": "2.0"}, params=CvaeParams.model_json_schema())
    sign_in(served, "here:1", offers(newer))
    sign_in(served, "here:2", offers(fade()))
    assert listed(served)["fade"] == FADE
    sign_out(served, "here:2")
    assert listed(served)["fade"] == newer["package"]


def test_a_name_that_two_packages_use_is_not_offered(served: Served, m: str) -> None:
    sign_in(served, "here:1", offers(fade()))
    sign_in(served, "here:2", offers(fade(package={"name": "other", "version": "3"})))
    assert "fade" not in listed(served)
    status, code, detail = refusal(served, f"/v1/models/{m}/forget", {"labels": ["1"], "strategy": "fade"})
    assert (status, code, "other and palimpsest-fade" in detail) == (409, "strategy_not_offered", True)


BROKEN: dict[str, Any] = {
    "a name that is built in": fade("saliency"),
    "no package": fade(package=None),
    "a package without a version": fade(package={"name": "x"}),
    "a package of another kind of name": fade(package={"name": "x\n", "version": "1"}),
    "a default": fade(default=True),
    "an evaluation": fade() | {"operation": "evaluate", "guarantee": None},
    "an unknown operation": fade() | {"operation": "dream"},
    "an unknown policy": fade() | {"operation": "resize", "guarantee": None, "policy": "halve"},
    "a forget without a guarantee": fade(guarantee=None),
    "a name that needs quoting": fade("fade out"),
    "a summary that a terminal obeys": fade(summary="\x1b[2J"),
    "an unknown field": fade(colour="red"),
    "a schema with a regular expression": fade(
        params={"type": "object", "properties": {"x": {"pattern": "a"}}}
    ),
    "a schema that refers to another host": fade(params={"type": "object", "$ref": "http://127.0.0.1:1/"}),
    "no object": 3,
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_a_rule_is_not_usable(what: str) -> None:
    with pytest.raises(NotUsable):
        check("strategies", deepcopy(BROKEN[what]))
    check("strategies", fade())


def test_what_breaks_a_rule_is_left_out_with_a_line_in_the_log_and_all_the_rest_is_offered(
    served: Served, m: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    sign_in(served, "here:1", offers(*BROKEN.values(), fade("sound")))
    packages = listed(served)
    assert [name for name, package in packages.items() if package] == ["sound"]
    assert caplog.text.count("is left out of the strategies") == len(BROKEN)


def test_a_row_that_is_no_list_of_offers_takes_nothing_down(served: Served, m: str) -> None:
    rows: list[Any] = [3, [], {"strategies": 3}, {"strategies": {}}, {"strategies": [None]}]
    with served.worker.database.transaction() as session:
        for number, offered in enumerate(rows):
            session.add(WorkerRow(name=f"here:{number}", code="this", offers=offered))
    assert listed(served)["surrogate"] is None
    job = served.submit(m, "forget", labels=["1"])
    with served.worker.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == job["id"]).values(packages={"strategy": "x"}))
    assert served.http.get(f"/v1/jobs/{job['id']}").json()["waits_for"]


def test_an_upload_takes_no_name_of_an_offered_dataset_but_keeps_one_that_it_had(
    served: Served, m: str
) -> None:
    archive = as_npz(doodles())
    served.http.put("/v1/datasets/early", content=archive).raise_for_status()
    sign_in(served, "here:1", offers(datasets=[BARS, BARS | {"name": "early"}]))
    assert served.http.put("/v1/datasets/bars", content=archive).json()["code"] == "dataset_exists"
    assert served.http.put("/v1/datasets/early", content=archive).status_code == 200
    assert served.http.get("/v1/datasets/early").json()["package"] is None


def test_defaults_stay_those_that_are_built_in(served: Served, m: str) -> None:
    sign_in(served, "here:1", offers(fade("aaa"), fade("aab") | {"guarantee": "exact"}))
    catalog = Catalog.model_validate(served.http.get("/v1/catalog").json())
    assert catalog.strategy("forget").name == "surrogate"
    assert catalog.strategy("forget", guarantee="exact").name == "retrain"
