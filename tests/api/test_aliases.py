"""Aliases over HTTP: set under a condition, rolled back, deleted, and refused into forgotten territory."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from sqlalchemy import exc, text

from tests.api.serving import Served


def address(name: str, alias: str = "production") -> str:
    return f"/v1/models/{name}/aliases/{alias}"


def put(
    served: Served, name: str, version: int | str, alias: str = "production", **more: Any
) -> httpx2.Response:
    """Set the alias, with the ETag that it has now if it exists."""
    found = served.http.get(address(name, alias))
    headers = {"If-Match": found.headers["ETag"]} if found.is_success else {}
    return served.http.put(address(name, alias), json={"version": version, **more}, headers=headers)


def roll_back(served: Served, name: str, **more: Any) -> httpx2.Response:
    return served.http.post(f"{address(name)}/rollback", json={}, **more)


def with_versions(served: Served, name: str, count: int = 3) -> None:
    """Create a model whose versions 1, 2, ... learned the labels 1, 2, ... one after another."""
    served.model(name)
    for number in range(1, count + 1):
        served.done(name, "learn", labels=[str(number)])


def test_an_alias_is_created_read_listed_and_shown_with_its_version(served: Served, name: str) -> None:
    with_versions(served, name)
    created = put(served, name, 2, reason="the first that draws both")
    assert (created.status_code, created.headers["Location"]) == (201, address(name))
    alias = created.json()
    assert (alias["version"], alias["revision"], alias["drawable"]) == (2, 1, True)
    read = served.http.get(address(name))
    assert read.json() == alias
    assert read.headers["ETag"] == created.headers["ETag"]
    assert served.http.get(address(name), headers={"If-None-Match": read.headers["ETag"]}).status_code == 304
    put(served, name, 3, "a.candidate")
    put(served, name, 2, "staging")
    assert served.http.get(f"/v1/models/{name}").json()["aliases"] == {
        "a.candidate": 3,
        "production": 2,
        "staging": 2,
    }
    assert served.http.get(f"/v1/models/{name}/versions/2").json()["aliases"] == ["production", "staging"]
    listed: list[str] = []
    path = f"/v1/models/{name}/aliases?limit=1"
    while path:
        page = served.http.get(path)
        listed += [one["name"] for one in page.json()["data"]]
        path = page.links["next"]["url"] if page.json()["has_more"] else ""
    assert listed == ["a.candidate", "production", "staging"]


def test_an_alias_is_changed_only_by_a_client_that_has_seen_it(served: Served, name: str) -> None:
    with_versions(served, name)
    body, path = {"version": 1}, address(name)
    unseen = served.http.put(path, json=body, headers={"If-Match": '"0"'})
    assert (unseen.status_code, unseen.json()["code"]) == (412, "precondition_failed")
    first = served.http.put(path, json=body, headers={"If-None-Match": "*"})
    assert first.status_code == 201
    exists = served.http.put(path, json=body, headers={"If-None-Match": "*"})
    assert (exists.status_code, exists.json()["code"]) == (412, "precondition_failed")
    missing = served.http.put(path, json=body)
    assert (missing.status_code, missing.json()["code"]) == (428, "precondition_required")
    seen = {"If-Match": first.headers["ETag"]}
    assert served.http.put(path, json={"version": 2}, headers=seen).json()["version"] == 2
    for refused in (
        served.http.put(path, json={"version": 3}, headers=seen),
        served.http.put(path, json={"version": 3}, headers={"If-Match": f"W/{first.headers['ETag']}"}),
        served.http.delete(path, headers=seen),
        roll_back(served, name, headers=seen),
    ):
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert served.http.put(path, json={"version": 1}, headers={"If-Match": "*"}).json()["version"] == 1
    assert served.http.get(path).headers["ETag"] != first.headers["ETag"], "it has moved twice"


def test_the_history_keeps_every_change_also_beyond_a_deletion(served: Served, name: str) -> None:
    with_versions(served, name)
    put(served, name, 1)
    put(served, name, "head", reason="passed the review")
    roll_back(served, name)
    assert served.http.delete(address(name), params={"reason": "unused"}).status_code == 204
    assert served.http.get(address(name)).json()["code"] == "alias_not_found"
    assert put(served, name, 2).status_code == 201
    history = f"{address(name)}/history"
    first = served.http.get(f"{history}?limit=3")
    rest = served.http.get(first.links["next"]["url"]).json()
    changes = [*first.json()["data"], *rest["data"]]
    shown = [(one["number"], one["action"], one["from"], one["to"], one["reason"]) for one in changes]
    assert shown == [
        (5, "set", None, 2, None),
        (4, "delete", 1, None, "unused"),
        (3, "rollback", 3, 1, None),
        (2, "set", 1, 3, "passed the review"),
        (1, "set", None, 1, None),
    ]
    assert changes[2]["restored"] == 1
    assert roll_back(served, name).json()["code"] == "no_earlier_version", "not beyond the deletion"
    assert served.http.get(f"{address(name, 'other')}/history").status_code == 404
    actions = [one["action"] for one in served.http.get("/v1/audit?limit=5").json()["data"]]
    assert actions == ["alias.set", "alias.delete", "alias.rollback", "alias.set", "alias.set"]


def test_rollbacks_undo_one_change_after_another(served: Served, name: str) -> None:
    with_versions(served, name)
    for version in (1, 2, 3):
        put(served, name, version)
    assert [roll_back(served, name).json().get("version") for _ in range(3)] == [2, 1, None]
    put(served, name, 3)
    assert roll_back(served, name).json()["version"] == 1, "what was undone is not gone back to"


def test_a_rollback_needs_no_body(served: Served, name: str) -> None:
    with_versions(served, name)
    for version in (1, 2, 3):
        put(served, name, version)
    path = f"{address(name)}/rollback"
    key = {"Idempotency-Key": f"empty-{name}"}
    first, again = (served.http.post(path, headers=key) for _ in range(2))
    assert (first.status_code, first.json()["version"], again.json()) == (200, 2, first.json())
    assert served.http.post(path, headers={"Content-Type": "application/json"}).json()["version"] == 1
    for content, media_type in ((b"", "text/plain"), (b"a=b", ""), (b"a=b", "text/plain")):
        refused = served.http.post(path, content=content, headers={"Content-Type": media_type})
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
    half = served.http.post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert (half.status_code, half.json()["code"]) == (400, "invalid_json")


def test_a_repeated_rollback_with_its_key_goes_back_once(served: Served, name: str) -> None:
    with_versions(served, name)
    for version in (1, 2, 3):
        put(served, name, version)
    key = {"Idempotency-Key": f"rollback-{name}"}
    answers = [roll_back(served, name, headers=key) for _ in range(2)]
    assert [answer.json()["version"] for answer in answers] == [2, 2]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    served.http.delete(address(name))
    assert roll_back(served, name, headers=key).json()["code"] == "resource_gone"


def test_no_alias_is_set_or_rolled_back_onto_a_forgotten_label(served: Served, name: str) -> None:
    with_versions(served, name)
    for version in (1, 2, 3):
        put(served, name, version)
    forget = served.done(name, "forget", labels=["2"])
    alias = served.http.get(address(name)).json()
    assert (alias["version"], alias["drawable"], alias["revoked_by"]) == (3, False, forget.job_id)
    refused = put(served, name, 2)
    assert (refused.status_code, refused.json()["code"]) == (409, "version_revoked")
    assert refused.json()["job"] == forget.job_id
    image = f"/v1/models/{name}/versions/production/images/1/0.png"
    assert served.http.get(image).json()["code"] == "version_revoked"
    drawn = served.http.post(f"/v1/models/{name}/samples", json={"labels": ["1"], "version": "production"})
    assert (drawn.status_code, drawn.json()["code"]) == (410, "version_revoked")
    assert roll_back(served, name).json()["version"] == 1, "version 2 is passed over"
    assert served.http.get(image).status_code == 200
    assert put(served, name, "head").json()["version"] == 4


def test_a_rollback_is_refused_if_every_earlier_version_is_revoked(served: Served, name: str) -> None:
    with_versions(served, name, 2)
    for version in (1, 2):
        put(served, name, version)
    served.done(name, "forget", labels=["1"])
    put(served, name, 3)
    refused = roll_back(served, name)
    assert (refused.status_code, refused.json()["code"]) == (409, "version_revoked")
    assert "Version 2" in refused.json()["detail"]
    served.done(name, "forget", labels=["1"], guarantee="exact", purge=True)
    put(served, name, 4)
    served.sweep()
    assert put(served, name, 1).json()["code"] == "version_purged"


def test_a_changed_state_of_its_version_changes_the_etag_of_an_alias(served: Served, name: str) -> None:
    with_versions(served, name, 2)
    before = put(served, name, 2).headers["ETag"]
    served.done(name, "forget", labels=["1"])
    stale = served.http.get(address(name), headers={"If-None-Match": before})
    assert (stale.status_code, stale.json()["drawable"]) == (200, False)


@pytest.mark.parametrize(
    "alias", ["head", "HEAD", "3", "v3", "1.0", "ver_01JZ8Q4M7T1C9W3KX5RBD2N6PA", ".a", "a%20b", "a" * 65]
)
def test_an_alias_never_looks_like_what_else_names_a_version(served: Served, name: str, alias: str) -> None:
    with_versions(served, name, 1)
    refused = served.http.put(f"/v1/models/{name}/aliases/{alias}", json={"version": 1})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_name")
    assert refused.json()["errors"][0]["pointer"] == "/path/alias"
    assert served.http.get(f"/v1/models/{name}/aliases/{alias}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "required"),
        ({"version": 0}, 422, "out_of_range"),
        ({"version": True}, 422, "wrong_type"),
        ({"version": "1"}, 422, "invalid_name"),
        ({"version": 9}, 404, "version_not_found"),
        ({"version": "other"}, 404, "alias_not_found"),
        ({"version": 1, "reason": ""}, 422, "invalid_text"),
        ({"version": 1, "reason": "a\nb"}, 422, "invalid_text"),
        ({"version": 1, "reason": "a" * 501}, 422, "out_of_range"),
        ({"version": 1, "reasons": "a"}, 422, "unknown_field"),
    ],
)
def test_a_bad_request_sets_no_alias(
    served: Served, name: str, body: dict[str, Any], status: int, code: str
) -> None:
    with_versions(served, name, 1)
    before = served.counts()
    refused = served.http.put(address(name), json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert served.counts() == before


def test_a_model_without_a_version_has_no_head_to_name(served: Served, name: str) -> None:
    served.model(name)
    assert put(served, name, "head").json()["code"] == "model_has_no_version"


def test_of_many_clients_that_set_an_alias_at_once_one_does(served: Served, name: str) -> None:
    with_versions(served, name)
    seen = {"If-Match": put(served, name, 1).headers["ETag"]}

    def set_to(number: int) -> int:
        return httpx2.put(
            served.address + address(name), json={"version": 2 + number % 2}, headers=seen, timeout=30
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(set_to, range(8)))
    assert sorted(statuses) == [200] + [412] * 7
    assert len(served.http.get(f"{address(name)}/history").json()["data"]) == 2


def test_of_many_clients_that_create_an_alias_at_once_one_does(served: Served, name: str) -> None:
    with_versions(served, name, 1)

    def create(_: int) -> int:
        return httpx2.put(served.address + address(name), json={"version": 1}, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(8)))
    assert sorted(statuses) == [201] + [428] * 7


def test_an_alias_set_while_a_forget_is_published_never_serves_the_label(served: Served, name: str) -> None:
    """Either the alias came first, and its version was revoked after it; or it is refused."""
    with_versions(served, name, 2)
    claim = served.worker.claim(served.submit(name, "forget", labels=["1"])["id"])
    with ThreadPoolExecutor(2) as pool:
        published = pool.submit(served.worker.finish, claim)
        answers = [
            served.http.put(address(name), json={"version": 2}, headers=headers)
            for headers in [{}, *([{"If-Match": "*"}] * 30)]
        ]
        published.result()
    refused = [answer for answer in answers if not answer.is_success]
    assert {answer.json()["code"] for answer in refused} <= {"version_revoked", "precondition_failed"}
    found = served.http.get(address(name))
    assert not found.is_success or not found.json()["drawable"]
    drawing = served.http.get(f"/v1/models/{name}/versions/production/images/2/0.png")
    assert drawing.status_code in (404, 410)


@pytest.mark.parametrize("statement", ["DELETE FROM alias_changes", "UPDATE alias_changes SET reason = 'x'"])
def test_the_database_refuses_to_change_the_history(served: Served, name: str, statement: str) -> None:
    with_versions(served, name, 1)
    put(served, name, 1, reason="the first")
    refused = pytest.raises(exc.DBAPIError, match="cannot be changed or deleted")
    with refused, served.worker.database.transaction() as session:
        session.execute(text(statement))
    assert served.http.get(f"{address(name)}/history").json()["data"][0]["reason"] == "the first"
