"""Jobs over HTTP: they are accepted with 202, polled with an ETag, listed and cancelled."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from sqlalchemy import event

from service.queue.messages import count_waiting_messages
from service.registry import jobs
from service.registry.job_requests import MAX_REPETITIONS
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.instance import wait_for

FIELDS = {
    "id", "object", "model", "model_name", "operation", "strategy", "guarantee", "params", "labels",
    "already_forgotten", "renamed", "state", "done", "progress", "queue_position", "attempt",
    "max_attempts", "base_version", "evaluated_version", "output_version", "purge", "seed", "acceptance",
    "reference", "metadata", "request_id", "elsewhere", "created_by", "cost", "error", "created_at",
    "started_at", "finished_at", "links", "image_erasure", "also_requested", "retry_of", "expires_in",
    "packages", "waits_for", "follows", "followed_by", "made_permanent", "trace_id", "queue", "priority",
}  # fmt: skip


def test_an_accepted_job_says_where_and_when_to_poll_it(served: Served, name: str) -> None:
    served.model(name)
    answer = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1", "2"]})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(job) == FIELDS
    assert (job["object"], job["operation"], job["strategy"]) == ("job", "learn", "replay_ewc")
    assert (job["state"], job["done"], job["labels"]) == ("queued", False, ["1", "2"])
    assert served.http.get(answer.headers["Location"]).json() == job


def test_a_job_keeps_the_trace_of_its_request(served: Served, name: str) -> None:
    served.model(name)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    job = served.http.post(
        f"/v1/models/{name}/learn",
        json={"labels": ["1"]},
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    ).json()
    assert job["trace_id"] == served.http.get(f"/v1/jobs/{job['id']}").json()["trace_id"] == trace
    claim = served.worker.claim(job["id"])
    assert (claim.request_id, claim.trace_id) == (job["request_id"], trace), "the worker's log has them"


def test_making_a_temporary_label_permanent_says_that_exactness_ends(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"], retention="temporary")
    learned = served.submit(name, "learn", labels=["1"])
    assert learned["made_permanent"] == ["1"]
    assert served.http.get(f"/v1/jobs/{learned['id']}").json()["made_permanent"] == ["1"]
    events = served.http.get(f"/v1/jobs/{learned['id']}/events?type=log").json()["data"]
    (line,) = (event["message"] for event in events)
    assert "'1' was temporary, so that forgetting it was exact" in line
    assert served.submit(name, "learn", labels=["3"])["made_permanent"] == []


def test_a_job_is_followed_from_queued_to_succeeded(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1", "2"], seed=5)["id"]

    def now() -> dict[str, Any]:
        return dict(served.http.get(f"/v1/jobs/{job_id}").json())

    claim = served.worker.claim(job_id)
    assert (now()["state"], now()["attempt"], now()["progress"]) == ("running", 1, None)
    served.worker.progress(claim, "training", 250, 1000, 101.5)
    assert now()["progress"] == {
        "phase": "training",
        "step": 250,
        "total": 1000,
        "fraction": 0.25,
        "eta_seconds": None,
        "loss": 101.5,
    }
    served.worker.finish(claim)
    ended = now()
    assert (ended["progress"]["fraction"], ended["progress"]["step"]) == (1.0, 1000)
    assert (ended["state"], ended["done"], ended["output_version"], ended["seed"]) == (
        "succeeded",
        True,
        1,
        5,
    )
    assert ended["created_at"] <= ended["started_at"] <= ended["finished_at"]
    version = served.http.get(ended["links"]["version"]).json()
    assert (version["number"], version["job"]) == (1, job_id)


def test_a_job_names_its_model_and_the_version_it_started_from(served: Served, name: str) -> None:
    model = served.model(name)
    first = served.submit(name, "learn", labels=["1", "2"])
    second = served.submit(name, "learn", labels=["3"])
    assert (first["model"], first["model_name"]) == (model["id"], name)
    assert first["params"]["learning_rate"] == 0.003
    for job_id in (first["id"], second["id"]):
        served.worker.work(job_id)
    third = served.submit(name, "resize", policy="prune", base_version=2)
    assert third["base_version"] == 2
    found = {job["id"]: job for job in served.http.get(f"/v1/jobs?model={name}").json()["data"]}
    assert [
        (found[one["id"]]["base_version"], found[one["id"]]["output_version"]) for one in (first, second)
    ] == [
        (None, 1),
        (1, 2),
    ]


def test_a_job_shows_the_clients_reference_and_metadata(served: Served, name: str) -> None:
    served.model(name)
    notes = {"reference": "DSR-2026/17", "metadata": {"team": "privacy", "note": ""}}
    job = served.submit(name, "learn", labels=["1"], **notes)
    read = served.http.get(f"/v1/jobs/{job['id']}").json()
    assert {key: read[key] for key in notes} == notes
    plain = served.submit(name, "learn", labels=["2"])
    assert (plain["reference"], plain["metadata"]) == (None, {})


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"reference": "x" * 201}, "out_of_range"),
        ({"reference": ""}, "invalid_text"),
        ({"reference": " "}, "invalid_text"),
        ({"reference": "a\u202eb"}, "invalid_text"),
        ({"reference": 5}, "wrong_type"),
        ({"metadata": {str(i): "" for i in range(17)}}, "out_of_range"),
        ({"metadata": {"k" * 65: ""}}, "out_of_range"),
        ({"metadata": {"": ""}}, "out_of_range"),
        ({"metadata": {"k": "v" * 513}}, "out_of_range"),
        ({"metadata": {"k": "\x00"}}, "invalid_text"),
        ({"metadata": {"k": 5}}, "wrong_type"),
        ({"metadata": ["k"]}, "wrong_type"),
    ],
)
def test_a_malformed_reference_or_metadata_is_refused(
    served: Served, name: str, sent: dict[str, Any], code: str
) -> None:
    served.model(name)
    refused = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]} | sent)
    assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_an_accepted_job_sends_one_wake_up_message_and_a_refused_one_none(served: Served, name: str) -> None:
    served.model(name)
    sent: list[tuple[str, str]] = []
    context = served.app.state.context
    served.app.state.context = replace(context, wake_worker=lambda *job: sent.append(job))
    try:
        job = served.submit(name, "learn", labels=["1"])
        assert served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]}).status_code == 409
    finally:
        served.app.state.context = context
    assert sent == [(job["id"], "default")]
    before = count_waiting_messages(served.settings)
    assert before is not None
    served.submit(name, "learn", labels=["2"])
    wait_for("its message is in the queue", lambda: (count_waiting_messages(served.settings) or 0) > before)


def test_params_are_recorded_complete(served: Served, name: str) -> None:
    served.model(name)
    body = {"labels": ["1"], "params": {"steps": 7}, "acceptance": {"retained_accuracy_min": 0.9}}
    job_id = served.submit(name, "learn", **body)["id"]
    with served.worker.database.reading() as session:
        row = jobs.find(session, job_id)
    assert row.params["steps"] == 7
    assert row.params["learning_rate"] == 0.003
    assert row.acceptance == {"retained_accuracy_min": 0.9}
    assert (row.dataset, row.retention) == ("mnist", "permanent")


def test_a_failed_job_says_why(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    served.worker.fail(served.worker.claim(job_id))
    job = served.http.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["done"]) == ("failed", True)
    assert job["error"] == {
        "type": "user",
        "code": "dataset_unavailable",
        "message": "set PALIMPSEST_DATA",
        "retryable": True,
        "reasons": [],
    }


def test_resize_uses_the_strategy_of_its_policy(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    assert served.submit(name, "resize", policy="prune", params={"share": 0.2})["strategy"] == "prune_units"
    assert served.submit(name, "resize", policy="expand")["strategy"] == "expand_units"
    assert served.submit(name, "resize", policy="search")["strategy"] == "search"


def test_learn_and_forget_can_be_submitted_right_after_each_other(served: Served, name: str) -> None:
    served.model(name)
    first = served.submit(name, "learn", labels=["1", "2"])
    second = served.submit(name, "forget", labels=["1"])
    again = served.http.post(f"/v1/models/{name}/forget", json={"labels": ["1"]})
    assert (again.status_code, again.json()["id"]) == (202, second["id"]), "the same job, still to run"
    for job in (first, second):
        served.worker.work(job["id"])
    again = served.http.post(f"/v1/models/{name}/forget", json={"labels": ["1"]})
    assert (again.status_code, again.json()["id"]) == (200, second["id"])
    assert "Retry-After" not in again.headers


def test_a_job_keeps_the_references_of_the_later_requests_that_it_answers(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    job_id = served.done(name, "forget", labels=["1"], reference="DSR-1", metadata={"team": "a"}).job_id
    url, path = f"/v1/jobs/{job_id}", f"/v1/models/{name}/forget"
    seen = served.http.get(url)
    assert seen.json()["also_requested"] == []

    def repeat(**fields: Any) -> httpx2.Response:
        return served.http.post(path, json={"labels": ["1"]} | fields)

    for fields in (
        {"reference": "DSR-1", "metadata": {"team": "a"}},  # the job has this already
        {},
        {"reference": "DSR-2"},
        {"reference": "DSR-2"},
        {"metadata": {"team": "b"}},
    ):
        answer = repeat(**fields)
        assert (answer.status_code, answer.json()["id"]) == (200, job_id)
    changed = served.http.get(url, headers={"If-None-Match": seen.headers["ETag"]})
    assert changed.status_code == 200
    kept = changed.json()["also_requested"]
    assert kept == answer.json()["also_requested"]
    assert [(one["reference"], one["metadata"]) for one in kept] == [("DSR-2", {}), (None, {"team": "b"})]
    assert kept[1]["request_id"] == answer.headers["X-Request-Id"]
    assert (changed.json()["reference"], changed.json()["metadata"]) == ("DSR-1", {"team": "a"})
    listed = served.http.get("/v1/jobs", params={"model": name}).json()["data"]
    assert next(one for one in listed if one["id"] == job_id)["also_requested"] == kept

    for number in range(len(kept), MAX_REPETITIONS):
        assert repeat(reference=f"more {number}").status_code == 200
    refused = repeat(reference="one more")
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_repetitions")
    assert refused.json()["job"] == job_id
    assert repeat(reference="DSR-2").status_code == repeat().status_code == 200


def test_a_forget_that_has_not_ended_lets_no_other_job_leave_its_labels_out(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    first = served.submit(name, "forget", labels=["2"])
    path = f"/v1/models/{name}/forget"
    refused = served.http.post(path, json={"labels": ["2", "1"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "forget_unfinished")
    assert (refused.json()["job"], refused.headers["Retry-After"]) == (first["id"], "2")
    served.http.post(f"/v1/jobs/{first['id']}/cancel")
    accepted = served.http.post(path, json={"labels": ["2", "1"]})
    assert (accepted.status_code, accepted.json()["labels"]) == (202, ["2", "1"])


def test_jobs_are_listed_newest_first_and_filtered(served: Served, name: str) -> None:
    served.model(name)
    submitted = [served.submit(name, "learn", labels=[label])["id"] for label in "12345"]
    served.worker.work(submitted[0])

    def listed(query: str) -> list[str]:
        found, path = [], f"/v1/jobs?model={name}&limit=2{query}"
        while path:
            page = served.http.get(path)
            found += [job["id"] for job in page.json()["data"]]
            path = page.links["next"]["url"] if page.json()["has_more"] else ""
        return found

    assert listed("") == submitted[::-1]
    assert listed("&state=queued") == submitted[:0:-1]
    assert listed("&state=succeeded") == submitted[:1]
    assert listed("&state=failed") == []


@pytest.mark.parametrize("compared", [2, 10_000])
def test_jobs_are_found_by_what_they_are_about(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    """compared: how many jobs one page looks at. With 2, some pages are empty, and others follow."""
    monkeypatch.setattr("service.registry.pages.MAX_COMPARED", compared)
    served.model(name)
    team = {"team": f"{name}-vision"}
    first = served.submit(name, "learn", labels=["1", "2"], reference=f"{name} 1")["id"]
    second = served.submit(name, "forget", labels=["2"], reference=f"{name} 2", metadata=team)["id"]
    served.worker.work(first)
    served.worker.work(second)
    third = served.submit(name, "learn", labels=["3"], metadata=team | {"tier": "gold"})["id"]
    again = {"labels": ["2"], "reference": f"{name} 9", "metadata": {"ticket": "9"}}
    assert served.http.post(f"/v1/models/{name}/forget", json=again).json()["id"] == second

    def found(**query: str) -> list[str]:
        jobs, path = [], f"/v1/jobs?{urlencode(query)}&limit=2"
        while path:
            page = served.http.get(path)
            jobs += [job["id"] for job in page.json()["data"]]
            path = page.links["next"]["url"] if page.json()["has_more"] else ""
        return jobs

    assert found(model=name, operation="learn") == [third, first]
    assert found(model=name, operation="evaluate") == []
    assert found(model=name, label="2") == [second, first]
    assert found(model=name, label="2", operation="forget") == [second]
    assert found(reference=f"{name} 1") == [first]
    assert found(reference=f"{name} 9") == [second], "a later request that the job answers"
    assert found(**{"metadata.team": team["team"]}) == [third, second]
    assert found(model=name, **{"metadata.ticket": "9"}) == [second]
    assert found(**{"metadata.team": team["team"], "metadata.tier": "gold"}) == [third]
    assert found(model=name, order="asc") == [first, second, third]
    assert found(model=name, order="asc", operation="learn", state="queued") == [third]


def test_each_job_of_a_list_has_its_queue_position(served: Served, name: str) -> None:
    served.model(name)
    submitted = [served.submit(name, "learn", labels=[label])["id"] for label in "1234"]
    served.worker.claim(submitted[0])
    served.http.post(f"/v1/jobs/{submitted[2]}/cancel")
    positions = [served.http.get(f"/v1/jobs/{job}").json()["queue_position"] for job in submitted]
    listed = served.http.get(f"/v1/jobs?model={name}").json()["data"]
    assert [job["queue_position"] for job in listed[::-1]] == positions
    assert (positions[0], positions[2]) == (None, None)
    assert isinstance(positions[1], int)
    assert positions[3] == positions[1] + 1


def test_a_list_needs_as_many_queries_for_many_items_as_for_one(served: Served, name: str) -> None:
    for index in range(3):
        served.model(f"{name}-{index}")
        for label in "123":
            served.submit(f"{name}-{index}", "learn", labels=[label])
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engine = served.app.state.context.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        for path in ("/v1/models", "/v1/jobs"):
            counts = []
            for limit in (1, 3):
                statements.clear()
                assert len(served.http.get(f"{path}?limit={limit}").json()["data"]) == limit
                counts.append(len([statement for statement in statements if "SELECT" in statement]))
            assert counts[0] == counts[1] > 0
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_poll_of_an_unchanged_job_is_a_304_without_a_body(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    first = served.http.get(f"/v1/jobs/{job_id}")
    known = {"If-None-Match": first.headers["ETag"]}
    same = served.http.get(f"/v1/jobs/{job_id}", headers=known)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert same.headers["Retry-After"] == first.headers["Retry-After"]
    served.worker.claim(job_id)
    changed = served.http.get(f"/v1/jobs/{job_id}", headers=known)
    assert (changed.status_code, changed.json()["state"]) == (200, "running")


def test_a_job_is_small_to_poll(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    assert len(served.http.get(f"/v1/jobs/{job_id}").content) < 1200


def test_cancelling_again_gives_the_same_answer(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    answers = [served.http.post(f"/v1/jobs/{job_id}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].json()["state"] == "cancelled"
    assert "Retry-After" not in answers[0].headers
    assert served.http.get(f"/v1/models/{name}").json()["head"] is None


def test_a_running_job_that_is_cancelled_is_cancelling(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    served.worker.claim(job_id)
    answer = served.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["done"]) == (202, "cancelling", False)
    assert (answer.headers["Location"], answer.headers["Retry-After"]) == (f"/v1/jobs/{job_id}", "1")
    listed = served.http.get(f"/v1/jobs?model={name}&state=cancelling").json()["data"]
    assert [job["id"] for job in listed] == [job_id]


@pytest.mark.parametrize("end", ["finish", "fail"])
def test_a_job_that_ended_cannot_be_cancelled(served: Served, name: str, end: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    getattr(served.worker, end)(served.worker.claim(job_id))
    answer = served.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_already_finished")


def test_a_job_is_accepted_while_the_broker_is_down(tmp_path: Any) -> None:
    settings = Settings(home=tmp_path / "home", broker_url="redis://127.0.0.1:9/0")
    with serving(settings) as served:
        served.model("digits")
        answer = served.http.post("/v1/models/digits/learn", json={"labels": ["1"]})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        ready = served.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["checks"]["broker"] != "ok"
