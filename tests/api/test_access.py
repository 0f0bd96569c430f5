"""API keys: who is let in, for what, and until when."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import event

from service.api.access import required_scopes
from service.api.app import RESOURCES
from service.api.pages import PAGES
from service.registry import keys, projects, sessions
from service.registry.keys import SCOPES, Scope
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.conftest import DATABASES, own_migrated_database


@pytest.fixture(scope="module", params=DATABASES)
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that requires a key; its client sends one with every scope for the whole deployment."""
    home: Path = tmp_path_factory.mktemp("home")
    with (
        own_migrated_database(request.param, home, request) as url,
        serving(Settings(home=home, database_url=url, auth="on")) as served,
    ):
        served.http.headers["Authorization"] = f"Bearer {new_key(served)}"
        yield served


def new_key(
    served: Served,
    *scopes: Scope,
    project: str | None = None,
    expires_in: float | None = None,
) -> str:
    """Create a key in the database itself, with every scope unless some are named. Returns its text."""
    with served.worker.database.transaction() as session:
        project_id = None if project is None else projects.find(session, project).id
        _, text = keys.create(
            session, name="test", scopes=scopes or SCOPES, project=project_id, expires_in=expires_in
        )
    return text


def as_holder(served: Served, key: str | None, **headers: str) -> httpx2.Client:
    """A client that sends this key, or none."""
    own = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(base_url=served.address, headers=own | headers, timeout=30)


def key_id(text: str) -> str:
    return f"key_{text.split('_')[1]}"


ROUTES = [route for resource in RESOURCES for route in resource.router.routes if isinstance(route, APIRoute)]
OPEN = {
    "GET /livez",
    "GET /readyz",
    *(f"GET {path}" for path in PAGES),  # the console, without any data
    "GET /console/{name:path}",
    "GET /docs",  # what /openapi.json tells
    "GET /docs/{name}",
    "GET /docs/errors",
    "GET /v1/keys/signing",
    "GET /v1/signing-keys",
    "GET /v1/catalog/report-schema",
    "POST /v1/session",
    "DELETE /v1/session",
}
"""All that anybody may call."""


def methods(route: APIRoute) -> Sequence[str]:
    return sorted(route.methods or ())


def test_every_route_but_these_needs_a_scope() -> None:
    found = {f"{method} {route.path}" for route in ROUTES for method in methods(route)
             if not required_scopes(route.endpoint)}  # fmt: skip
    assert found == OPEN


SCOPES_OF = {
    ("sample",): {
        "GET /v1/models/{model}/versions/{number}/images/{label}/{seed}.png",
        "GET /v1/models/{model}/versions/{number}/files/{name}",
        "GET /v1/jobs/{job}/report/recovered/{label}/{network}.png",
        "GET /v1/datasets/{dataset}/labels/{label}/examples/{index}.png",
        "POST /v1/models/{model}/samples",
        "POST /v1/models/{model}/exports",
        "POST /v1/exports/{export}/cancel",
        "GET /v1/exports/{export}/shards/{number}",
        "GET /v1/exports/{export}/manifest",
        "GET /v1/samples/{sample}/images",
    },
    ("learn",): {
        "POST /v1/models",
        "PATCH /v1/models/{model}",
        "PATCH /v1/models/{model}/versions/{number}",
        "POST /v1/models/{model}/learn",
        "POST /v1/models/{model}/resize",
        "POST /v1/models/{model}/evaluate",
        "PUT /v1/datasets/{dataset}",
        "PUT /v1/models/{model}/aliases/{alias}",
        "DELETE /v1/models/{model}/aliases/{alias}",
        "POST /v1/models/{model}/aliases/{alias}/rollback",
    },
    ("forget",): {
        "POST /v1/models/{model}/forget",
        "DELETE /v1/models/{model}/versions/{number}",
        "DELETE /v1/samples/{sample}",
        "DELETE /v1/exports/{export}",
        "DELETE /v1/datasets/{dataset}",
        "DELETE /v1/datasets/{dataset}/labels/{label}",
    },
    ("learn", "forget"): {"POST /v1/jobs/{job}/cancel", "POST /v1/jobs/{job}/retry"},
    ("admin",): {
        "POST /v1/projects",
        "DELETE /v1/projects/{project}",
        "POST /v1/keys",
        "GET /v1/keys",
        "GET /v1/keys/{key}",
        "DELETE /v1/keys/{key}",
        "POST /v1/webhooks",
        "GET /v1/webhooks",
        "GET /v1/webhooks/{webhook}",
        "DELETE /v1/webhooks/{webhook}",
        "GET /v1/webhooks/{webhook}/deliveries",
        "GET /v1/webhooks/{webhook}/deliveries/{delivery}",
        "POST /v1/webhooks/{webhook}/test",
        "GET /v1/audit",
        "DELETE /v1/models/{model}",
    },
    ("read", "admin"): {"GET /v1/projects", "GET /v1/projects/{project}"},
}
"""{scopes, of which a key needs one: what it may call then}. `read` is for every other GET."""


def test_every_route_needs_the_scope_that_it_should() -> None:
    named = {operation: scopes for scopes, operations in SCOPES_OF.items() for operation in operations}
    found = {f"{method} {route.path}": required_scopes(route.endpoint)
             for route in ROUTES for method in methods(route)}  # fmt: skip
    assert set(named) <= set(found)
    for operation, scopes in found.items():
        if operation not in OPEN:
            expected = named.get(operation, ("read",) if operation.startswith("GET ") else None)
            assert scopes == expected, operation


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods} {route.path}")
def test_without_a_key_every_route_but_the_open_ones_is_a_401(locked: Served, route: APIRoute) -> None:
    path = route.path.replace("{", "").replace("}", "")
    with as_holder(locked, None) as nobody:
        for method in methods(route):
            answer = nobody.request(method, path)
            if f"{method} {route.path}" in OPEN:
                assert answer.status_code != 401
            else:
                assert (answer.status_code, answer.json()["code"]) == (401, "auth_required")
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="palimpsest"'
                assert answer.headers["Content-Type"] == "application/problem+json"


def test_no_bad_key_is_let_in_and_all_answers_are_the_same(locked: Served) -> None:
    good, revoked, expired = new_key(locked), new_key(locked), new_key(locked, expires_in=-1)
    assert locked.http.delete(f"/v1/keys/{key_id(revoked)}").status_code == 204
    last = "0" if good[-1] != "0" else "1"
    bad = {
        "empty": "Bearer",
        "no scheme": good,
        "another scheme": f"Basic {good}",
        "not a key": "Bearer secret",
        "cut": f"Bearer {good[:-1]}",
        "a wrong checksum": f"Bearer {good[:-1]}{last}",
        "longer": f"Bearer {good}x",
        "two in one": f"Bearer {good} {good}",
        "an unknown id": f"Bearer {with_checksum(good.replace(good[4:10], '000000', 1))}",
        "another secret": f"Bearer {with_checksum(swapped(good))}",
        "revoked": f"Bearer {revoked}",
        "expired": f"Bearer {expired}",
    }
    answers = {}
    for name, sent in bad.items():
        answer = httpx2.get(f"{locked.address}/v1/models", headers={"Authorization": sent})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key"), name
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert name == "empty" or sent.removeprefix("Bearer ") not in answer.text
        answers[name] = {**answer.json(), "request_id": ""}
    assert len({str(answer) for answer in answers.values()}) == 1
    twice = httpx2.Headers([("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")])
    for path in ("/v1/models", "/v1/jobs/job_1"):  # polls of jobs are answered in another place
        assert httpx2.get(locked.address + path, headers=twice).json()["code"] == "invalid_api_key"
    assert httpx2.get(f"{locked.address}/v1/models", headers={"Authorization": f"bearer {good}"}).is_success


def test_guesses_of_keys_have_a_limit_before_the_database_is_asked(tmp_path: Path) -> None:
    """A client behind the same address that was admitted lately goes on."""
    rate, guesses = 5, 200
    settings = Settings(home=tmp_path / "home", auth="on", requests_per_second_of_loopback=rate)
    with serving(settings) as served, as_holder(served, new_key(served)) as known:
        assert known.get("/v1/models").status_code == 200
        looked_up = count_transactions(served)
        for malformed in (None, "pal_1", swapped(new_key(served))):
            with as_holder(served, malformed) as nobody:
                statuses = [nobody.get("/v1/models").status_code for _ in range(20)]
            assert set(statuses) <= {401, 429}
        assert looked_up() == 0
        with as_holder(served, None) as guessing:
            wrong = with_checksum(swapped(new_key(served)))
            bearer, cookie = {"Authorization": f"Bearer {wrong}"}, {"Cookie": "palimpsest_session=guess"}
            for request in (
                guessing.build_request("GET", "/v1/models", headers=bearer),
                guessing.build_request("GET", "/v1/models", headers=cookie),
                guessing.build_request("POST", "/v1/session", json={"key": wrong}),
            ):
                began = time.monotonic()
                before, answers = looked_up(), [guessing.send(request) for _ in range(guesses)]
                allowed = 2 * rate + rate * (time.monotonic() - began) + 1
                assert {answer.status_code for answer in answers} <= {401, 429}
                assert looked_up() - before <= allowed < guesses
                refused = [answer for answer in answers if answer.status_code == 429]
                assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert known.get("/v1/models").status_code == 200


def count_transactions(served: Served) -> Callable[[], int]:
    """Return a function that says how many transactions the API has begun since."""
    begun: list[object] = []
    event.listen(served.app.state.context.database.engine, "begin", begun.append)
    return lambda: len(begun)


def test_no_shared_cache_may_store_what_a_key_gives(locked: Served) -> None:
    locked.model("cached")
    job = locked.done("cached", "learn", labels=["1"]).job_id
    version = "/v1/models/cached/versions/1"
    drawn = ("/images/1/0.png", "/files/manifest.json", "/files/decoder.onnx", "/report", "/lineage", "")
    paths = [version + path for path in drawn]
    paths += [f"/v1/jobs/{job}", f"/v1/jobs/{job}/report", "/v1/models", "/v1/catalog", "/v1/audit"]
    paths += ["/v1/models/cached", "/v1/models/cached/relapse", "/v1/keys", "/v1/projects"]
    for path in paths:
        for accept in ("*/*", "text/html"):
            answer = locked.http.get(path, headers={"Accept": accept})
            assert answer.status_code in (200, 406), path
            assert answer.headers["Cache-Control"] in ("private, no-cache", "no-store"), path
            if "ETag" in answer.headers:
                same = {"Accept": accept, "If-None-Match": answer.headers["ETag"]}
                unchanged = locked.http.get(path, headers=same)
                assert unchanged.status_code == 304, path
                assert unchanged.headers["Cache-Control"] == "private, no-cache"
    drawing = locked.http.post("/v1/models/cached/samples", json={"labels": ["1"], "count": 1})
    assert drawing.headers["Cache-Control"] == "no-store"
    assert locked.http.get("/v1/models/none").headers["Cache-Control"] == "no-store"


def test_a_key_has_a_bounded_number_of_sessions(locked: Served) -> None:
    key = new_key(locked, "read")
    with locked.worker.database.transaction() as session:
        created = []
        for second in range(sessions.SESSIONS_OF_KEY + 3):
            row, token = sessions.create(session, key_id(key), project=None, seconds=60)
            row.created_at += timedelta(seconds=second)  # never two at the same moment
            session.flush()
            created.append(token)
        found = [sessions.find(session, token) is not None for token in created]
    assert found == [False] * 3 + [True] * sessions.SESSIONS_OF_KEY


def with_checksum(text: str) -> str:
    unchecked = text.rpartition("_")[0]
    return f"{unchecked}_{keys.checksum(unchecked)}"


def swapped(text: str) -> str:
    """The same key with two different characters of its secret exchanged."""
    prefix, identity, secret, check = text.split("_")
    first = secret[0]
    other = next(i for i, character in enumerate(secret) if character != first)
    return "_".join((prefix, identity, secret[other] + secret[1:other] + first + secret[other + 1 :], check))


CALLS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "read": ("GET", "/v1/models", None),
    "sample": ("POST", "/v1/models/none/samples", {"labels": ["1"]}),
    "learn": ("POST", "/v1/models/none/learn", {"labels": ["1"]}),
    "forget": ("POST", "/v1/models/none/forget", {"labels": ["1"]}),
    "admin": ("GET", "/v1/keys", None),
}


@pytest.mark.parametrize("held", SCOPES)
def test_a_key_may_do_what_its_scope_allows_and_nothing_else(locked: Served, held: Scope) -> None:
    with as_holder(locked, new_key(locked, held)) as holder:
        for needed, (method, path, body) in CALLS.items():
            answer = holder.request(method, path, json=body)
            if needed == held:
                assert answer.status_code in (200, 404), answer.text
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
                assert f'scope="{needed}"' in answer.headers["WWW-Authenticate"]
                assert needed in answer.json()["detail"]


def test_a_job_is_cancelled_with_the_scope_that_it_was_requested_with(locked: Served) -> None:
    locked.model("cancel")
    locked.done("cancel", "learn", labels=["1", "2"])
    jobs = {"forget": locked.submit("cancel", "forget", labels=["1"]),
            "learn": locked.submit("cancel", "learn", labels=["3"])}  # fmt: skip
    pairs: tuple[tuple[Scope, Scope], ...] = (("learn", "forget"), ("forget", "learn"))
    for scope, other in pairs:
        with as_holder(locked, new_key(locked, scope)) as holder:
            assert holder.post(f"/v1/jobs/{jobs[other]['id']}/cancel").json()["code"] == "insufficient_scope"
            assert holder.post(f"/v1/jobs/{jobs[scope]['id']}/cancel").status_code == 202


def test_no_answer_repeats_the_secret_of_a_key(locked: Served) -> None:
    text = new_key(locked)
    secret = text.split("_")[2]
    answers = [
        locked.http.delete(f"/v1/keys/{text}"),
        locked.http.get(f"/v1/{text}"),
        locked.http.get(f"/v1/models?{text}=1"),
        locked.http.get(f"/v1/models/{text}"),
        locked.http.post("/v1/models", json={"name": "a", "dataset": text, text: text}),
        locked.http.get("/v1/models/nobody", headers={"X-Request-Id": text, "Palimpsest-Project": text}),
    ]
    for answer in answers:
        assert answer.status_code in (404, 422), answer.url
        assert secret not in answer.text + str(answer.headers), answer.url
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_key_is_shown_once_and_works_until_it_is_revoked(locked: Served) -> None:
    answer = locked.http.post("/v1/keys", json={"name": "ci", "scopes": ["read"], "expires_in": 3600})
    created = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.headers["Location"] == f"/v1/keys/{created['id']}"
    assert (created["scopes"], created["project"], created["revoked_at"]) == (["read"], "default", None)
    assert keys.PATTERN.fullmatch(created["key"])
    shown = locked.http.get(f"/v1/keys/{created['id']}")
    assert shown.json() == {name: value for name, value in created.items() if name != "key"}
    assert created["key"] not in shown.text + locked.http.get("/v1/keys?limit=100").text
    with locked.worker.database.reading() as session:
        row = keys.find(session, created["id"], project=None)
        assert created["key"] not in str(vars(row))
    with as_holder(locked, created["key"]) as holder:
        assert holder.get("/v1/models").status_code == 200
        assert holder.get("/v1/models").status_code == 200
        assert locked.http.delete(f"/v1/keys/{created['id']}").status_code == 204
        assert holder.get("/v1/models").status_code == 401, "at once in the process that revoked it"
    assert locked.http.delete(f"/v1/keys/{created['id']}").status_code == 204
    assert locked.http.get(f"/v1/keys/{created['id']}").json()["revoked_at"] is not None


def test_a_key_that_another_process_revoked_works_for_a_few_seconds_at_most(
    locked: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = new_key(locked, "read")
    monkeypatch.setattr("service.api.access.REMEMBER_SECONDS", 0.2)
    with as_holder(locked, text) as holder:
        assert holder.get("/v1/models").is_success
        with locked.worker.database.transaction() as session:
            keys.revoke(session, key_id(text), project=None)
        deadline = time.monotonic() + 10
        while holder.get("/v1/models").is_success:
            assert time.monotonic() < deadline


def test_a_job_goes_on_although_the_key_that_asked_for_it_is_revoked(locked: Served) -> None:
    """A request that was accepted is a promise, whoever made it."""
    locked.model("revoked")
    text = new_key(locked, "learn")
    with as_holder(locked, text) as holder:
        job = holder.post("/v1/models/revoked/learn", json={"labels": ["1"]}).raise_for_status().json()
        claim = locked.worker.claim(job["id"])
        assert locked.http.delete(f"/v1/keys/{key_id(text)}").status_code == 204
        assert holder.post(f"/v1/jobs/{job['id']}/cancel").status_code == 401
    locked.worker.progress(claim, "learning", 1, 2)
    locked.worker.finish(claim)
    ended = locked.http.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["output_version"], ended["created_by"]) == ("succeeded", 1, key_id(text))


def test_a_key_in_use_is_looked_up_again_before_it_would_be_forgotten(
    locked: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.access.REMEMBER_SECONDS", 3600.0)
    monkeypatch.setattr("service.api.access.LOOK_UP_AGAIN_SECONDS", 0.0)
    text = new_key(locked, "read")
    with as_holder(locked, text) as holder:
        for _ in range(5):
            assert holder.get("/v1/models").is_success
        with locked.worker.database.transaction() as session:
            keys.revoke(session, key_id(text), project=None)
        deadline = time.monotonic() + 10
        while holder.get("/v1/models").is_success:
            assert time.monotonic() < deadline
        assert holder.get("/v1/models").status_code == 401


def test_when_a_key_was_last_used_is_recorded_once_a_minute(locked: Served) -> None:
    text = new_key(locked, "read")
    access = locked.app.state.access

    def last_used() -> Any:
        return locked.http.get(f"/v1/keys/{key_id(text)}").json()["last_used_at"]

    assert last_used() is None
    with as_holder(locked, text) as holder:
        holder.get("/v1/models")
        access.record_uses()
        first = last_used()
        assert first is not None
        holder.get("/v1/models")
        access.record_uses()
        assert last_used() == first


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "required"),
        ({"name": "x", "scopes": []}, 422, "out_of_range"),
        ({"name": "x", "scopes": ["root"]}, 422, "unknown_value"),
        ({"name": "a b", "scopes": ["read"]}, 422, "invalid_name"),
        ({"name": "x", "scopes": ["read"], "expires_in": 0}, 422, "out_of_range"),
        ({"name": "x", "scopes": ["read"], "expires_in": 1e300}, 422, "wrong_type"),
        ({"name": "x", "scopes": ["read"], "key": "mine"}, 422, "unknown_field"),
        ({"name": "x", "scopes": ["read"], "project": "nobody"}, 404, "project_not_found"),
    ],
)
def test_a_bad_key_is_not_created(locked: Served, body: dict[str, Any], status: int, code: str) -> None:
    answer = locked.http.post("/v1/keys", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_on_loopback_no_key_is_needed_but_one_that_is_sent_counts(served: Served) -> None:
    served.http.headers.clear()
    assert served.http.get("/v1/models").status_code == 200
    with as_holder(served, new_key(served, "read")) as holder:
        assert holder.get("/v1/models").status_code == 200
        assert holder.post("/v1/models", json={}).json()["code"] == "insufficient_scope"
    with as_holder(served, "pal_mistyped") as holder:
        assert holder.get("/v1/models").json()["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("fields", "required"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.0.0.9"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "10.0.0.7"}, True),
        ({"host": "service.internal"}, True),
        ({"host": "0.0.0.0", "auth": "off"}, False),
        ({"auth": "on"}, True),
    ],
)
def test_keys_are_required_unless_only_this_machine_reaches_the_service(
    fields: dict[str, Any], required: bool
) -> None:
    assert Settings(**fields).keys_required is required
