"""A job that did not succeed is repeated as a new job, under the rules of a new request."""

from typing import Any

import pytest
from sqlalchemy import select

from service.registry.keys import Scope
from service.registry.tables import DEFAULT_PROJECT, AuditRow, DatasetRow
from tests.api.serving import Served
from tests.api.test_access import locked, new_key

__all__ = ["locked"]

REPEATED = (
    "model", "operation", "strategy", "guarantee", "params", "labels", "renamed", "seed", "reference",
    "metadata", "evaluated_version",
)  # fmt: skip
NOTES = {"reference": "DSR-17", "metadata": {"team": "privacy"}, "seed": 5}


def retry(served: Served, job: str, **headers: str) -> Any:
    return served.http.post(f"/v1/jobs/{job}/retry", headers=headers)


def fail(served: Served, job: str) -> None:
    served.worker.fail(served.worker.claim(job))


def submitted(served: Served, name: str, operation: str) -> dict[str, Any]:
    """Submit a job of this operation that sets all it can."""
    bodies: dict[str, dict[str, Any]] = {
        "learn": {
            "labels": ["4", "3"],
            "as": {"3": "three"},
            "params": {"steps": 7},
            "acceptance": {"retained_accuracy_min": 0.5},
        },
        "forget": {
            "labels": ["1"],
            "guarantee": "exact",
            "purge": True,
            "acceptance": {"forgotten_accuracy_max": 0.1},
        },
        "resize": {"policy": "prune", "params": {"share": 0.2}, "base_version": 1},
        "evaluate": {"params": {"seeds": 4}},
    }
    return served.submit(name, operation, **bodies[operation], **NOTES)


@pytest.mark.parametrize("operation", ["learn", "forget", "resize", "evaluate"])
@pytest.mark.parametrize("end", ["failed", "rejected", "cancelled"])
def test_a_retry_repeats_what_the_job_was_accepted_with(
    served: Served, name: str, operation: str, end: str
) -> None:
    served.model(name, acceptance={"worst_retained_accuracy_min": 0.25})
    served.done(name, "learn", labels=["1", "2"])
    job = submitted(served, name, operation)
    if end == "cancelled":
        served.http.post(f"/v1/jobs/{job['id']}/cancel")
    elif end == "failed":
        fail(served, job["id"])
    else:
        served.worker.refuse(served.worker.claim(job["id"]))
    answer = retry(served, job["id"])
    again = answer.json()
    assert (answer.status_code, again["state"], again["retry_of"]) == (202, "queued", job["id"]), again
    assert answer.headers["Location"] == again["links"]["self"] != job["links"]["self"]
    assert again["links"]["retry_of"] == job["links"]["self"]
    assert {key: again[key] for key in REPEATED} == {key: job[key] for key in REPEATED}
    assert again["acceptance"] == job["acceptance"]
    assert (again["purge"] is None) == (job["purge"] is None)
    if operation == "evaluate":
        served.worker.measure(served.worker.claim(again["id"]))
    else:
        served.worker.work(again["id"])
    assert retry(served, again["id"]).json()["code"] == "job_already_succeeded"


def test_a_job_that_has_not_ended_is_not_repeated(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])
    refused = retry(served, job["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_finished")
    assert retry(served, "job_x").status_code == 404


def test_the_rules_of_labels_apply_to_a_retry(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])
    fail(served, job["id"])
    assert retry(served, job["id"]).status_code == 202
    refused = retry(served, job["id"])  # the first retry will learn the label
    assert (refused.status_code, refused.json()["code"]) == (409, "label_already_learned")


def test_a_retry_of_a_forget_is_answered_with_the_job_that_forgot_the_labels_meanwhile(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    job = served.submit(name, "forget", labels=["1"], strategy="distill", params={"share": 0.3})
    fail(served, job["id"])
    forgot = served.done(name, "forget", labels=["1"])
    answer = retry(served, job["id"])
    assert (answer.status_code, answer.json()["id"]) == (200, forgot.job_id)


def test_a_job_whose_strategy_fits_no_more_is_not_repeated(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    served.done(name, "learn", labels=["2"], retention="temporary")
    job = served.submit(name, "forget", labels=["2"])
    assert job["strategy"] == "drop"
    fail(served, job["id"])
    served.done(name, "learn", labels=["2"])  # made permanent: no network can be dropped
    refused = retry(served, job["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_repeatable")
    assert "'drop'" in refused.json()["detail"]


def test_a_job_whose_dataset_was_deleted_is_not_repeated(served: Served, name: str) -> None:
    with served.worker.database.transaction() as session:
        dataset = DatasetRow(name=f"d{name}", images={"a": 3}, sha256="a" * 64)
        session.add(dataset)
    served.model(name)
    job = served.submit(name, "learn", labels=["a"], dataset=f"d{name}")
    fail(served, job["id"])
    with served.worker.database.transaction() as session:
        session.delete(session.get_one(DatasetRow, (DEFAULT_PROJECT, f"d{name}")))
    refused = retry(served, job["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_repeatable")


def test_a_retry_with_an_idempotency_key_makes_one_job(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])
    fail(served, job["id"])
    first, second = (retry(served, job["id"], **{"Idempotency-Key": f"k{name}"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"


def test_a_retry_is_in_the_audit_log(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1"])
    fail(served, job["id"])
    again = retry(served, job["id"]).json()
    with served.worker.database.reading() as session:
        query = select(AuditRow).where(AuditRow.action == "job.retry", AuditRow.resource == again["id"])
        [entry] = session.scalars(query)
    assert (entry.details["retry_of"], entry.details["labels"]) == (job["id"], ["1"])


def test_a_retry_needs_the_scope_of_the_operation_and_the_project(locked: Served) -> None:
    locked.model("scopes")
    locked.done("scopes", "learn", labels=["1", "2"])
    learning = locked.submit("scopes", "learn", labels=["3"])
    fail(locked, learning["id"])
    forgetting = locked.submit("scopes", "forget", labels=["1"])
    fail(locked, forgetting["id"])

    def status(job: str, *scopes: Scope) -> int:
        key = new_key(locked, *scopes)
        return int(retry(locked, job, Authorization=f"Bearer {key}").status_code)

    assert (status(learning["id"], "read"), status(learning["id"], "forget")) == (403, 403)
    assert (status(forgetting["id"], "learn"), status(forgetting["id"], "forget")) == (403, 202)
    assert status(learning["id"], "learn") == 202
