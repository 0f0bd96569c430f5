"""A poll never shows an older state of the job than there is, although most polls get a kept answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from tests.api.serving import Served

ROUTED = {"Accept": "application/json;q=0.9"}
"""A poll with this header is answered by the endpoint itself."""


def poll(served: Served, job_id: str) -> dict[str, Any]:
    """Poll three times: the last two answers are kept ones, and equal what the endpoint answers."""
    first, second, third = (served.http.get(f"/v1/jobs/{job_id}") for _ in range(3))
    routed = served.http.get(f"/v1/jobs/{job_id}", headers=ROUTED)
    for kept in (second, third):
        assert kept.status_code == 200
        assert kept.content == first.content == routed.content
        for name in ("etag", "content-type", "cache-control", "retry-after"):
            assert kept.headers.get(name) == routed.headers.get(name)
        assert kept.headers["x-request-id"] != first.headers["x-request-id"]
    unchanged = served.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    return dict(first.json())


@pytest.mark.parametrize("header", ["Palimpsest-Projects", "Last-Event-ID"])
def test_a_poll_with_a_header_that_cannot_be_honoured_is_refused(
    served: Served, name: str, header: str
) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])["id"]
    poll(served, job)
    answer = served.http.get(f"/v1/jobs/{job}", headers={header: "1"})
    assert (answer.status_code, answer.json()["code"]) == (400, "header_not_supported")


def test_every_change_of_a_job_shows_in_the_next_poll(served: Served, name: str) -> None:
    served.model(name)
    first = served.submit(name, "learn", labels=["1", "2"])["id"]
    second = served.submit(name, "forget", labels=["2"], purge=True)["id"]
    position = poll(served, second)["queue_position"]
    assert poll(served, first)["state"] == "queued"
    claim = served.worker.claim(first)
    assert poll(served, first)["state"] == "running"
    served.worker.progress(claim, "learning", 1, 10, 2.0)
    assert poll(served, first)["progress"]["step"] == 1
    served.worker.progress(claim, "learning", 2, 10, 1.5)
    assert poll(served, first)["progress"]["step"] == 2
    served.worker.finish(claim)
    assert poll(served, first)["output_version"] == 1
    assert poll(served, second)["queue_position"] == position - 1
    served.worker.work(second)
    assert poll(served, second)["purge"]["state"] in ("requested", "pending")
    served.sweep()
    assert poll(served, second)["purge"]["state"] == "done"
    again = {"labels": ["2"], "reference": "DSR-2"}
    assert served.http.post(f"/v1/models/{name}/forget", json=again).json()["id"] == second
    assert [one["reference"] for one in poll(served, second)["also_requested"]] == ["DSR-2"]
    third = served.submit(name, "learn", labels=["3"])["id"]
    poll(served, third)
    assert served.http.post(f"/v1/jobs/{third}/cancel").status_code == 202
    assert poll(served, third)["state"] == "cancelled"


@pytest.fixture
def queries(served: Served) -> Iterator[list[str]]:
    """The statements that the API sends to the database through SQLAlchemy."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engine = served.app.state.context.database.engine
    event.listen(engine, "before_cursor_execute", record)
    yield sent
    event.remove(engine, "before_cursor_execute", record)


def test_a_poll_without_news_opens_no_session(served: Served, name: str, queries: list[str]) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    served.http.get(f"/v1/jobs/{job_id}")
    queries.clear()
    assert served.http.get(f"/v1/jobs/{job_id}").status_code == 200
    assert queries == []


@pytest.mark.parametrize("path", ["job_00000000000000000000000000", "nothing", "job_%00", ""])
def test_polls_of_what_is_no_job_are_refused_by_the_endpoint(served: Served, path: str) -> None:
    for _ in range(2):
        assert served.http.get(f"/v1/jobs/{path}").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Palimpsest-Projekt": "default"}, 400),
        ({"Content-Encoding": "gzip"}, 415),
        ({"If-Match": '"1"'}, 412),
    ],
)
def test_a_request_that_is_answered_first_is_refused_as_any_other(
    served: Served, name: str, headers: dict[str, str], status: int
) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    for _ in range(2):
        assert served.http.get(f"/v1/jobs/{job_id}").status_code == 200
        assert served.http.get(f"/v1/jobs/{job_id}", headers=headers).status_code == status
