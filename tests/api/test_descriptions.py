"""Descriptions and metadata of models and versions: merge patches, and lists filtered and ordered by them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.api.serving import Served


def walk(served: Served, path: str) -> list[dict[str, Any]]:
    """Every item of a list, by following its links."""
    found: list[dict[str, Any]] = []
    while path:
        page = served.http.get(path)
        assert page.is_success, page.text
        found += page.json()["data"]
        path = page.links["next"]["url"] if page.json()["has_more"] else ""
    return found


@pytest.fixture(params=["model", "version"])
def path(request: pytest.FixtureRequest, served: Served, name: str) -> str:
    """The path of a model, or of a version of it."""
    served.model(name)
    served.done(name, "learn", labels=["1"])
    return f"/v1/models/{name}" + ("/versions/1" if request.param == "version" else "")


def test_a_patch_sets_replaces_and_removes_what_it_names(served: Served, path: str) -> None:
    before = served.http.get(path)
    assert (before.json()["description"], before.json()["metadata"]) == (None, {})
    body: dict[str, Any] = {"description": "two\nlines", "metadata": {"team": "vision", "run": "7"}}
    patched = served.http.patch(path, json=body)
    assert patched.status_code == 200
    assert {name: patched.json()[name] for name in body} == body
    after = served.http.get(path)
    assert after.json() == patched.json()
    assert after.headers["ETag"] != before.headers["ETag"]
    merged = served.http.patch(path, json={"metadata": {"run": None, "none": None, "team": "audio"}})
    assert (merged.json()["description"], merged.json()["metadata"]) == ("two\nlines", {"team": "audio"})
    cleared = served.http.patch(path, json={"description": None, "metadata": None})
    assert (cleared.json()["description"], cleared.json()["metadata"]) == (None, {})
    assert served.http.patch(path, json={}).json() == cleared.json()


def test_a_patch_may_say_that_it_is_a_merge_patch(served: Served, path: str) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    assert served.http.patch(path, content=b'{"description": "it"}', headers=headers).status_code == 200
    assert (
        served.http.patch(path, content=b"description=it", headers={"Content-Type": "text/plain"}).status_code
        == 415
    )
    refused = served.http.post(f"{path.split('/versions')[0]}/learn", content=b"{}", headers=headers)
    assert refused.status_code == 415, "a POST is no patch"


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"description": "a" * 2001}, "out_of_range", "/description"),
        ({"description": " \n"}, "invalid_text", "/description"),
        ({"description": "a\x00b"}, "invalid_text", "/description"),
        ({"metadata": {"": "a"}}, "out_of_range", "/metadata"),
        ({"metadata": {"a" * 65: None}}, "out_of_range", "/metadata"),
        ({"metadata": {"a": "b" * 513}}, "out_of_range", "/metadata"),
        ({"metadata": {"a": 3}}, "wrong_type", "/metadata/a"),
        ({"metadata": {"a": "\n"}}, "invalid_text", "/metadata"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "out_of_range", "/metadata"),
        ({"name": "another"}, "unknown_field", "/name"),
    ],
)
def test_a_bad_patch_changes_nothing(
    served: Served, path: str, body: dict[str, Any], code: str, pointer: str
) -> None:
    before = served.http.get(path).json()
    refused = served.http.patch(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert served.http.get(path).json() == before


def test_sixteen_keys_are_the_most_after_several_patches(served: Served, path: str) -> None:
    served.http.patch(path, json={"metadata": {str(number): "x" for number in range(16)}}).raise_for_status()
    assert served.http.patch(path, json={"metadata": {"16": "x"}}).json()["code"] == "out_of_range"
    swapped = served.http.patch(path, json={"metadata": {"16": "x", "0": None}})
    assert len(swapped.json()["metadata"]) == 16


def test_patches_at_the_same_time_are_all_kept(served: Served, path: str) -> None:
    def add(number: int) -> int:
        body = {"metadata": {str(number): "x"}}
        return httpx2.patch(served.address + path, json=body, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add, range(8))) == {200}
    assert len(served.http.get(path).json()["metadata"]) == 8


def test_a_new_model_has_the_metadata_of_its_request(served: Served, name: str) -> None:
    created = served.model(name, description="first", metadata={"team": "vision"})
    assert (created["description"], created["metadata"]) == ("first", {"team": "vision"})
    entries = served.http.get("/v1/audit?limit=2").json()["data"]
    served.http.patch(f"/v1/models/{name}", json={"metadata": {"secret": "text"}})
    newest = served.http.get("/v1/audit?limit=1").json()["data"][0]
    assert (newest["action"], newest["details"]) == ("model.update", {"fields": ["metadata"]})
    assert newest["sequence"] > entries[0]["sequence"]


def test_models_are_listed_in_both_orders_by_time_and_by_name(served: Served, name: str) -> None:
    names = [f"{name}-{suffix}" for suffix in ("c", "a", "e", "b", "d")]
    for one in names:
        served.model(one)
    listing = f"/v1/models?name_prefix={name}-&limit=2"

    def listed(query: str) -> list[str]:
        return [model["name"] for model in walk(served, listing + query)]

    assert listed("") == listed("&order=desc&order_by=created_at") == names[::-1]
    assert listed("&order=asc") == names
    assert listed("&order_by=name&order=asc") == sorted(names)
    assert listed("&order_by=name") == sorted(names)[::-1]


def test_a_page_goes_on_after_a_model_that_was_deleted_meanwhile(served: Served, name: str) -> None:
    for suffix in "abcd":
        served.model(f"{name}-{suffix}")
    first = served.http.get(f"/v1/models?name_prefix={name}-&limit=2&order_by=name&order=asc")
    served.http.delete(f"/v1/models/{name}-b").raise_for_status()
    rest = served.http.get(first.links["next"]["url"]).json()["data"]
    assert [model["name"] for model in rest] == [f"{name}-c", f"{name}-d"]
    unknown = served.http.get("/v1/models?order_by=name&after=mdl_nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_cursor")


def test_models_are_found_by_prefix_dataset_and_metadata(served: Served, name: str) -> None:
    served.model(f"{name}-1", metadata={"team": "vision", "a.b": "1"})
    served.model(f"{name}-2", metadata={"team": "vision"}, dataset="letters")
    served.model(f"{name}-3", metadata={"team": 'au"dio', 'k"$.e y': "é"})
    served.model(f"{name}_3")

    def found(query: dict[str, str]) -> list[str]:
        answer = served.http.get("/v1/models", params={"order_by": "name", "order": "asc", **query})
        return [model["name"].removeprefix(name) for model in answer.json()["data"]]

    own = {"name_prefix": f"{name}-"}
    assert found(own) == ["-1", "-2", "-3"]
    assert found({"name_prefix": f"{name}_"}) == ["_3"], "an underscore stands for itself"
    assert found(own | {"dataset": "letters"}) == ["-2"]
    assert found(own | {"metadata.team": "vision"}) == ["-1", "-2"]
    assert found(own | {"metadata.team": "vision", "metadata.a.b": "1"}) == ["-1"]
    assert found(own | {"metadata.team": 'au"dio', 'metadata.k"$.e y': "é"}) == ["-3"]
    assert found(own | {"metadata.team": "none"}) == []
    for bad in ("metadata.=1", "metadata=1", "order=up", "order_by=size", "state=usable"):
        assert served.http.get(f"/v1/models?{bad}").status_code == 422, bad


def test_versions_are_found_by_state_operation_and_metadata(served: Served, name: str) -> None:
    served.model(name)
    for label in ("1", "2", "3"):
        served.done(name, "learn", labels=[label])
    served.done(name, "forget", labels=["2"])
    served.http.patch(f"/v1/models/{name}/versions/head", json={"metadata": {"kind": "good"}})

    def found(query: str) -> list[int]:
        return [version["number"] for version in walk(served, f"/v1/models/{name}/versions?limit=1{query}")]

    assert found("") == [4, 3, 2, 1]
    assert found("&order=asc") == [1, 2, 3, 4]
    assert found("&state=usable&order=asc") == [1, 4]
    assert found("&state=revoked") == [3, 2]
    assert found("&state=purged") == []
    assert found("&operation=forget") == [4]
    assert found("&metadata.kind=good") == [4]
    served.done(name, "forget", labels=["2"], guarantee="exact", purge=True)
    served.sweep()
    assert found("&state=purged") == [4, 3, 2]


def test_the_size_policy_and_the_queue_of_a_model_can_be_changed_and_not_removed(
    served: Served, name: str
) -> None:
    served.model(name)
    path = f"/v1/models/{name}"
    changed = served.http.patch(path, json={"size_policy": "auto", "queue": "large"}).json()
    assert (changed["size_policy"], changed["queue"], changed["description"]) == ("auto", "large", None)
    unchanged = served.http.patch(path, json={"description": "one"}).json()
    assert (unchanged["size_policy"], unchanged["queue"]) == ("auto", "large")
    job = served.submit(name, "learn", labels=["1"])
    assert (job["queue"], job["followed_by"] is not None) == ("large", True)
    for body in ({"size_policy": None}, {"queue": None}, {"queue": "no spaces"}, {"size_policy": "grow"}):
        assert served.http.patch(path, json=body).status_code == 422
    version = served.http.patch(f"{path}/versions/1", json={"queue": "large"})
    assert version.status_code in (404, 422), "a version has no queue"
