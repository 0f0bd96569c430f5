"""Temporary labels that expire: the service forgets them by itself, with a job and a receipt."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.process.expiry import forget_expired
from service.registry.database import from_now
from service.registry.tables import AuditRow, JobRow
from tests.api.serving import Served

HOUR = 3600


def label(served: Served, model: str, name: str) -> dict[str, Any]:
    found = served.http.get(f"/v1/models/{model}").json()["labels"]
    return next(dict(one) for one in found if one["name"] == name)


def learn(served: Served, model: str, *names: str, expires_in: int | None = HOUR) -> str:
    """Learn temporary labels, and return the id of the job."""
    more = {} if expires_in is None else {"expires_in": expires_in}
    return served.done(model, "learn", labels=names, retention="temporary", **more).job_id


def let_time_pass(served: Served, job: str, seconds: float = HOUR + 1) -> None:
    """Move the end of a job into the past."""
    with served.worker.database.transaction() as session:
        moved = update(JobRow).where(JobRow.id == job)
        session.execute(moved.values(finished_at=from_now(-seconds), created_at=from_now(-seconds)))


def forgets(served: Served, model: str) -> list[dict[str, Any]]:
    """Sweep for labels that have expired; return the jobs that forget some, the oldest first."""
    forget_expired(served.worker.database, served.settings)
    found = served.http.get(f"/v1/jobs?model={model}&limit=100").json()["data"]
    return [one for one in reversed(found) if one["operation"] == "forget"]


def test_a_label_that_has_expired_is_forgotten_with_a_receipt(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    job = learn(served, name, "2", "3")
    learned = served.http.get(f"/v1/jobs/{job}").json()
    ends = datetime.fromisoformat(learned["finished_at"]) + timedelta(hours=1)
    assert datetime.fromisoformat(label(served, name, "2")["expires_at"]) == ends
    assert learned["expires_in"] == HOUR
    assert label(served, name, "1")["expires_at"] is None
    assert forgets(served, name) == []
    let_time_pass(served, job)
    [forget] = forgets(served, name)
    assert (forget["labels"], forget["strategy"], forget["guarantee"]) == (["2", "3"], "drop", "exact")
    assert forget["created_by"] == "palimpsest"
    assert len(forgets(served, name)) == 1, "a second sweep submits nothing"
    served.worker.work(forget["id"])
    assert (label(served, name, "2")["status"], label(served, name, "2")["expires_at"]) == ("forgotten", None)
    served.sweep()
    assert served.http.get(f"/v1/jobs/{forget['id']}/receipt").status_code == 200
    assert len(forgets(served, name)) == 1
    with served.worker.database.reading() as session:
        query = select(AuditRow).where(AuditRow.resource == forget["id"], AuditRow.action == "job.submit")
        assert session.scalars(query).one().details["reason"] == "expired"


@pytest.mark.parametrize("retention", [{}, {"retention": "permanent"}])
def test_a_permanent_label_cannot_expire(served: Served, name: str, retention: dict[str, str]) -> None:
    served.model(name)
    refused = served.http.post(
        f"/v1/models/{name}/learn", json={"labels": ["1"], "expires_in": 5} | retention
    )
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "contradiction")
    assert problem["errors"][0]["pointer"] == "/expires_in"


@pytest.mark.parametrize("seconds", [0, -1, 10**10, "5", 1.5])
def test_a_malformed_expiry_is_refused(served: Served, name: str, seconds: Any) -> None:
    served.model(name)
    body = {"labels": ["1"], "retention": "temporary", "expires_in": seconds}
    assert served.http.post(f"/v1/models/{name}/learn", json=body).status_code == 422


def test_a_label_that_is_made_permanent_does_not_expire(served: Served, name: str) -> None:
    served.model(name)
    job = learn(served, name, "2")
    merging = served.submit(name, "learn", labels=["2"])["id"]
    let_time_pass(served, job)
    assert forgets(served, name) == [], "the merge was requested before"
    served.worker.work(merging)
    assert (label(served, name, "2")["status"], label(served, name, "2")["expires_at"]) == ("permanent", None)
    assert forgets(served, name) == []


def test_a_label_expires_all_the_same_if_its_merge_fails(served: Served, name: str) -> None:
    served.model(name)
    job = learn(served, name, "2")
    merging = served.submit(name, "learn", labels=["2"])["id"]
    let_time_pass(served, job)
    served.worker.fail(served.worker.claim(merging))
    assert [one["labels"] for one in forgets(served, name)] == [["2"]]


def test_a_label_that_is_learned_again_expires_by_its_newest_job(served: Served, name: str) -> None:
    served.model(name)
    first = learn(served, name, "2")
    served.done(name, "forget", labels=["2"])
    second = learn(served, name, "2", expires_in=None)
    let_time_pass(served, first)
    assert label(served, name, "2")["expires_at"] is None
    assert len(forgets(served, name)) == 1
    assert second != first


def test_an_expiry_waits_for_the_job_that_runs(served: Served, name: str) -> None:
    served.model(name)
    job = learn(served, name, "2")
    running = served.worker.claim(served.submit(name, "learn", labels=["5"])["id"])
    let_time_pass(served, job)
    [forget] = forgets(served, name)
    assert (forget["state"], label(served, name, "2")["status"]) == ("queued", "temporary")
    served.worker.finish(running)
    served.worker.work(forget["id"])
    assert label(served, name, "2")["status"] == "forgotten"


def test_a_forget_that_fails_is_tried_again_after_a_while(served: Served, name: str) -> None:
    served.model(name)
    job = learn(served, name, "2")
    let_time_pass(served, job)
    [first] = forgets(served, name)
    served.worker.fail(served.worker.claim(first["id"]))
    assert len(forgets(served, name)) == 1, "not at once"
    let_time_pass(served, first["id"], 61)
    assert [one["labels"] for one in forgets(served, name)] == [["2"], ["2"]]


def test_a_retry_repeats_the_expiry(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["2"], retention="temporary", expires_in=HOUR)["id"]
    served.worker.fail(served.worker.claim(job))
    again = served.http.post(f"/v1/jobs/{job}/retry").json()
    assert (again["expires_in"], again["retry_of"]) == (HOUR, job)
