"""The records of samples: listed by model, version and label, and deleted."""

import pytest

from tests.api.serving import Served


@pytest.fixture
def drawn(served: Served, name: str) -> dict[str, str]:
    """{what a sample is of: its id}, of a model with two versions."""
    served.model(name)
    ids = {}
    for number, labels, body in (
        (1, ["1"], {"labels": ["1"]}),
        (2, ["1", 'a"b'], {"labels": ["2"], "as": {"2": 'a"b'}}),
    ):
        served.done(name, "learn", **body)
        for chosen in labels:
            answer = served.http.post(f"/v1/models/{name}/samples", json={"labels": [chosen]})
            ids[f"{number} {chosen}"] = answer.headers["X-Sample-Id"]
    return ids


def test_samples_are_listed_and_filtered(served: Served, name: str, drawn: dict[str, str]) -> None:
    def listed(**query: str) -> list[str]:
        found: list[str] = []
        answer = served.http.get("/v1/samples", params={"model": name, "limit": "1", **query})
        while True:
            assert answer.is_success, answer.text
            found += [sample["id"] for sample in answer.json()["data"]]
            if not answer.json()["has_more"]:
                return found
            answer = served.http.get(answer.links["next"]["url"])

    assert listed() == list(drawn.values())[::-1]
    assert listed(version="1") == [drawn["1 1"]]
    assert listed(version="head") == [drawn['2 a"b'], drawn["2 1"]]
    assert listed(label="1") == [drawn["2 1"], drawn["1 1"]]
    assert listed(label='a"b') == [drawn['2 a"b']]
    assert listed(label="3") == []
    assert drawn["1 1"] in [one["id"] for one in served.http.get("/v1/samples?limit=100").json()["data"]]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("model=nobody", 404, "model_not_found"),
        ("version=1", 422, "required"),
        ("model={m}&version=9", 404, "version_not_found"),
        ("model={m}&version=0", 422, "out_of_range"),
        ("models={m}", 422, "unknown_field"),
        ("label=%2F", 422, "invalid_name"),
    ],
)
def test_a_bad_filter_of_samples_is_refused(
    served: Served, name: str, query: str, status: int, code: str
) -> None:
    served.model(name)
    refused = served.http.get(f"/v1/samples?{query.replace('{m}', name)}")
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_deleted_sample_is_found_by_nobody(served: Served, name: str, drawn: dict[str, str]) -> None:
    sample = drawn["1 1"]
    assert served.http.delete(f"/v1/samples/{sample}").status_code == 204
    for method, path in (("GET", ""), ("GET", "/images"), ("DELETE", "")):
        answer = served.http.request(method, f"/v1/samples/{sample}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "sample_not_found")
    left = served.http.get("/v1/samples", params={"model": name}).json()["data"]
    assert sample not in [one["id"] for one in left]


def test_a_repeated_request_for_a_deleted_sample_says_that_it_is_gone(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    key = {"Idempotency-Key": f"sample-{name}"}
    path = f"/v1/models/{name}/samples"
    sample = served.http.post(path, json={"labels": ["1"]}, headers=key).headers["X-Sample-Id"]
    served.http.delete(f"/v1/samples/{sample}").raise_for_status()
    gone = served.http.post(path, json={"labels": ["1"]}, headers=key)
    assert (gone.status_code, gone.json()["code"]) == (410, "resource_gone")


def test_samples_of_a_deleted_model_are_not_listed(served: Served, name: str, drawn: dict[str, str]) -> None:
    served.http.delete(f"/v1/models/{name}").raise_for_status()
    listed = [one["id"] for one in served.http.get("/v1/samples?limit=100").json()["data"]]
    assert not set(drawn.values()) & set(listed)
