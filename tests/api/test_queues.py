"""Requests name a queue and a priority; jobs, /readyz and /metrics say what becomes of them."""

from typing import Any

import pytest
from sqlalchemy import delete, update

from service.registry import workers
from service.registry.database import from_now
from service.registry.tables import JobRow, WorkerRow
from tests.api.serving import Served
from tests.api.test_metrics import read


def queueing(job: dict[str, Any]) -> tuple[str, int]:
    return job["queue"], job["priority"]


@pytest.fixture
def m(served: Served, name: str) -> str:
    served.model(name)
    return name


def test_a_job_has_the_queue_of_its_request_or_of_its_model(served: Served, name: str) -> None:
    model = {"name": name, "dataset": "mnist", "queue": "gpu"}
    assert served.http.post("/v1/models", json=model).json()["queue"] == "gpu"
    assert queueing(served.submit(name, "learn", labels=["1", "2"])) == ("gpu", 0)
    named = served.submit(name, "learn", labels=["3"], queue="big-gpu", priority=-10)
    assert queueing(named) == ("big-gpu", -10)
    assert queueing(served.submit(name, "forget", labels=["1"])) == ("gpu", 5)
    assert queueing(served.submit(name, "forget", labels=["2"], priority=0)) == ("gpu", 0)
    assert served.http.get(f"/v1/models/{name}").json()["queue"] == "gpu"


def test_a_job_that_is_repeated_keeps_its_queue_and_priority(served: Served, m: str) -> None:
    job = served.submit(m, "learn", labels=["1"], queue="gpu", priority=3)
    assert served.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    again = served.http.post(f"/v1/jobs/{job['id']}/retry")
    assert (again.status_code, queueing(again.json())) == (202, ("gpu", 3))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"queue": "GPU"}, "invalid_name"),
        ({"queue": "a.b"}, "invalid_name"),
        ({"queue": ""}, "invalid_name"),
        ({"queue": "a" * 33}, "invalid_name"),
        ({"queue": 5}, "wrong_type"),
        ({"priority": 11}, "out_of_range"),
        ({"priority": -11}, "out_of_range"),
        ({"priority": "high"}, "wrong_type"),
        ({"priority": 1.5}, "wrong_type"),
    ],
)
def test_a_queue_or_a_priority_that_cannot_be_is_refused(
    served: Served, m: str, sent: dict[str, Any], code: str
) -> None:
    refused = served.http.post(f"/v1/models/{m}/learn", json={"labels": ["1"]} | sent)
    assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_a_job_of_a_queue_without_a_worker_says_so_until_there_is_one(served: Served, m: str) -> None:
    job = served.submit(m, "learn", labels=["1"], queue="nobody")
    path, why = f"/v1/jobs/{job['id']}", "no running worker serves the queue nobody"
    assert job["waits_for"] == served.http.get(path).json()["waits_for"] == why
    with served.worker.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == job["id"]).values(created_at=from_now(-3600)))
    ready = served.http.get("/readyz").json()
    assert (ready["status"], why in ready["checks"]["worker"]) == ("degraded", True)
    with served.worker.database.transaction() as session:
        workers.sign_in(session, "here:7", code="this", offers=None, queues=["nobody"])
    try:
        assert served.http.get(path).json()["waits_for"] is None
        assert why not in served.http.get("/readyz").json()["checks"]["worker"]
        served.app.state.context.statistics._last = None
        found = read(served)
        names = ("palimpsest_queued_jobs", "palimpsest_queue_demand", "palimpsest_workers")
        assert [found[name, "nobody"] for name in names] == [1, 1, 1]
        assert found["palimpsest_queue_wait_seconds", "nobody"] > 3000
        assert found["palimpsest_workers", "default"] == 0
    finally:
        with served.worker.database.transaction() as session:
            session.execute(delete(WorkerRow))
