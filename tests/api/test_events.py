"""The events of a job over HTTP: in pages, and as a stream that ends, resumes and holds nothing."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest

from service.api import streams
from service.registry import claims, job_events, keys
from service.registry.claims import Claim
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import locked, new_key
from tests.instance import wait_for

__all__ = ["locked"]

STREAM = {"Accept": "text/event-stream"}


@contextmanager
def following(served: Served, job: str, **headers: str) -> Iterator[Iterator[dict[str, str]]]:
    """Open a stream; yields its events as {field: value}, and comments as {"": text}."""
    with served.http.stream("GET", f"/v1/jobs/{job}/events", headers=STREAM | headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        yield parse(response.iter_lines())


def parse(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        elif event.keys() - {"retry"}:
            yield event
            event = {}
        else:
            event = {}


def read_all(served: Served, job: str, **headers: str) -> list[dict[str, Any]]:
    """The data of all events until the stream ends."""
    with following(served, job, **headers) as events:
        return [json.loads(event["data"]) for event in events if "data" in event]


def listed(served: Served, job: str, query: str = "") -> dict[str, Any]:
    answer = served.http.get(f"/v1/jobs/{job}/events{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def note(served: Served, claim: Claim, message: str, *losses: float) -> None:
    with served.worker.database.transaction() as session:
        claims.require_held(session, claim)
        job_events.add_log(session, claim.job_id, message)
        for step, loss in enumerate(losses):
            progress = {"phase": "training", "step": step, "total": 10, "loss": loss, "eta_seconds": 1.5}
            job_events.add_progress(session, claim.job_id, progress)


def test_a_list_tells_states_progress_and_lines_in_pages(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    claim = served.worker.claim(job)
    note(served, claim, "starts from no version", 3.0, 2.0)
    served.worker.finish(claim)
    whole = listed(served, job)
    assert [event["type"] for event in whole["data"]] == ["state", "state", "log", *["progress"] * 2, "state"]
    assert (whole["has_more"], whole["next"]) == (False, None)
    first, _, line, progress, _, last = whole["data"]
    assert (first["id"], first["object"], first["job"], first["state"]) == ("1", "job.event", job, "queued")
    assert line["message"] == "starts from no version"
    assert progress["progress"] == {
        "phase": "training", "step": 0, "total": 10, "fraction": 0.0, "eta_seconds": 1.5, "loss": 3.0,
    }  # fmt: skip
    assert (last["state"], last["done"], last["code"], last["attempt"]) == ("succeeded", True, None, 1)
    page = listed(served, job, "?limit=4")
    assert (page["data"], page["has_more"], page["next"]) == (whole["data"][:4], True, "4")
    assert listed(served, job, "?limit=4&after=4")["data"] == whole["data"][4:]
    losses = [event["progress"]["loss"] for event in listed(served, job, "?type=progress")["data"]]
    assert losses == [3.0, 2.0]
    assert listed(served, job, "?after=999")["data"] == []


def test_a_stream_sends_what_the_list_has_and_ends_with_the_job(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    found: list[dict[str, Any]] = []
    with following(served, job) as events:
        first = next(events)
        assert (first["event"], first["id"]) == ("state", "1")
        claim = served.worker.claim(job)
        note(served, claim, "one line", 3.0)
        served.worker.fail(claim)
        found = [json.loads(first["data"]), *(json.loads(event["data"]) for event in events)]
    assert found == listed(served, job)["data"]
    assert (found[-1]["state"], found[-1]["code"]) == ("failed", "dataset_unavailable")
    assert read_all(served, job) == found


def test_a_stream_is_resumed_after_the_last_event(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    served.worker.fail(served.worker.claim(job))
    for _ in range(3):  # who asks again from the same place is answered again
        assert [event["id"] for event in read_all(served, job, **{"Last-Event-ID": "1"})] == ["2", "3"]
    ended = served.http.get(f"/v1/jobs/{job}/events", headers=STREAM | {"Last-Event-ID": "3"})
    assert (ended.status_code, ended.content) == (204, b"")  # a browser does not ask again


@pytest.mark.parametrize(
    ("query", "headers", "pointer"),
    [
        ("?after=job_1", {}, "/query/after"),
        ("", {"Last-Event-ID": "x"}, "/header/last-event-id"),
        ("?limit=5", STREAM, "/query/limit"),
        ("?type=log", STREAM, "/query/type"),
        ("?type=logs", {}, "/query/type"),
    ],
)
def test_what_a_list_or_a_stream_cannot_have_is_refused(
    served: Served, name: str, query: str, headers: dict[str, str], pointer: str
) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    refused = served.http.get(f"/v1/jobs/{job}/events{query}", headers=headers)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer), refused.text


def test_a_job_that_is_unknown_has_no_stream(served: Served, name: str) -> None:
    refused = served.http.get("/v1/jobs/job_x/events", headers=STREAM)
    assert (refused.status_code, refused.json()["code"]) == (404, "job_not_found")
    neither = served.http.get("/v1/jobs/job_x/events", headers={"Accept": "image/png"})
    assert neither.status_code == 406


def test_a_head_request_of_a_stream_ends(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    assert served.http.head(f"/v1/jobs/{job}/events", headers=STREAM).status_code == 200


def test_a_silent_stream_sends_comments(served: Served, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.1)
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    with following(served, job) as events:
        assert next(events)["id"] == "1"
        assert "" in next(events)


def test_streams_hold_no_thread_and_no_connection(served: Served, name: str) -> None:
    """More clients follow jobs than there are threads and connections to the database."""
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    ended: list[list[dict[str, Any]]] = []
    threads = [
        threading.Thread(target=lambda: ended.append(read_all(served, job)), daemon=True) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    slots = served.app.state.streams.slots
    wait_for("all streams are open", lambda: slots.in_hand == len(threads))
    assert served.http.get(f"/v1/jobs/{job}").status_code == 200
    served.worker.fail(served.worker.claim(job))
    for thread in threads:
        thread.join(30)
    assert [len(events) for events in ended] == [3] * len(threads)
    wait_for("no stream is left", lambda: slots.in_hand == 0)


def test_a_client_that_leaves_ends_its_stream(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    with following(served, job) as events:
        next(events)
        assert served.app.state.streams.slots.in_hand == 1
    wait_for("the stream has ended", lambda: served.app.state.streams.slots.in_hand == 0)


def test_a_stream_ends_soon_after_its_key_is_revoked(locked: Served) -> None:
    locked.model("revoked")
    job = locked.submit("revoked", "learn", labels=["1"])["id"]
    key = new_key(locked, "read")
    with following(locked, job, Authorization=f"Bearer {key}") as events:
        next(events)
        with locked.worker.database.transaction() as session:  # as another process does
            keys.revoke(session, _key_id(locked, key), project=None)
        began = time.monotonic()
        assert list(events) == []
    assert time.monotonic() - began < 9  # what an admission is remembered for, and the look at it


def test_more_streams_than_the_limit_are_refused_and_all_end_with_the_server(
    tmp_path: Any,
) -> None:
    with serving(Settings(home=tmp_path, max_streams=2, auth="on")) as served:
        key = new_key(served)
        served.http.headers["Authorization"] = f"Bearer {key}"
        served.model("m")
        job = served.submit("m", "learn", labels=["1"])["id"]
        ended = threading.Event()

        def follow() -> None:
            with suppress_cut(), following(served, job) as events:
                list(events)
            ended.set()

        threading.Thread(target=follow, daemon=True).start()
        wait_for("a stream is open", lambda: served.app.state.streams.slots.in_hand == 1)
        refused = served.http.get(f"/v1/jobs/{job}/events", headers=STREAM)
        assert (refused.status_code, refused.json()["code"]) == (429, "concurrency_limited")
        assert int(refused.headers["Retry-After"]) >= 1
    assert ended.wait(5)


@contextmanager
def suppress_cut() -> Iterator[None]:
    """Let a stream end in whatever way."""
    with suppress(httpx2.HTTPError):
        yield


def _key_id(served: Served, key: str) -> str:
    with served.worker.database.reading() as session:
        usable = keys.find_usable(session, key)
    assert usable is not None
    return usable.id
