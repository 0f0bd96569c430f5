"""GET /v1/audit lists who requested what, and what became of it, also after the label is forgotten."""

from typing import Any

import pytest

from service.registry import audit
from tests.api.serving import Served


def entries(served: Served, resource: str, **query: str) -> list[dict[str, Any]]:
    """Return the entries about a resource, the oldest first."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": None}
    while True:
        after = {"after": str(page["next"])} if page["next"] else {}
        params = {"limit": "100", "resource": resource} | query | after
        page = served.http.get("/v1/audit", params=params).json()
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]


def test_a_request_that_an_earlier_job_answers_is_logged_with_its_own_reference(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    job_id = served.done(name, "forget", labels=["2"], reference="ticket 7").job_id
    body = {"labels": ["2"], "reference": "ticket 8"}
    again = served.http.post(f"/v1/models/{name}/forget", json=body)
    assert (again.status_code, again.json()["id"]) == (200, job_id)
    logged = [entry["details"] for entry in entries(served, job_id) if entry["action"] == "job.submit"]
    assert [one["reference"] for one in logged] == ["ticket 7", "ticket 8"]


def test_a_forget_leaves_who_requested_it_and_how_it_ended(served: Served, name: str) -> None:
    model = served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    job = served.submit(name, "forget", labels=["2"], reference="ticket 7")
    served.worker.work(job["id"])
    served.sweep()
    submitted, ended = entries(served, job["id"])
    assert (submitted["action"], submitted["actor"]) == ("job.submit", "anonymous")
    assert submitted["request_id"] == job["request_id"]
    assert submitted["details"] == {
        "operation": "forget",
        "model": model["id"],
        "labels": ["2"],
        "reference": "ticket 7",
    }
    assert (ended["action"], ended["actor"], ended["details"]["state"]) == (
        "job.end",
        "palimpsest",
        "succeeded",
    )
    assert ended["position"] > submitted["position"]
    assert [entry["action"] for entry in entries(served, model["id"])] == ["model.create"]
    with served.worker.database.reading() as session:
        assert audit.verify(session).fault is None


def test_a_refused_request_leaves_no_entry_and_a_cancel_one(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])
    assert served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"]}).status_code == 409
    for _ in range(2):
        assert served.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    assert [entry["action"] for entry in entries(served, job["id"])][:2] == ["job.submit", "job.cancel"]


@pytest.mark.parametrize("compared", [1, 10_000])
def test_entries_are_found_by_what_was_done_and_to_what(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    """compared: how many entries one page looks at. With 1, most pages are empty, and others follow."""
    monkeypatch.setattr("service.registry.pages.MAX_COMPARED", compared)
    model = served.model(name)
    served.http.patch(f"/v1/models/{name}", json={"description": "new"}).raise_for_status()
    assert [entry["action"] for entry in entries(served, model["id"])] == ["model.create", "model.update"]
    assert [entry["resource"] for entry in entries(served, model["id"], action="model.update")] == [
        model["id"]
    ]
    assert entries(served, "mdl_nothing") == []


def test_a_cursor_that_is_none_is_refused(served: Served) -> None:
    answer = served.http.get("/v1/audit", params={"after": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid_cursor")
