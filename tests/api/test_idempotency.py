"""Idempotency keys: a POST that is sent again does nothing twice, whatever became of its first answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import update

from service.registry import jobs, keys, models
from service.registry.database import from_now
from service.registry.tables import IdempotencyKeyRow
from tests.api.serving import Served

JSON = dict[str, Any]


def send(served: Served, path: str, body: JSON | None, key: str) -> httpx2.Response:
    return served.http.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.fixture
def key() -> str:
    return str(uuid4())


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("learn", {"labels": ["5"]}),
        ("forget", {"labels": ["1"]}),
        ("resize", {"policy": "prune"}),
        ("evaluate", {}),
    ],
)
def test_a_repeated_request_for_a_job_gets_the_same_job(
    served: Served, name: str, key: str, operation: str, body: JSON
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    path = f"/v1/models/{name}/{operation}"
    first = send(served, path, body, key)
    before = served.counts()
    again = send(served, path, body, key)
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()
    assert served.counts() == before


@pytest.mark.parametrize("prefer", ["", "wait=30"])
def test_a_repeated_forget_that_an_earlier_job_answered_gets_the_same_answer(
    served: Served, name: str, key: str, prefer: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3"])
    earlier = served.done(name, "forget", labels=["1"]).job_id
    job = served.done(name, "forget", labels=["2"]).job_id
    path, body = f"/v1/models/{name}/forget", {"labels": ["1", "2"], "reference": "DSR-2"}
    headers = {"Idempotency-Key": key, "Prefer": prefer}
    first, again = (served.http.post(path, json=body, headers=headers) for _ in range(2))
    assert first.json()["already_forgotten"] == {"1": earlier, "2": job}
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()


def test_an_answer_that_was_waited_for_says_which_labels_were_forgotten_already(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2", "3"])
    earlier = served.done(name, "forget", labels=["1"]).job_id
    job = served.submit(name, "forget", labels=["2"])["id"]
    answer = served.http.post(
        f"/v1/models/{name}/forget", json={"labels": ["1", "2"]}, headers={"Prefer": "wait=1"}
    )
    assert (answer.status_code, answer.json()["id"]) == (202, job)
    assert answer.json()["already_forgotten"] == {"1": earlier, "2": job}


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [
        ("/v1/projects", {"name": "{name}"}, None),
        ("/v1/keys", {"name": "{name}", "scopes": ["read"]}, "key"),
        ("/v1/webhooks", {"url": "https://1.1.1.1/{name}", "types": ["job.finished"]}, "secret"),
    ],
)
def test_a_repeated_creation_makes_nothing_and_shows_no_secret_again(
    served: Served, name: str, key: str, path: str, body: JSON, secret: str | None
) -> None:
    body = {field: one.format(name=name) if isinstance(one, str) else one for field, one in body.items()}
    first = send(served, path, body, key)
    before = served.counts()
    again = send(served, path, body, key)
    assert (first.status_code, again.status_code) == (201, 201), again.text
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert served.counts() == before
    shown = first.json()
    if secret is not None:
        assert shown[secret]
        assert shown[secret] not in again.text
        shown[secret] = None
    assert again.json() == shown
    first_field = next(iter(body))
    reused = send(served, path, body | {first_field: f"{body[first_field]}x"}, key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


def test_a_repeated_test_of_a_webhook_sends_one_message(served: Served, name: str, key: str) -> None:
    url = f"https://1.1.1.1/{name}"
    webhook = served.http.post("/v1/webhooks", json={"url": url, "types": ["job.finished"]}).json()["id"]
    first, again = (send(served, f"/v1/webhooks/{webhook}/test", None, key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert first.headers["Location"] == again.headers["Location"]
    assert served.http.get(first.headers["Location"]).json() == first.json()
    assert len(served.http.get(f"/v1/webhooks/{webhook}/deliveries").json()["data"]) == 1


def test_the_repeated_answer_shows_the_job_as_it_is_now(served: Served, name: str, key: str) -> None:
    served.model(name)
    first = send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key).json()
    served.worker.work(first["id"])
    again = send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, first["id"], "succeeded")


def test_a_repeated_request_for_a_model_gets_the_model(served: Served, name: str, key: str) -> None:
    body = {"name": name, "dataset": "mnist"}
    first, again = (send(served, "/v1/models", body, key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["Location"]) == (first.json(), first.headers["Location"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert served.http.post("/v1/models", json=body).status_code == 409


def test_a_repeated_sample_is_drawn_again_from_its_record(served: Served, name: str, key: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    path, body = f"/v1/models/{name}/samples", {"labels": ["1"], "count": 3, "format": "npz"}
    first, again = (send(served, path, body, key) for _ in range(2))
    assert again.headers["X-Sample-Id"] == first.headers["X-Sample-Id"]
    assert (again.status_code, again.content) == (200, first.content)
    served.done(name, "forget", labels=["1"])
    gone = send(served, path, body, key)
    assert (gone.status_code, gone.json()["code"]) == (410, "version_revoked")


def test_a_repeated_cancel_gets_the_same_answer(served: Served, name: str, key: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    first, again = (send(served, f"/v1/jobs/{job_id}/cancel", None, key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"


def test_equal_bodies_are_the_same_request_however_they_are_written(
    served: Served, name: str, key: str
) -> None:
    served.model(name)
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    path = f"/v1/models/{name}/learn"
    first = served.http.post(path, content='{"labels":["1"],"seed":3}', headers=headers)
    again = served.http.post(path, content='{ "seed": 3, "labels": ["1"] }', headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


def test_a_key_is_refused_for_another_body_or_path(served: Served, name: str, key: str) -> None:
    served.model(name)
    send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key)
    before = served.counts()
    for path, body in (
        (f"/v1/models/{name}/learn", {"labels": ["2"]}),
        (f"/v1/models/{name}/resize", {"policy": "prune"}),
        ("/v1/models", {"name": f"{name}x", "dataset": "mnist"}),
    ):
        refused = send(served, path, body, key)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused"), path
    assert served.counts() == before


def test_a_refused_request_leaves_its_key_free(served: Served, name: str, key: str) -> None:
    served.model(name)
    path = f"/v1/models/{name}/forget"
    assert send(served, path, {"labels": ["1"]}, key).status_code == 404
    served.submit(name, "learn", labels=["1", "2"])
    assert send(served, path, {"labels": ["1"]}, key).status_code == 202


@pytest.mark.parametrize("bad", ["", "x" * 256, "schlüssel".encode(), b"a\tb"])
def test_a_malformed_key_is_refused(served: Served, name: str, bad: str | bytes) -> None:
    served.model(name)
    headers = [(b"Idempotency-Key", bad.encode() if isinstance(bad, str) else bad)]
    refused = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_idempotency_key")


def test_two_keys_in_one_request_are_refused(served: Served, name: str) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    refused = served.http.post("/v1/models", json={"name": name, "dataset": "mnist"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_idempotency_key")


def test_a_header_that_cannot_be_honoured_is_refused(served: Served, name: str) -> None:
    served.model(name)
    read = served.http.get(f"/v1/models/{name}", headers={"Idempotency-Key": "k"})
    assert (read.status_code, read.json()["code"]) == (400, "idempotency_key_not_supported")
    upload = served.http.put("/v1/datasets/x", content=b"", headers={"Idempotency-Key": "k"})
    assert (upload.status_code, upload.json()["code"]) == (400, "idempotency_key_not_supported")
    matched = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"]}, headers={"If-Match": '"x"'}
    )
    assert (matched.status_code, matched.json()["code"]) == (412, "precondition_failed")


def test_of_many_requests_with_one_key_at_once_one_is_carried_out(
    served: Served, name: str, key: str
) -> None:
    served.model(name)
    before = served.counts()
    start = threading.Barrier(8)

    def submit(_: int) -> tuple[int, JSON]:
        start.wait()
        answer = send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key)
        return answer.status_code, dict(answer.json()) | {"retry": answer.headers.get("Retry-After")}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    accepted = {answer["id"] for status, answer in answers if status == 202}
    refused = [answer for status, answer in answers if status != 202]
    assert len(accepted) == 1
    assert all((one["code"], one["retry"]) == ("idempotency_in_flight", "1") for one in refused)
    assert served.counts()["jobs"] == before["jobs"] + 1


def test_a_key_in_flight_is_refused_at_once(served: Served, name: str, key: str) -> None:
    """The first request waits for another writer meanwhile."""
    served.model(name)
    path, body = f"/v1/models/{name}/learn", {"labels": ["1"]}
    keys = served.app.state.context.keys_in_flight
    with ThreadPoolExecutor(1) as pool:
        with served.worker.database.transaction() as session:
            jobs.lock_model(session, models.find(session, name))
            first = pool.submit(send, served, path, body, key)
            while ("prj_default", key) not in keys:
                assert not first.done()
            refused = send(served, path, body, key)
            assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_in_flight")
            assert refused.headers["Retry-After"] == "1"
        assert first.result().status_code == 202
    assert send(served, path, body, key).json()["id"] == first.result().json()["id"]


def test_a_key_is_kept_for_a_day_then_deleted_by_the_sweeper(served: Served, name: str, key: str) -> None:
    served.model(name)
    first = send(served, f"/v1/models/{name}/resize", {"policy": "prune"}, key)
    assert first.status_code == 409  # nothing learned yet: a refusal is not kept
    first = send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key)

    def age(hours: float) -> None:
        with served.worker.database.transaction() as session:
            change = update(IdempotencyKeyRow).where(IdempotencyKeyRow.key == key)
            session.execute(change.values(created_at=from_now(-hours * 3600)))
        served.sweep()

    age(23.9)
    assert send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key).json() == first.json()
    age(24.1)
    refused = send(served, f"/v1/models/{name}/learn", {"labels": ["1"]}, key)
    assert (refused.status_code, refused.json()["code"]) == (409, "label_already_learned")


def test_every_post_takes_a_key_and_the_openapi_document_says_so(served: Served) -> None:
    document = served.http.get("/openapi.json").json()
    without = [
        path
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method == "post"
        and not any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
    ]
    assert without == []


def test_a_repeated_sign_in_gets_a_cookie_of_its_own(served: Served, key: str) -> None:
    with served.worker.database.transaction() as session:
        _, text = keys.create(session, name="console", scopes=["read"], project=None)
    first, again = (send(served, "/v1/session", {"key": text}, key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), again.text
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (
        None,
        "true",
    )
    served.http.cookies.clear()
    for answer in (first, again):
        assert httpx2.get(f"{served.address}/v1/models", cookies=dict(answer.cookies)).status_code == 200
    reused = send(served, "/v1/session", {"key": text, "project": "default"}, key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


def test_a_label_that_is_taken_names_the_job_that_holds_it(served: Served, name: str) -> None:
    served.model(name)
    queued = served.submit(name, "learn", labels=["1"])
    for _ in range(2):
        refused = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]})
        assert (refused.status_code, refused.json()["job"]) == (409, queued["id"])
        assert queued["id"] in refused.json()["detail"]
        if served.http.get(f"/v1/jobs/{queued['id']}").json()["state"] == "queued":
            served.worker.work(queued["id"])
