"""A learn or a forget is followed by a resize: by its request, or by the size policy of its model."""

from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import as_holder, locked, new_key
from tests.api.test_audit import entries
from tests.api.test_expiry import forgets, learn, let_time_pass
from tests.api.test_limits import small

__all__ = ["locked", "small"]

PRUNE = {"policy": "prune", "params": {"share": 0.2}}


def job(served: Served, job_id: str) -> dict[str, Any]:
    return dict(served.http.get(f"/v1/jobs/{job_id}").json())


def follower(served: Served, first: dict[str, Any]) -> dict[str, Any]:
    assert first["followed_by"] is not None
    return job(served, first["followed_by"])


def operations(served: Served, name: str) -> list[str]:
    """Return the operations of the model's jobs, the oldest first."""
    found = served.http.get(f"/v1/jobs?model={name}&limit=100").json()["data"]
    return [one["operation"] for one in reversed(found)]


@pytest.mark.parametrize("operation", ["learn", "forget"])
def test_both_jobs_name_each_other_and_make_a_version_each(served: Served, name: str, operation: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    labels = ["3"] if operation == "learn" else ["1"]
    more = {"reference": "DSR-17", "metadata": {"team": "privacy"}, "seed": 5}
    first = served.submit(name, operation, labels=labels, resize=PRUNE, **more)
    resize = follower(served, first)
    assert (resize["operation"], resize["strategy"], resize["params"]) == (
        "resize",
        "prune_units",
        {"share": 0.2},
    )
    assert {key: resize[key] for key in more} == more
    assert (resize["follows"], resize["followed_by"], first["follows"]) == (first["id"], None, None)
    assert first["links"]["followed_by"] == resize["links"]["self"]
    assert resize["links"]["follows"] == first["links"]["self"]
    listed = {one["id"]: one for one in served.http.get(f"/v1/jobs?model={name}").json()["data"]}
    assert listed[first["id"]]["followed_by"] == resize["id"]
    assert served.worker.work(first["id"]).number == 2
    version = served.worker.work(resize["id"])
    assert (version.number, version.operation) == (3, "resize")
    assert job(served, first["id"])["followed_by"] == resize["id"]


def test_the_audit_log_has_an_entry_for_each_job(served: Served, name: str) -> None:
    model = served.model(name)
    first = served.submit(name, "learn", labels=["1"], resize=PRUNE, reference="ticket 7")
    [entry] = entries(served, first["followed_by"])
    assert (entry["action"], entry["request_id"]) == ("job.submit", first["request_id"])
    assert entry["details"] == {
        "operation": "resize",
        "model": model["id"],
        "reference": "ticket 7",
        "follows": first["id"],
    }


def test_a_repeated_request_is_answered_with_the_same_two_jobs(served: Served, name: str) -> None:
    served.model(name)
    body = {"labels": ["1"], "resize": PRUNE}
    headers = {"Idempotency-Key": f"k{name}"}
    first, again = (
        served.http.post(f"/v1/models/{name}/learn", json=body, headers=headers).json() for _ in range(2)
    )
    assert again == first
    assert operations(served, name) == ["learn", "resize"]


def test_the_resize_of_a_job_that_fails_says_why_it_does_not_run(served: Served, name: str) -> None:
    served.model(name)
    first = served.submit(name, "learn", labels=["1"], resize=PRUNE)
    assert follower(served, first)["state"] == "queued"
    served.worker.fail(served.worker.claim(first["id"]))
    resize = follower(served, first)
    assert (resize["state"], resize["done"]) == ("cancelled", True)
    assert (resize["error"]["type"], resize["error"]["code"]) == (
        "followed_job",
        "followed_job_not_succeeded",
    )
    assert first["id"] in resize["error"]["message"]


def test_a_retry_takes_the_resize_with_it(served: Served, name: str) -> None:
    served.model(name)
    first = served.submit(name, "learn", labels=["1"], resize=PRUNE)
    served.http.post(f"/v1/jobs/{first['id']}/cancel")
    again = served.http.post(f"/v1/jobs/{first['id']}/retry").json()
    resize = follower(served, again)
    assert (resize["strategy"], resize["params"], resize["state"]) == (
        "prune_units",
        {"share": 0.2},
        "queued",
    )
    assert (resize["follows"], resize["retry_of"]) == (again["id"], None)


def test_a_retry_leaves_out_a_resize_that_a_client_cancelled_and_the_size_policy(
    served: Served, name: str
) -> None:
    served.model(name, size_policy="auto")
    first = served.submit(name, "learn", labels=["1"])
    served.http.post(f"/v1/jobs/{first['followed_by']}/cancel")
    served.http.post(f"/v1/jobs/{first['id']}/cancel")
    assert served.http.post(f"/v1/jobs/{first['id']}/retry").json()["followed_by"] is None


def test_a_retry_of_a_forget_leaves_out_the_resize_if_no_label_remains(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    first = served.submit(name, "forget", labels=["1"], resize=PRUNE)
    served.http.post(f"/v1/jobs/{first['id']}/cancel")
    served.done(name, "forget", labels=["2"])
    again = served.http.post(f"/v1/jobs/{first['id']}/retry")
    assert (again.status_code, again.json()["followed_by"]) == (202, None)


@pytest.mark.parametrize("operation", ["learn", "forget"])
def test_a_model_of_the_size_policy_auto_is_resized_after_each_job(
    served: Served, name: str, operation: str
) -> None:
    assert served.model(name, size_policy="auto")["size_policy"] == "auto"
    assert served.http.get(f"/v1/models/{name}").json()["size_policy"] == "auto"
    first = served.submit(name, "learn", labels=["1", "2"])
    if operation == "forget":
        served.worker.work(first["id"])
        served.worker.work(first["followed_by"])
        first = served.submit(name, "forget", labels=["1"])
    resize = follower(served, first)
    assert (resize["strategy"], resize["params"]) == ("auto_width", {"share": 0.1})


def test_the_request_decides_before_the_size_policy(served: Served, name: str) -> None:
    served.model(name, size_policy="auto")
    assert served.submit(name, "learn", labels=["1", "2", "3"], resize=None)["followed_by"] is None
    pruned = served.submit(name, "learn", labels=["4"], resize={"policy": "prune"})
    assert follower(served, pruned)["strategy"] == "prune_units"
    assert served.submit(name, "forget", labels=["1"], resize=None)["followed_by"] is None


def test_without_a_size_policy_nothing_is_resized_by_itself(served: Served, name: str) -> None:
    assert served.model(name)["size_policy"] == "fixed"
    for fields in ({}, {"resize": None}):
        label = "1" if fields else "2"
        assert served.submit(name, "learn", labels=[label], **fields)["followed_by"] is None


def test_the_size_policy_resizes_nothing_where_the_main_network_stays_as_it_is(
    served: Served, name: str
) -> None:
    served.model(name, size_policy="auto")
    served.done(name, "learn", labels=["1"], resize=None)
    temporary = served.submit(name, "learn", labels=["2", "3"], retention="temporary")
    assert temporary["followed_by"] is None
    served.worker.work(temporary["id"])
    assert served.submit(name, "forget", labels=["2"])["followed_by"] is None
    merged = served.submit(name, "learn", labels=["3"])
    assert follower(served, merged)["operation"] == "resize", "its network is merged into the main one"


def test_the_size_policy_resizes_nothing_after_the_last_permanent_label(served: Served, name: str) -> None:
    served.model(name, size_policy="auto")
    served.done(name, "learn", labels=["1"], resize=None)
    assert served.submit(name, "forget", labels=["1"])["followed_by"] is None


def test_labels_that_expire_are_forgotten_as_by_a_request(served: Served, name: str) -> None:
    served.model(name, size_policy="auto")
    served.done(name, "learn", labels=["1"], resize=None)
    let_time_pass(served, learn(served, name, "2"))
    [forget] = forgets(served, name)
    assert (forget["strategy"], forget["followed_by"]) == ("drop", None)


def test_a_forget_that_is_done_makes_no_resize(served: Served, name: str) -> None:
    served.model(name, size_policy="auto")
    served.done(name, "learn", labels=["1", "2"], resize=None)
    first = served.done(name, "forget", labels=["1"], resize=None)
    path = f"/v1/models/{name}/forget"
    answer = served.http.post(path, json={"labels": ["1"]})
    assert (answer.status_code, answer.json()["id"]) == (200, first.job_id)
    refused = served.http.post(path, json={"labels": ["1"], "resize": PRUNE})
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_follow")
    assert operations(served, name) == ["learn", "forget"]


def test_a_resize_after_a_forget_needs_the_scope_learn(locked: Served) -> None:
    locked.model("sized", size_policy="auto")
    locked.done("sized", "learn", labels=["1", "2", "3"], resize=None)

    def forget(*scopes: Any, **body: Any) -> Any:
        with as_holder(locked, new_key(locked, *scopes)) as holder:
            return holder.post("/v1/models/sized/forget", json=body)

    assert forget("forget", labels=["1"], resize=PRUNE).status_code == 403
    assert forget("forget", "learn", labels=["1"], resize=PRUNE).status_code == 202
    of_the_model = forget("forget", labels=["2"])
    assert of_the_model.status_code == 202
    assert of_the_model.json()["followed_by"] is not None, "the model's owner decided that"


def test_both_jobs_need_a_place_in_the_queue(small: Served) -> None:
    small.model("pairs")
    small.done("pairs", "learn", labels=["1"])
    small.submit("pairs", "resize", policy="prune")  # of two places
    body = {"labels": ["2"], "resize": PRUNE}
    refused = small.http.post("/v1/models/pairs/learn", json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    small.submit("pairs", "learn", labels=["2"])


def test_while_the_disk_is_full_a_model_is_not_resized_after_a_forget(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path)) as served:
        served.model("full", size_policy="auto")
        served.done("full", "learn", labels=["1", "2", "3"], resize=None)
        failed = served.submit("full", "forget", labels=["3"], resize=PRUNE)
        served.worker.fail(served.worker.claim(failed["id"]))
    with serving(Settings(home=tmp_path, reserve_bytes=1 << 60)) as served:
        assert served.submit("full", "forget", labels=["1"])["followed_by"] is None
        retried = served.http.post(f"/v1/jobs/{failed['id']}/retry")
        assert (retried.status_code, retried.json()["followed_by"]) == (202, None)
        body = {"labels": ["2"], "resize": PRUNE}
        refused = served.http.post("/v1/models/full/forget", json=body)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
