"""Models over HTTP: how they are created, found and listed, and which requests their labels allow."""

from typing import Any

import httpx2
import pytest

from tests.api.serving import Served


def statuses(served: Served, model: str) -> dict[str, str]:
    labels = served.http.get(f"/v1/models/{model}").json()["labels"]
    return {label["name"]: label["status"] for label in labels}


def test_a_created_model_shows_every_default(served: Served, name: str) -> None:
    answer = served.http.post("/v1/models", json={"name": name, "dataset": "mnist"})
    created = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/models/{name}" == created["links"]["self"]
    assert created["id"].startswith("mdl_")
    assert created["network"] == {"architecture": "cvae", "latent": 8, "widths": [512, 256]}
    assert (created["object"], created["seed"], created["head"]) == ("model", 0, None)
    assert {label["status"] for label in created["labels"]} == {"absent"}
    assert created["created_at"].endswith("Z")


def test_a_model_is_found_by_name_and_by_id(served: Served, name: str) -> None:
    created = served.model(name)
    assert served.http.get(f"/v1/models/{name}").json() == created
    assert served.http.get(f"/v1/models/{created['id']}").json() == created


def test_following_next_leads_to_every_model(served: Served, name: str) -> None:
    created = [served.model(f"{name}-{i}")["id"] for i in range(5)]
    found: list[str] = []
    path: str | None = "/v1/models?limit=2"
    while path:
        answer = served.http.get(path)
        page = answer.json()
        assert page["object"] == "list"
        assert len(page["data"]) <= 2
        found += [model["id"] for model in page["data"]]
        path = answer.links["next"]["url"] if page["has_more"] else None
        assert (page["next"] is None) == (not page["has_more"]) == ("Link" not in answer.headers)
    assert [one for one in found if one in created] == created[::-1], "newest first, each once"
    assert len(found) == len(set(found)) == served.counts()["models"]


def test_labels_are_absent_then_learned_then_forgotten_then_learned_again(served: Served, name: str) -> None:
    served.model(name)
    assert set(statuses(served, name).values()) == {"absent"}
    served.done(name, "learn", labels=["1", "2"])
    served.done(name, "learn", labels=["3"])
    forgetting = served.done(name, "forget", labels=["2"])
    assert statuses(served, name) == dict.fromkeys("0456789", "absent") | {
        "1": "permanent",
        "2": "forgotten",
        "3": "permanent",
    }
    labels = {label["name"]: label for label in served.http.get(f"/v1/models/{name}").json()["labels"]}
    assert list(labels) == list("0123456789"), "in the dataset's order"
    assert labels["2"]["forgotten_by"] == forgetting.job_id
    assert (labels["2"]["learned_version"], labels["2"]["forgotten_version"]) == (1, 3)
    served.done(name, "learn", labels=["2"])
    relearned = {label["name"]: label for label in served.http.get(f"/v1/models/{name}").json()["labels"]}
    assert (relearned["2"]["status"], relearned["2"]["generation"]) == ("permanent", 2)


def test_a_forgotten_label_is_learned_again_as_a_temporary_one(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    served.done(name, "forget", labels=["2"])
    again = served.submit(name, "learn", labels=["2"], retention="temporary")
    assert again["strategy"] == "isolated"
    version = served.worker.work(again["id"])
    label = served.http.get(f"/v1/models/{name}").json()["labels"][2]
    assert (label["name"], label["status"], label["generation"]) == ("2", "temporary", 2)
    assert (label["learned_version"], label["forgotten_by"]) == (version.number, None)
    dropped = served.submit(name, "forget", labels=["2"])
    assert dropped["strategy"] == "drop"
    assert dropped["guarantee"] == "approximate", "the main network had learned it before"


def test_a_permanent_label_is_forgotten_exactly_by_a_retraining(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    job = served.submit(name, "forget", labels=["2"], guarantee="exact")
    assert (job["strategy"], job["guarantee"]) == ("retrain", "exact")
    served.worker.work(job["id"])
    ended = served.http.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["guarantee"], ended["output_version"]) == ("succeeded", "exact", 2)
    assert served.http.get(f"/v1/models/{name}/versions/2").json()["guarantee"] == "exact"
    assert statuses(served, name)["2"] == "forgotten"
    body = {"labels": ["2"], "guarantee": "exact"}
    again = served.http.post(f"/v1/models/{name}/forget", json=body)
    assert (again.status_code, again.json()["id"]) == (200, job["id"]), "no less was given than is asked for"


def test_a_label_of_another_dataset_is_listed_last(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["capital A"], dataset="letters")
    last = served.http.get(f"/v1/models/{name}").json()["labels"][-1]
    assert (last["name"], last["dataset"], last["status"]) == ("capital A", "letters", "permanent")
    assert served.http.get(f"/v1/models/{name}/versions/1/images/capital%20A/0.png").status_code == 200


def test_a_label_goes_by_the_name_it_was_learned_as(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    body = {"labels": ["a", "capital A"], "dataset": "letters", "as": {"a": "1st letter"}}
    job = served.submit(name, "learn", **body)
    assert (job["labels"], job["renamed"]) == (["1st letter", "capital A"], {"1st letter": "a"})
    assert served.worker.work(job["id"]).labels == {"1": 0, "2": 1, "1st letter": 2, "capital A": 3}
    labels = {label["name"]: label for label in served.http.get(f"/v1/models/{name}").json()["labels"]}
    assert {one: (labels[one]["dataset"], labels[one]["source"]) for one in ("1", "1st letter", "3")} == {
        "1": ("mnist", "1"),
        "1st letter": ("letters", "a"),
        "3": ("mnist", "3"),
    }
    served.done(name, "forget", labels=["1st letter"])
    assert statuses(served, name)["1st letter"] == "forgotten"


def test_two_labels_may_swap_their_names(served: Served, name: str) -> None:
    served.model(name)
    job = served.submit(name, "learn", labels=["1", "2"], **{"as": {"1": "2", "2": "1"}})
    assert (job["labels"], job["renamed"]) == (["2", "1"], {"2": "1", "1": "2"})


def test_the_same_class_may_be_learned_twice_under_two_names(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    served.done(name, "learn", labels=["1"], **{"as": {"1": "one again"}})
    assert statuses(served, name)["one again"] == "permanent"


def test_a_name_that_is_learned_again_from_another_dataset_has_its_origin_there(
    served: Served, name: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"], **{"as": {"1": "a"}})
    served.done(name, "forget", labels=["a"])
    served.done(name, "learn", labels=["a"], dataset="letters")
    label = next(one for one in served.http.get(f"/v1/models/{name}").json()["labels"] if one["name"] == "a")
    assert (label["dataset"], label["source"], label["generation"]) == ("letters", "a", 2)


@pytest.mark.parametrize(
    ("status", "requested", "strategy"),
    [
        ("absent", "permanent", "replay_ewc"),
        ("absent", "temporary", "isolated"),
        ("permanent", "forget", "surrogate"),
        ("temporary", "permanent", "merge"),
        ("temporary", "forget", "drop"),
        ("forgotten", "permanent", "replay_ewc"),
        ("forgotten", "temporary", "isolated"),
    ],
)
def test_the_status_of_a_label_decides_how_a_request_is_carried_out(
    served: Served, name: str, status: str, requested: str, strategy: str
) -> None:
    with_label_1(served, name, status)
    before = served.counts()
    answer = request(served, name, requested)
    assert (answer.status_code, answer.json()["strategy"]) == (202, strategy), answer.text
    assert served.counts()["jobs"] == before["jobs"] + 1
    served.worker.work(answer.json()["id"])
    assert statuses(served, name)["1"] == ("forgotten" if requested == "forget" else requested)


@pytest.mark.parametrize(
    ("status", "requested", "refusal"),
    [
        ("absent", "forget", (404, "unknown_label")),
        ("permanent", "permanent", (409, "label_already_learned")),
        ("permanent", "temporary", (409, "label_already_learned")),
        ("temporary", "temporary", (409, "label_already_learned")),
    ],
)
def test_the_status_of_a_label_decides_which_request_is_refused(
    served: Served, name: str, status: str, requested: str, refusal: tuple[int, str]
) -> None:
    with_label_1(served, name, status)
    before = served.counts()
    answer = request(served, name, requested)
    assert (answer.status_code, answer.json()["code"]) == refusal, answer.text
    assert served.counts() == before


def test_forgetting_a_forgotten_label_answers_with_the_job_that_forgot_it(served: Served, name: str) -> None:
    forgotten_by = with_label_1(served, name, "forgotten")
    before = served.counts()
    answer = request(served, name, "forget")
    assert (answer.status_code, answer.json()["id"]) == (200, forgotten_by)
    assert served.counts() == {**before, "audit_log": before["audit_log"] + 1}


def with_label_1(served: Served, name: str, status: str) -> str:
    """Create a model that holds 9, and 1 with this status; return the job that gave 1 the status."""
    served.model(name)
    last = served.done(name, "learn", labels=["9"])
    if status != "absent":
        retention = "temporary" if status == "temporary" else "permanent"
        last = served.done(name, "learn", labels=["1"], retention=retention)
    if status == "forgotten":
        last = served.done(name, "forget", labels=["1"])
    assert statuses(served, name)["1"] == status
    return last.job_id


def request(served: Served, name: str, what: str) -> httpx2.Response:
    """Request to forget label 1, or to learn it with this retention."""
    if what == "forget":
        return served.http.post(f"/v1/models/{name}/forget", json={"labels": ["1"]})
    return served.http.post(f"/v1/models/{name}/learn", json={"labels": ["1"], "retention": what})


def test_a_temporary_label_is_drawn_from_its_own_file(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["9"])
    served.done(name, "learn", labels=["a"], dataset="letters", retention="temporary")
    version = served.http.get(f"/v1/models/{name}/versions/2").json()
    assert version["labels"] == ["9", "a"]
    assert "isolated-a-decoder.onnx" in version["files"]
    assert served.http.get(version["files"]["isolated-a-decoder.onnx"]["href"]).status_code == 200
    assert served.http.get(f"/v1/models/{name}/versions/2/images/a/0.png").status_code == 200
    merged = served.submit(name, "learn", labels=["a"])
    assert (merged["strategy"], merged["labels"]) == ("merge", ["a"]), "the dataset is not needed"
    served.worker.work(merged["id"])
    label = next(one for one in served.http.get(f"/v1/models/{name}").json()["labels"] if one["name"] == "a")
    assert (label["status"], label["dataset"], label["generation"]) == ("permanent", "letters", 1)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("learn", {"labels": ["1"], "strategy": "isolated"}),
        ("learn", {"labels": ["2"], "strategy": "replay", "retention": "temporary"}),
        ("learn", {"labels": ["2"], "strategy": "merge"}),
        ("forget", {"labels": ["1"], "strategy": "surrogate"}),
        ("forget", {"labels": ["1", "9"], "strategy": "drop"}),
    ],
)
def test_a_strategy_for_another_retention_is_refused(
    served: Served, name: str, operation: str, body: dict[str, Any]
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["9"])
    served.done(name, "learn", labels=["1"], retention="temporary")
    before = served.counts()
    answer = served.http.post(f"/v1/models/{name}/{operation}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/strategy"
    assert served.counts() == before


def test_a_temporary_label_goes_by_the_name_it_was_learned_as(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["2"])
    body = {"labels": ["a"], "dataset": "letters", "as": {"a": "first"}}
    served.done(name, "learn", retention="temporary", **body)
    before = served.http.get(f"/v1/models/{name}").json()["labels"][-1]
    assert (before["name"], before["source"], before["status"]) == ("first", "a", "temporary")
    refused = served.http.post(f"/v1/models/{name}/learn", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "label_already_named")
    served.done(name, "learn", labels=["first"])
    after = served.http.get(f"/v1/models/{name}").json()["labels"][-1]
    assert (after["name"], after["dataset"], after["status"]) == ("first", "letters", "permanent")


def test_a_model_of_temporary_labels_only_cannot_be_resized(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"], retention="temporary")
    answer = served.http.post(f"/v1/models/{name}/resize", json={"policy": "prune"})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_permanent")
