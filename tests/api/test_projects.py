"""Projects: what one of them holds is not there for the keys of another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.registry import projects, webhooks
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.api.test_access import OPEN, ROUTES, as_holder, key_id, methods, new_key
from tests.conftest import DATABASES, own_migrated_database
from tests.requests.archives import as_npz, doodles

BODIES: dict[str, dict[str, Any]] = {
    "/v1/models": {"name": "other", "dataset": "drawings"},
    "/v1/models/{model}/learn": {"labels": ["1"], "dataset": "mnist"},
    "/v1/models/{model}/forget": {"labels": ["1"]},
    "/v1/models/{model}/resize": {"policy": "prune"},
    "/v1/models/{model}/evaluate": {},
    "/v1/models/{model}/samples": {"labels": ["1"]},
    "/v1/models/{model}/exports": {"count": 1},
    "/v1/models/{model}": {"description": "mine"},
    "/v1/models/{model}/versions/{number}": {"description": "mine"},
    "/v1/models/{model}/aliases/{alias}": {"version": 1},
    "/v1/models/{model}/aliases/{alias}/rollback": {},
    "/v1/keys": {"name": "mine", "scopes": ["read"], "project": "first"},
    "/v1/projects": {"name": "third"},
    "/v1/webhooks": {"url": "https://127.0.0.1/", "types": ["job.finished"]},  # well-formed, and refused
}
"""A good body for each route that takes one. A new route needs an entry, or the walk below fails."""


@pytest.fixture(scope="module", params=DATABASES)
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that requires a key, with the projects `first` and `second`; its client works in `first`."""
    home: Path = tmp_path_factory.mktemp("home")
    with (
        own_migrated_database(request.param, home, request) as url,
        serving(Settings(home=home, database_url=url, auth="on")) as served,
    ):
        served.http.headers["Authorization"] = f"Bearer {new_key(served)}"
        for name in ("first", "second"):
            assert served.http.post("/v1/projects", json={"name": name}).status_code == 201
        served.http.headers["Palimpsest-Project"] = "first"
        yield served


@pytest.fixture(scope="module")
def things(locked: Served) -> dict[str, str]:
    """Something of everything, in the project `first`: {parameter of a path: value}."""
    upload(locked.http, "drawings", ("apple", "pear"))
    locked.model("orchard", dataset="drawings")
    locked.done("orchard", "learn", labels=["apple", "pear"])
    job = locked.submit("orchard", "forget", labels=["pear"])["id"]
    locked.worker.work(job)
    sample = locked.http.post("/v1/models/orchard/samples", json={"labels": ["apple"]})
    export = locked.http.post("/v1/models/orchard/exports", json={"count": 3}).json()["id"]
    locked.worker.export(export)
    locked.http.put("/v1/models/orchard/aliases/production", json={"version": 2}).raise_for_status()
    with locked.worker.database.transaction() as session:  # a client may name no address of this machine
        project = projects.find(session, "first").id
        webhook = webhooks.create(
            session, project=project, url="https://a.example/", types=["job.finished"], created_by=None
        )
        delivery = webhooks.queue_ping(session, webhook)
    return {
        "webhook": webhook.id,
        "delivery": delivery.id,
        "model": "orchard",
        "number": "2",
        "name": "decoder.onnx",
        "label": "apple",
        "seed": "0",
        "index": "0",
        "alias": "production",
        "job": job,
        "network": "candidate",
        "sample": sample.headers["X-Sample-Id"],
        "export": export,
        "dataset": "drawings",
        "key": key_id(new_key(locked, project="first")),
        "project": "first",
    }


def upload(http: httpx2.Client, name: str, labels: tuple[str, ...]) -> None:
    pixels = list(doodles().values())
    content = as_npz(dict(zip(labels, pixels, strict=True)))
    answer = http.put(f"/v1/datasets/{name}", content=content, headers={"Content-Type": "application/zip"})
    assert answer.is_success, answer.text


def test_nothing_of_a_project_is_there_for_a_key_of_another(locked: Served, things: dict[str, str]) -> None:
    model_id = locked.http.get("/v1/models/orchard").json()["id"]
    marks = ("orchard", "apple", "drawings", "first", *things.values(), model_id)
    walked = 0
    key = new_key(locked, project="second")
    before = locked.counts()
    with as_holder(locked, key) as outsider:
        for route in ROUTES:
            for method in methods(route):
                if f"{method} {route.path}" in OPEN:
                    continue
                path = route.path
                for name in route.param_convertors:
                    path = path.replace(f"{{{name}}}", things[name])
                body = BODIES[route.path] if method != "GET" and route.body_field else None
                query = "?from=1&to=2" if path.endswith("/compare") else ""
                answer = outsider.request(method, path + query, json=body)
                walked += 1
                if route.param_convertors:
                    if (method, route.path) == ("PUT", "/v1/datasets/{dataset}"):
                        continue  # it makes one of that name in the caller's own project: tested below
                    assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"
                    assert model_id not in answer.text
                else:
                    said = answer.text.replace("first page", "").replace(str(answer.request.url), "")
                    own = str(body or {})
                    found = [one for one in marks if len(one) > 1 and one in said and one not in own]
                    assert found == [], f"{method} {path}: {answer.text}"
                    assert answer.status_code < 500
    assert walked > 30
    after = locked.counts()
    assert after == before
    assert locked.http.get("/v1/models/orchard").status_code == 200


def test_the_lists_of_a_project_have_its_own_things_only(locked: Served, things: dict[str, str]) -> None:
    second = new_key(locked, project="second")
    with as_holder(locked, second) as holder:
        for path in ("/v1/models", "/v1/jobs", "/v1/jobs?state=succeeded"):
            assert holder.get(path).json()["data"] == [], path
            assert locked.http.get(path).json()["data"] != [], path
        assert [one["name"] for one in holder.get("/v1/datasets").json()["data"]] == ["mnist", "letters"]
        assert "drawings" in locked.http.get("/v1/catalog").text
        assert "drawings" not in holder.get("/v1/catalog").text
        assert holder.get("/v1/keys?limit=1").json()["data"][0]["id"] == key_id(second)
        assert {one["project"] for one in holder.get("/v1/keys").json()["data"]} == {"second"}
        assert [one["name"] for one in holder.get("/v1/projects").json()["data"]] == ["second"]
        assert holder.get(f"/v1/jobs?after={things['job']}").json()["code"] == "invalid_cursor"


def test_two_projects_may_use_one_name_for_a_model_and_for_a_dataset(
    locked: Served, things: dict[str, str]
) -> None:
    with as_holder(locked, new_key(locked), **{"Palimpsest-Project": "second"}) as other:
        upload(other, "drawings", ("plum", "fig"))
        assert other.get("/v1/datasets/drawings").json()["labels"] == ["fig", "plum"]
        assert locked.http.get("/v1/datasets/drawings").json()["labels"] == ["apple", "pear"]
        created = other.post("/v1/models", json={"name": "orchard", "dataset": "drawings"}).json()
        assert created["id"] != locked.http.get("/v1/models/orchard").json()["id"]
        assert [label["name"] for label in created["labels"]] == ["fig", "plum"]
        assert other.get(f"/v1/models/{created['id']}").status_code == 200
        refused = other.post("/v1/models/orchard/learn", json={"labels": ["apple"]}).json()
        assert refused["code"] == "unknown_label"
        assert other.post("/v1/models/orchard/learn", json={"labels": ["fig"]}).status_code == 202


def test_a_key_of_a_project_names_no_other_and_manages_no_projects(locked: Served) -> None:
    key = new_key(locked, project="second")
    for header, status in (("second", 200), ("first", 404), ("default", 404), ("prj_default", 404)):
        with as_holder(locked, key, **{"Palimpsest-Project": header}) as holder:
            assert holder.get("/v1/models").status_code == status
    with as_holder(locked, key) as holder:
        for request in (
            ("POST", "/v1/projects", {"name": "third"}),
            ("DELETE", "/v1/projects/second", None),
            ("POST", "/v1/keys", {"name": "all", "scopes": ["admin"], "deployment": True}),
        ):
            method, path, body = request
            assert holder.request(method, path, json=body).json()["code"] == "insufficient_scope"
        made = holder.post("/v1/keys", json={"name": "own", "scopes": ["read"]}).json()
        assert made["project"] == "second"


def test_a_key_of_the_deployment_works_in_the_default_project_unless_it_names_one(locked: Served) -> None:
    with as_holder(locked, new_key(locked)) as holder:
        holder.post("/v1/models", json={"name": "plain", "dataset": "mnist"})
        assert holder.get("/v1/models/plain").status_code == 200
        assert holder.get("/v1/models/plain", headers={"Palimpsest-Project": "default"}).is_success
        assert holder.get("/v1/models/plain", headers={"Palimpsest-Project": "first"}).status_code == 404


def test_a_project_is_deleted_only_when_it_is_empty(locked: Served) -> None:
    http = locked.http
    assert http.post("/v1/projects", json={"name": "brief"}).status_code == 201
    assert http.post("/v1/projects", json={"name": "brief"}).json()["code"] == "project_exists"
    assert http.post("/v1/projects", json={"name": "prj_x"}).json()["code"] == "invalid_name"
    key = http.post("/v1/keys", json={"name": "k", "scopes": ["read"], "project": "brief"}).json()["id"]
    refused = http.delete("/v1/projects/brief").json()
    assert (refused["status"], refused["code"]) == (409, "project_in_use")
    assert "1 keys" in refused["detail"]
    http.delete(f"/v1/keys/{key}")
    assert http.delete("/v1/projects/brief").status_code == 204
    assert http.get("/v1/projects/brief").status_code == 404
    assert http.get("/v1/models", headers={"Palimpsest-Project": "brief"}).status_code == 404
    for in_use in ("default", "first"):
        assert http.delete(f"/v1/projects/{in_use}").json()["code"] == "project_in_use"
