"""Every list has pages: the header Link leads from one to the next, and a cursor that is none is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.receipts.signing import rotate
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz, doodles


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that has three of everything that a list has."""
    home: Path = tmp_path_factory.mktemp("home")
    with serving(Settings(home=home, webhooks_to_private_addresses=True)) as served:
        for name in ("a", "b", "c"):
            served.model(name)
            served.http.post("/v1/projects", json={"name": f"project-{name}"}).raise_for_status()
            served.http.post("/v1/keys", json={"name": name, "scopes": ["read"]}).raise_for_status()
            upload(served, f"dataset-{name}")
            rotate(served.settings.keys)
        for label in ("1", "2", "3"):
            served.done("a", "learn", labels=[label])
            body = {"labels": [label], "seed": 1}
            served.http.post("/v1/models/a/samples", json=body).raise_for_status()
        for seed in range(3):
            body = {"count": 3, "seed": seed, "shard_images": 1}
            export = served.http.post("/v1/models/a/exports", json=body).json()
            served.worker.export(export["id"])
        for alias in ("first", "second", "third"):
            served.http.put(f"/v1/models/a/aliases/{alias}", json={"version": 1}).raise_for_status()
        for version in (2, 3):
            body = {"version": version}
            moved = served.http.put("/v1/models/a/aliases/first", json=body, headers={"If-Match": "*"})
            moved.raise_for_status()
        for path in ("x", "y", "z"):
            body = {"url": f"http://127.0.0.1:9/{path}", "types": ["job.finished"]}
            served.http.post("/v1/webhooks", json=body).raise_for_status()
        webhook = served.http.get("/v1/webhooks").json()["data"][0]["id"]
        for _ in range(3):
            served.http.post(f"/v1/webhooks/{webhook}/test").raise_for_status()
        yield served


def upload(served: Served, name: str) -> None:
    headers = {"Content-Type": "application/zip"}
    served.http.put(f"/v1/datasets/{name}", content=as_npz(doodles()), headers=headers).raise_for_status()


def place_of(served: Served, path: str) -> str:
    """Return the path with the names of what the service has."""
    names = {
        "model": "a",
        "number": "3",
        "alias": "first",
        "export": served.http.get("/v1/exports").json()["data"][0]["id"],
        "job": served.http.get("/v1/jobs").json()["data"][0]["id"],
        "webhook": served.http.get("/v1/webhooks").json()["data"][0]["id"],
    }
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], path)


def lists(served: Served) -> list[str]:
    """Return the paths of all operations that take `after`."""
    paths: dict[str, Any] = served.http.get("/openapi.json").json()["paths"]
    return [
        path
        for path, operations in paths.items()
        if any(one["name"] == "after" for one in operations.get("get", {}).get("parameters", ()))
    ]


def test_every_list_is_read_page_by_page_by_its_links(held: Served) -> None:
    found = lists(held)
    assert len(found) >= 14
    for path in found:
        place = place_of(held, path)
        whole = held.http.get(place, params={"limit": 100}).json()["data"]
        assert len(whole) >= 3, path
        items, following = [], f"{place}?limit=1"
        while following:
            answer = held.http.get(following)
            page = answer.json()
            items += page["data"]
            following = answer.links["next"]["url"] if "Link" in answer.headers else ""
            assert page["has_more"] == bool(following), path
            assert page["next"] is None or f"after={page['next']}" in following, path
        assert items == whole, path


def test_no_list_takes_a_cursor_that_is_none(held: Served) -> None:
    for path in lists(held):
        problem = held.http.get(place_of(held, path), params={"after": "_x"}).json()
        assert (problem["status"], problem["code"]) == (422, "invalid_cursor"), path
        assert problem["errors"][0]["pointer"] == "/query/after", path


def test_a_list_goes_on_where_an_item_was_that_is_deleted(held: Served) -> None:
    upload(held, "dataset-0")
    for path, key, place in (("samples", "id", 0), ("webhooks", "id", 0), ("datasets", "name", 2)):
        first, second = held.http.get(f"/v1/{path}").json()["data"][place : place + 2]
        held.http.delete(f"/v1/{path}/{first[key]}").raise_for_status()
        assert held.http.get(f"/v1/{path}", params={"after": first[key]}).json()["data"][0] == second
